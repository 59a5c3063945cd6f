"""The explorers of the plane: curves, regions and words from given runs."""

from dataclasses import replace

import numpy as np
import pytest

from lqrlib import MBPOSettings, exact, mbpo, show, worlds
from lqrlib.show import export

LQR = worlds.double_integrator()
BEST = float(exact.cost(LQR, exact.optimal_gain(LQR)))
COVS, RATIOS = (0.1, 1.0, 10.0), (0.0, 0.5, 1.0)
SETTINGS = MBPOSettings([[-1.0, -1.0]], n_trajectories=8, horizon=6, updates=4)
KEPT = np.array([0, 2, 4])
EXPRESSIONS = ("hack", "dpg", "pathwise", "model")


def runs(lag=0.0):
    """A loop's runs over the small plane, at three of their five gains."""
    made = {of: replace(SETTINGS, expression=of, lag=lag) for of in EXPRESSIONS}
    axes = {"cov": COVS, "real_ratio": RATIOS}
    found = {of: mbpo.sweep(LQR, one, axes, range(4)) for of, one in made.items()}
    costs = {of: result.history.cost[KEPT] for of, result in found.items()}
    return show.PhaseLoop(f"lag {lag}", made, KEPT, costs, BEST * (1 + lag))


@pytest.fixture(scope="module")
def loops():
    return {"none": runs(), "some": runs(0.5)}


@pytest.fixture(scope="module")
def explorer(loops):
    start = {"cov": 1.0, "real_ratio": 0.5, "expression": "dpg", "loop": "none"}
    return show.phase_explorer(
        LQR, COVS, RATIOS, loops, name="phases", title="A plane", start=start
    )


@pytest.mark.parametrize("loop", ["none", "some"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_curve_and_words_are_those_of_the_cell(explorer, loops, expression, loop):
    state = {"cov": 10.0, "real_ratio": 1.0, "expression": expression, "loop": loop}
    words = explorer.show(**state)
    cost, best = loops[loop].cost[expression][:, 2, 2], loops[loop].best
    assert words.startswith(loops[loop].name.capitalize())
    assert show.EXPRESSIONS[expression].name.capitalize() in words
    assert f"Left the stable set: {np.isinf(cost[-1]).sum()}." in words
    assert show.REGIONS[int(show.region(best, cost[-1]))].name in words
    line = explorer.moving[0]
    np.testing.assert_array_equal(line.get_xdata(), KEPT)
    shown = np.clip(np.median(cost, axis=-1), 0, None) / best - 1
    low, high = np.quantile(cost / best - 1, [0.25, 0.75], axis=-1)
    inside = (line.get_ydata() >= np.maximum(low, 1e-5) * 0.999) & (
        line.get_ydata() <= np.maximum(high, 1e-5) * 1.001
    )
    assert inside.all(), shown
    explorer.show()


def test_every_cell_is_marked_in_one_region(explorer):
    left = explorer.panels[1].figure.axes[0].get_xlim()[0]
    for state in ({"expression": "hack"}, {"loop": "some"}):
        explorer.show(**state)
        shown = np.stack([mark.get_xdata() > left for mark in explorer.moving[2:-1]])
        assert (shown.sum(axis=0) == 1).all()
    explorer.show()


def test_between_the_points_of_the_map_the_loop_that_is_shown_runs(explorer, loops):
    state = {"cov": 3.0, "real_ratio": 0.25, "expression": "pathwise", "loop": "some"}
    assert "10 fresh runs" in explorer.show(**state)
    made = loops["some"].settings["pathwise"]
    axes = {"cov": [3.0], "real_ratio": [0.25]}
    found = mbpo.sweep(LQR, made, axes, range(10)).history.cost[KEPT, 0, 0]
    _, median, _ = show.quartiles(np.clip(found / loops["some"].best - 1, 1e-5, 1e3))
    assert np.allclose(explorer.moving[0].get_ydata(), median)
    explorer.show()


def test_the_built_face_is_light_and_its_call_runs(explorer, loops):
    page = explorer.html()
    assert len(page.encode()) < export.LIMIT
    assert "pathwise gradient</option>" in page
    settings = {
        (key, of): loops[key].settings[of] for key in loops for of in EXPRESSIONS
    }
    names = {"lqr": LQR, "rng": np.random.default_rng(0), "mbpo": mbpo}
    call = export._default_call(explorer)
    found = eval(call, names | {"settings": settings, "replace": replace})
    assert found.cost.shape == (5,)


def test_thinning_keeps_every_second_row_and_column(loops):
    thin = show.thinned(loops["none"], 2)
    for of in EXPRESSIONS:
        np.testing.assert_array_equal(
            thin.cost[of], loops["none"].cost[of][:, [0, 2]][:, :, [0, 2]]
        )
