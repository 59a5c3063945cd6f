"""The explorer of queries: its study, its words, its points, its call."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import ipywidgets
import numpy as np
import pytest

from lqrlib import descent, exact, finite_horizon, gradients, show, worlds
from lqrlib.show import export, live
from lqrlib.show.query_study import GAINS, POINTS

LQR = worlds.double_integrator()
K0 = np.array([[-1.0, -1.0]])
RADII, COUNTS = (0.05, 0.5, 5.0), (20, 200)
OPTIONS = {"radii": RADII, "counts": COUNTS, "updates": 6, "seeds": 12, "runs": 5}
STUDY = show.query_study(LQR, K0, **OPTIONS)
EXPLORER = show.query_explorer(STUDY)
STATES = list(itertools.product(RADII, COUNTS, POINTS, GAINS))
every_state = pytest.mark.parametrize(("radius", "m", "points", "gains"), STATES)


def places(radius, m, points, gains):
    return (
        [*POINTS].index(points),
        [*GAINS].index(gains),
        RADII.index(radius),
        COUNTS.index(m),
    )


def test_a_study_is_the_same_for_any_number_of_workers():
    with ThreadPoolExecutor(3) as pool:
        again = show.query_study(LQR, K0, executor=pool, **OPTIONS)
    for one, other in zip(STUDY, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_point_of_the_study_does_not_depend_on_the_grid_around_it():
    alone = show.query_study(LQR, K0, **OPTIONS | {"radii": (0.5,), "counts": (200,)})
    np.testing.assert_array_equal(alone.error[:, :, 0, 0], STUDY.error[:, :, 1, 1])
    np.testing.assert_array_equal(alone.excess[:, :, 0, 0], STUDY.excess[:, :, 1, 1])
    other = show.query_study(LQR, K0, seed=1, **OPTIONS)
    assert (other.error != STUDY.error).all()


def test_an_estimate_that_left_the_floats_is_an_infinite_error():
    far = show.query_study(LQR, K0, **OPTIONS | {"radii": (1e4,), "counts": (20,)})
    assert np.isinf(far.error[:, 0]).all()
    assert "nan" not in show.query_explorer(far).show()


def test_costs_at_the_end_of_the_floats_are_lost_without_a_warning():
    huge = STUDY._replace(excess=np.full(STUDY.excess.shape, 1e307))
    assert show.query_explorer(huge).show().endswith("All 5 runs lost.")


def test_a_study_has_every_state_and_starts_at_the_start():
    assert STUDY.error.shape == (2, 2, 3, 2, 12)
    assert STUDY.excess.shape == (2, 2, 3, 2, 7, 5)
    staged = finite_horizon.constant(LQR, K0, 10)
    best = finite_horizon.optimal_gains(LQR, 10)
    starts = (
        exact.cost(LQR, K0) - exact.cost(LQR, exact.optimal_gain(LQR)),
        finite_horizon.cost(LQR, staged) - finite_horizon.cost(LQR, best),
    )
    for kind, start in enumerate(starts):
        np.testing.assert_allclose(STUDY.excess[:, kind, ..., 0, :], start, rtol=1e-12)
        assert STUDY.exact[kind, 0] == pytest.approx(start)
        assert (np.diff(STUDY.exact[kind]) < 0).all()


def test_errors_are_as_the_chapter_says():
    error = np.median(STUDY.error, axis=-1)
    one, two = error
    assert (one[:, 0] > 5 * two[:, 0]).all()  # small radii
    stages = STUDY.error[1, 1]  # two points, one stage at a time: no radius in it
    np.testing.assert_allclose(stages, np.broadcast_to(stages[:1], stages.shape))
    assert (np.diff(one[1], axis=0) < 0).all()  # one point, stages: only variance
    assert (error[:, 0, 2] > 100).all()  # one gain and a large radius
    assert (error[:, :, 0, 0] > error[:, :, 0, 1]).all()  # more is better


def test_an_estimate_is_that_of_the_library():
    def generators():
        return np.random.default_rng(3)

    found = show.query_gradient(
        LQR, K0, points="two", gains="constant", radius=0.2, m=9.7, rng=generators()
    )
    options = {"radius": 0.2, "n_trajectories": 10, "two_point": True}
    same = gradients.zeroth_order(LQR, K0, horizon=60, rng=generators(), **options)
    np.testing.assert_array_equal(found.gradient, same.gradient)
    found = show.query_gradient(
        LQR, K0, points="one", gains="stages", radius=0.2, m=10, rng=generators()
    )
    options["two_point"] = False
    staged = finite_horizon.constant(LQR, K0, 10)
    same = gradients.zeroth_order_stages(LQR, staged, rng=generators(), **options)
    np.testing.assert_array_equal(found.gradient, same.gradient)


@pytest.mark.parametrize("wrong", [{"points": "three"}, {"gains": "many"}])
def test_a_choice_that_is_none_is_refused(wrong):
    options = {"points": "one", "gains": "constant", "radius": 1.0, "m": 10} | wrong
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"^{name}: expected one of .*, found"):
        show.query_gradient(LQR, K0, rng=np.random.default_rng(0), **options)


@every_state
def test_the_words_and_the_points_are_those_of_the_study(radius, m, points, gains):
    words = EXPLORER.show(radius=radius, m=m, points=points, gains=gains)
    where = places(radius, m, points, gains)
    final = STUDY.excess[where][-1]
    asked = m * (1 if gains == "constant" else 10)
    assert f"r = {radius:g}: " in words
    assert f"{asked:,} trajectories a step, {6 * asked:,} in 6 updates" in words
    lost = np.isinf(final).sum()
    worse = (final > STUDY.excess[where][0]).sum() - lost
    fate = f"{lost} of 5 runs lost, {worse} end above their start."
    assert words.endswith("All 5 runs lost." if lost == 5 else fate)
    percent = 100 * np.sort(final)[2] / STUDY.optimum[where[1]]
    said = f"{percent:.2g}" if percent < 100 else "over 100"
    end = "infinite" if np.isinf(percent) else f"{said}\N{NO-BREAK SPACE}% above J*"
    assert f"Median end: {end} (start: " in words
    errors = np.sort(STUDY.error[where[0], where[1], :, where[3]], axis=-1)
    _, line, here, _, fall, known = EXPLORER.moving
    seen = errors[:, 6] < 1e4
    assert (line.get_ydata() > errors[:, 5] * (1 - 1e-9))[seen].all()
    assert (line.get_ydata() < errors[:, 6] * (1 + 1e-9))[seen].all()
    assert (line.get_ydata()[~seen] > 9999).all()
    (x, y), at = here.get_xydata()[0], line.get_ydata()[RADII.index(radius)]
    assert (x, y) == pytest.approx((radius, min(at, 1e4)))  # always to be seen
    unit = 100.0 / STUDY.optimum[where[1]]  # % of J*
    middle = unit * np.sort(STUDY.excess[where], axis=-1)[:, 2]
    drawn = fall.get_ydata()
    shown = (middle > 0.02) & (middle < 2e4)
    np.testing.assert_allclose(drawn[shown], middle[shown], rtol=1e-9)
    assert (drawn[middle > 1e5] > 2e4).all()  # leaves through the top
    dashed = unit * STUDY.exact[where[1]]
    np.testing.assert_allclose(known.get_ydata(), dashed, rtol=1e-9)


@every_state
def test_the_call_of_each_state_runs(radius, m, points, gains):
    written = {
        control.name: control.written()[control.values.index(value)]
        for control, value in zip(
            EXPLORER.controls, (radius, m, points, gains), strict=True
        )
    }
    names = {"show": show, "np": np, "lqr": LQR, "K0": K0}
    found = eval(EXPLORER.call.format(**written), names)
    stages = () if gains == "constant" else (10,)
    assert found.gradient.shape == (*stages, 1, 2)
    assert (found.effective_sample_size == m).all()


def test_no_state_holds_nan_and_the_page_is_light():
    texts, points = export._all_states(EXPLORER)
    assert len(texts) == len(STATES)
    assert np.isfinite(points).all()
    assert not any({"nan", "inf"} & set(re.findall(r"\w+", text)) for text in texts)
    page = EXPLORER.html()
    assert page == EXPLORER.html()
    assert len(page.encode()) < export.LIMIT


def test_its_live_face_shows_the_nearest_point_of_the_study():
    box = live.widget(EXPLORER)
    words = [child for child in box.children if isinstance(child, ipywidgets.HTML)][1]
    points, gains = (c for c in box.children if isinstance(c, ipywidgets.Dropdown))
    radius, _ = (c for c in box.children if isinstance(c, ipywidgets.FloatLogSlider))
    assert "One point, one gain for ever" in words.value
    points.value, gains.value = "two", "stages"
    assert "Two points, a gain for each stage" in words.value
    radius.value = 1.0
    assert "r = 0.5:" in words.value


def test_the_exact_descents_of_the_study_are_those_of_the_library():
    path = descent.descend_stages(
        LQR,
        finite_horizon.constant(LQR, K0, 10),
        lambda K: finite_horizon.gradient(LQR, K),
        0.5,
        updates=6,
    )
    best = finite_horizon.cost(LQR, finite_horizon.optimal_gains(LQR, 10))
    np.testing.assert_allclose(STUDY.exact[1], path.cost - best, rtol=1e-12)
