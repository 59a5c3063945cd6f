"""The figures of the puzzle: quartiles with infinity, regions, and the explorer."""

from dataclasses import replace

import numpy as np
import pytest

from lqrlib import MBPOSettings, exact, mbpo, show, worlds
from lqrlib.mbpo import EXPRESSIONS, sweep
from lqrlib.show import export, geometry, live

LQR = worlds.double_integrator()
K0 = [[-1.0, -1.0]]
BEST = float(exact.cost(LQR, exact.optimal_gain(LQR)))
SETTINGS = MBPOSettings(K0, n_trajectories=10, horizon=10, updates=6)
NAMES = [name for name in EXPRESSIONS if name != "soft"]  # that one learns its cov
AXES = {"cov": (0.1, 1.0, 10.0), "real_ratio": (0.0, 0.5, 1.0)}


@pytest.fixture(scope="module")
def sweeps():
    return {
        name: sweep(LQR, replace(SETTINGS, expression=name), AXES, range(4))
        for name in NAMES
    }


def opened(sweeps):
    """The explorer of some sweeps."""
    settings = {name: replace(SETTINGS, expression=name) for name in sweeps}
    costs = {name: found.history.cost for name, found in sweeps.items()}
    loop = show.PhaseLoop("once", settings, np.arange(7), costs, BEST)
    return show.puzzle_explorer(LQR, AXES["cov"], AXES["real_ratio"], loop)


@pytest.fixture(scope="module")
def explorer(sweeps):
    return opened(sweeps)


def test_quartiles_are_runs_that_happened_even_when_some_are_infinite():
    runs = np.array([3.0, np.inf, 1.0, 2.0, np.inf])
    assert show.quartiles(runs).tolist() == [2.0, 3.0, np.inf]
    assert show.quartiles(np.full((2, 5), np.inf)).tolist() == [[np.inf] * 2] * 3


def test_excess_is_finite_and_positive_whatever_the_cost():
    shown = show.excess(LQR, np.array([BEST, BEST + 1.0, np.inf]))
    assert np.allclose(shown, [1e-4, 1.0, 1e4])


@pytest.mark.parametrize(
    ("relative", "number"),
    [
        ([0.0, 0.005, 0.009, 0.5], 0),
        ([0.0, 0.05, 0.05, 0.2], 1),
        ([0.0, 0.5, 0.5, 9.0], 2),
        ([0.0, 0.0, 0.0, 0.0, np.inf], 0),
        ([0.0, 0.0, 0.0, np.inf, np.inf], 3),
        ([np.inf] * 5, 3),
    ],
)
def test_a_region_is_that_of_the_median_unless_a_quarter_left(relative, number):
    final = BEST * (1.0 + np.array(relative))
    assert show.region(BEST, final) == number
    assert show.region(BEST, np.stack([final] * 3)).tolist() == [number] * 3


def test_no_curve_or_band_holds_anything_but_finite_numbers():
    fig, ax = show.learning_figure(2)
    cost = np.array([[20.0, 20.0], [np.inf, 30.0], [np.inf, np.inf]])
    line, shade = show.learning_curve(ax, LQR, cost, "#2f7fc1")
    assert np.isfinite(line.get_xydata()).all()
    assert np.isfinite(shade.get_xy()).all()
    assert line.get_ydata()[-1] > ax.get_ylim()[1]  # leaves through the top
    fig.canvas.draw()


def test_the_explorer_says_what_the_sweep_found(explorer, sweeps):
    for name, result in sweeps.items():
        final = result.history.cost[-1, 1, 2]
        words = explorer.show(cov=1.0, real_ratio=1.0, expression=name)
        assert words.startswith(show.EXPRESSIONS[name].name.capitalize())
        assert f"Left the stable set: {np.isinf(final).sum()}." in words
        assert show.REGIONS[int(show.region(BEST, final))].name in words
    explorer.show()


def test_a_run_lost_in_every_seed_is_said_without_a_number(sweeps):
    history = sweeps["hack"].history
    cost = history.cost.copy()
    cost[3:] = np.inf
    lost = sweeps["hack"]._replace(history=replace(history, cost=cost))
    gone = opened({**sweeps, "hack": lost})
    words = gone.show()
    assert "Median: none" in words
    assert "Left the stable set: 4." in words  # runs, not runs times updates
    assert not {"nan", "inf"} & set(words.split())
    assert gone.moving[0].get_ydata()[-1] > 300


def test_every_cell_is_marked_in_one_region_and_hidden_in_the_others(explorer):
    explorer.show(expression="dpg")
    left = explorer.panels[1].figure.axes[0].get_xlim()[0]
    shown = np.stack([mark.get_xdata() > left for mark in explorer.moving[2:-1]])
    assert (shown.sum(axis=0) == 1).all()
    explorer.show()


def test_hidden_marks_are_drawn_but_outside_the_axes(explorer):
    ax = explorer.panels[1].figure.axes[0]
    left = ax.get_window_extent().x0
    for mark in explorer.moving[2:-1]:
        x = geometry.pixels(mark)[:, 0]
        outside = x < left
        assert (x[outside] + mark.get_markersize() / 2 < left).all()
        assert (x > 0).all()  # in the figure: what lies beyond it is not drawn


def test_between_the_points_of_the_map_it_runs_afresh(explorer, sweeps):
    words = explorer.show(cov=2.0, real_ratio=0.3, expression="dpg")
    assert "10 fresh runs" in words
    settings = replace(SETTINGS, expression="dpg")
    found = sweep(LQR, settings, {"cov": [2.0], "real_ratio": [0.3]}, range(10))
    _, median, _ = show.quartiles(show.excess(LQR, found.history.cost[:, 0, 0]))
    assert np.allclose(explorer.moving[0].get_ydata(), median, rtol=1e-12)
    explorer.show()


def test_a_live_slider_that_stops_beside_a_point_of_the_map_shows_the_point(explorer):
    exact_words = explorer.show(cov=1.0, real_ratio=0.5, expression="hack")
    assert explorer.show(cov=1.02, real_ratio=0.497, expression="hack") == exact_words
    assert "fresh" not in exact_words
    explorer.show()


def test_its_built_face_is_light_and_alike_twice(explorer):
    page = explorer.html()
    assert page == explorer.html()
    assert len(page.encode()) < export.LIMIT
    assert "deterministic gradient</option>" in page


def test_its_live_sliders_wait_until_they_are_let_go(explorer):
    box = live.widget(explorer)
    sliders = [child for child in box.children if hasattr(child, "continuous_update")]
    assert sliders
    assert not any(slider.continuous_update for slider in sliders)


def test_the_call_that_it_shows_runs(explorer):
    call = export._default_call(explorer)
    rng = np.random.default_rng(0)
    small = {"MBPOSettings": lambda *a, **k: replace(MBPOSettings(*a, **k), updates=2)}
    names = {"lqr": LQR, "K0": K0, "rng": rng, "mbpo": mbpo} | small
    assert eval(call, names).cost.shape == (3,)


def test_a_choice_needs_a_name_for_every_value():
    with pytest.raises(ValueError, match="way: expected 2 names, found 1"):
        show.Choice("way", "way", ("a", "b"), "a", ("only one",))
