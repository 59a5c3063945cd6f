"""The explorer of the ladder: its study, its words, its points, its call."""

import functools
import itertools
import re

import ipywidgets
import numpy as np
import pytest
import scipy.stats

from lqrlib import (
    GaussianPolicy,
    exact,
    gradients,
    ladder,
    model,
    show,
    weights,
    worlds,
)
from lqrlib.rollout import rollout, transitions
from lqrlib.show import export, live
from lqrlib.show import ladder as drawing
from lqrlib.show.ladder_study import COVS, SHARES

LQR = worlds.double_integrator()
K0 = np.array([[-1.0, -1.0]])
K_STAR = exact.optimal_gain(LQR)
STATES = list(itertools.product(COVS, SHARES))


@functools.cache
def study():
    return show.ladder_study(LQR, K0)


@functools.cache
def explorer():
    return show.ladder_explorer(study())


every_state = pytest.mark.parametrize(("cov", "share"), STATES)


def place(cov, share):
    return study().covs.index(cov), study().shares.index(share)


def marks():
    """Rows and values of the markers now, by kind; infinite ones beyond the border."""
    return explorer().moving[2:8]


def test_true_spreads_are_those_of_the_library():
    for cov, share in ((0.1, 0.01), (1.0, 0.1), (10.0, 0.5)):
        K = K0 + share * (K_STAR - K0)
        gradient = exact.gradient(LQR, K, cov)
        size = np.linalg.norm(gradient)
        for rung in ladder.RUNGS:
            found = ladder.spread(LQR, K, K0, cov, 60, rung)
            at = study().true[rung][place(cov, share)]
            assert at == pytest.approx(float(found.deviation) / size, rel=1e-9)
            off = np.linalg.norm(found.mean - gradient) / size
            assert study().off[rung][place(cov, share)] == pytest.approx(off, rel=1e-6)


def test_the_wall_is_the_breakdown_and_no_weighted_rung_passes_it():
    edges = [
        float(weights.breakdown(LQR, K0, K_STAR - K0, c, 60)) for c in study().covs
    ]
    np.testing.assert_allclose(study().walls, edges)
    beyond = np.array(study().shares) > study().walls[:, None]
    for rung in ladder.RUNGS[:-1]:
        assert np.array_equal(np.isinf(study().true[rung]), beyond)
    for rung in ("TD error", "advantage"):
        assert np.array_equal(np.isinf(study().learned[rung]), beyond)
    assert np.isfinite(study().true["deterministic gradient"]).all()
    for rung in ("deterministic gradient", "natural gradient", "model gradient"):
        assert np.isfinite(study().learned[rung]).all()


def test_learned_spreads_are_those_of_the_library_s_estimates():
    cov, share = 1.0, 0.1
    K = K0 + share * (K_STAR - K0)
    found = {name: [] for name in study().learned}
    for seed in range(100):
        rng = np.random.default_rng([seed, 200])
        data = rollout(LQR, GaussianPolicy(K0, cov), 200, 60, rng)
        fitted = model.fit(transitions(data)).problem(LQR)
        for name in ("TD error", "advantage"):
            estimate = gradients.actor_critic_is(LQR, data, K, cov=cov, signal=name)
            found[name].append(estimate.gradient)
        found["deterministic gradient"].append(gradients.dpg(LQR, data, K).gradient)
        found["natural gradient"].append(gradients.natural_dpg(LQR, data, K).gradient)
        found["model gradient"].append(exact.gradient(fitted, K, cov))
    for name, values in found.items():
        whose = exact.natural_gradient(LQR, K), exact.gradient(LQR, K, cov)
        size = np.linalg.norm(whose[name != "natural gradient"])
        apart = scipy.stats.iqr(values, axis=0, scale="normal")
        expected = np.sqrt(200) * np.linalg.norm(apart) / size
        at = study().learned[name][place(cov, share)]
        assert at == pytest.approx(expected, rel=1e-3)


def test_learned_rungs_cost_more_the_less_the_actions_vary():
    for rung, values in study().learned.items():
        on_own_data = values[:, 0]
        assert (on_own_data[:-4] > 1.2 * on_own_data[2:-2]).all(), rung


@every_state
def test_the_words_say_what_the_study_holds(cov, share):
    words, (c, s) = explorer().show(cov=cov, distance=share), place(cov, share)
    assert words.startswith(f"σ² = {cov:.3g}, {100 * share:g}\N{NO-BREAK SPACE}% of")
    walled = "no rung with weights has a second moment" in words
    assert walled == bool(share >= study().walls[c])
    if not walled:
        pair = re.search(
            r"spread (\S+) times the gradient, .* advantage (\S+) t", words
        )
        for text, rung in zip(pair.groups(), ("trajectory", "advantage"), strict=True):
            value = study().true[rung][c, s]
            assert float(text.replace(",", "")) == pytest.approx(value, rel=0.06)
    two = re.search(r"two take about (\S+) and (\S+) trajectories\.$", words)
    for text, rung in zip(two.groups(), drawing.LEARNED[2::2], strict=True):
        needed = max(1.0, (10 * study().learned[rung][c, s]) ** 2)
        assert float(text.replace(",", "")) == pytest.approx(needed, rel=0.06, abs=0.6)
    assert "nan" not in words


@every_state
def test_every_marker_is_at_its_value_or_at_the_edge(cov, share):
    explorer().show(cov=cov, distance=share)
    crosses, *filled_and_open = marks()
    kinds = {
        "off": [crosses],
        "true": filled_and_open[:2],
        "learned": filled_and_open[2:],
    }
    for kind, lines in kinds.items():
        points = np.concatenate([line.get_xydata() for line in lines])
        seen = {drawing.ROWS[int(row)]: x for x, row in points}
        held = {
            name: v[place(cov, share)] for name, v in getattr(study(), kind).items()
        }
        assert seen.keys() == held.keys()
        for name, value in held.items():
            shown = drawing._NONE if np.isinf(value) else value
            assert seen[name] == pytest.approx(max(shown, drawing._LOW / 10)), name


@every_state
def test_the_curves_are_those_of_the_covariance_and_leave_where_there_is_none(
    cov, share
):
    explorer().show(cov=cov, distance=share)
    c, _ = place(cov, share)
    lines = explorer().moving[8:]
    for (name, kind, *_), line in zip(drawing._CURVES, lines, strict=True):
        held, drawn = getattr(study(), kind)[name][c], np.array(line.get_ydata())
        exists = np.isfinite(held)
        np.testing.assert_allclose(drawn[exists], held[exists])
        assert (drawn[~exists] > drawing._HIGH).all()


@every_state
def test_the_wall_stands_where_the_curves_end(cov, share):
    explorer().show(cov=cov, distance=share)
    wall, here = explorer().moving[:2]
    c, s = place(cov, share)
    left = wall.get_xy()[0, 0]
    finite = np.isfinite(study().true["trajectory"][c])
    last = int(np.flatnonzero(finite)[-1])
    if finite.all():
        assert left > len(study().shares) - 1
    else:
        assert last <= left <= last + 1
    assert (np.array(here.get_xdata()) == s).all()


def test_the_page_fits_and_holds_every_state():
    page = export.html(explorer())
    assert len(page.encode()) < 150_000
    assert explorer().default == {"cov": 1.0, "distance": 0.2}


def test_the_call_gives_the_spread_of_the_lowest_rung():
    cov, share = 1.0, 0.1
    call = explorer().call.format(cov=cov, distance=share)
    names = {"ladder": ladder, "lqr": LQR, "K0": K0, "K_star": K_STAR}
    size = np.linalg.norm(exact.gradient(LQR, K0 + share * (K_STAR - K0), cov))
    expected = study().true["trajectory"][place(cov, share)] * size
    assert eval(call, names) == pytest.approx(expected)


def test_a_live_slider_between_two_values_shows_the_nearer_one():
    box = live.widget(explorer())
    assert isinstance(box, ipywidgets.Widget)
    assert explorer().show(cov=1.1, distance=0.19) == explorer().show(
        cov=1.0, distance=0.2
    )


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("K0", lambda: show.ladder_study(LQR, K_STAR)),
        ("K0", lambda: show.ladder_study(LQR, K0[None])),
        ("K", lambda: show.ladder_study(LQR, -K0)),
    ],
)
def test_a_gain_without_a_ladder_is_refused(name, call):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
