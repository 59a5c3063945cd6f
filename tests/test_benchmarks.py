"""The benchmarks: plain peers find the same, and the table says what was timed."""

import json

import numpy as np
import pytest
from conftest import ROOT

from benchmarks.peers import lyapunov_peers, numpy_mbpo
from benchmarks.sizes import GROWTHS
from benchmarks.table import table
from benchmarks.worlds import gains, world
from lqrlib import exact, worlds
from lqrlib.mbpo import MBPOSettings, mbpo

RECORD = ROOT / "book/records/benchmarks.json"


@pytest.mark.parametrize("real_ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("expression", ["hack", "dpg"])
def test_one_run_in_plain_numpy_is_the_library_s(expression, real_ratio):
    lqr = worlds.double_integrator()
    settings = MBPOSettings(
        np.array([[-1.0, -1.0]]),
        expression=expression,
        cov=2.0,
        real_ratio=real_ratio,
        n_trajectories=30,
        horizon=25,
        updates=6,
    )
    there = numpy_mbpo.run(lqr, settings, np.random.default_rng(5))
    here = mbpo(lqr, settings, np.random.default_rng(5)).K
    assert np.abs(here[-1] - here[0]).max() > 0.1
    np.testing.assert_allclose(here, there, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "evaluate",
    [lyapunov_peers.scipy, lyapunov_peers.quantecon, lyapunov_peers.control],
    ids=["SciPy", "QuantEcon", "python-control"],
)
@pytest.mark.parametrize("n", [2, 10])
def test_other_solvers_find_the_same_cost_and_gradient(evaluate, n):
    lqr = world(n, 2)
    for K in gains(lqr, 3):
        cost, gradient = evaluate(lqr, K)
        assert cost == pytest.approx(exact.cost(lqr, K), rel=1e-9)
        np.testing.assert_allclose(gradient, exact.gradient(lqr, K), rtol=1e-7)


@pytest.mark.parametrize("name", GROWTHS)
def test_what_grows_runs_at_its_least_size(name):
    growth = GROWTHS[name]
    assert growth.prepare(growth.sizes[0])() is not None


def measured(group, turn, seconds, **said):
    return {
        "group": group,
        "stats": {"median": seconds},
        "extra_info": {"turn": turn, "work": "work", **said},
    }


def one(who, turn, seconds, share=1.0, reach=None):
    said = {"who": who, "share": share, "reach": reach, "items": 10, "unit": "steps"}
    return measured("a", turn, seconds, **said)


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr("benchmarks.table.version", lambda name: f"{name} 1")
    ours = [one("lqrlib", turn, s) for turn, s in enumerate((1.0, 2.0, 9.0))]
    part = [one("loop", turn, s, 0.1, 3.0) for turn, s in enumerate((0.4, 1.0, 0.9))]
    sizes = [
        measured("size n", turn, seconds, letter="n", size=size)
        for turn, seconds in ((0, 1.0), (1, 3.0), (2, 2.0))
        for size in (1, 2)
    ]
    info = {"cpu": {"brand_raw": "A processor"}, "system": "Linux"}
    return table({"machine_info": info, "benchmarks": [*ours, *part, *sizes]})


def test_ratios_are_taken_turn_by_turn_and_parts_are_multiplied(found):
    (comparison,) = found["comparisons"]
    assert comparison["seconds"] == 2.0
    (peer,) = comparison["peers"]
    assert peer["who"] == "loop"
    assert peer["reach"] == 3.0
    ratios = [4.0 / 1.0, 10.0 / 2.0, 9.0 / 9.0]
    assert (peer["ratio"], peer["least"], peer["most"]) == pytest.approx(
        (np.median(ratios), min(ratios), max(ratios))
    )


def test_sizes_have_the_median_of_their_turns(found):
    (growth,) = found["growths"]
    assert growth["sizes"] == [1, 2]
    assert growth["seconds"] == [2.0, 2.0]
    assert "A processor" in found["machine"]


def test_the_recorded_table_has_all_that_the_benchmarks_measure():
    recorded = json.loads(RECORD.read_text("utf-8"))
    assert [g["work"] for g in recorded["growths"]] == [
        g.work for g in GROWTHS.values()
    ]
    for growth, known in zip(recorded["growths"], GROWTHS.values(), strict=True):
        assert growth["sizes"] == list(known.sizes)
    works = " ".join(c["work"] for c in recorded["comparisons"])
    for work in ("Rollouts", "noise given", "J and ∇J", "gradient", "MBPO", "import"):
        assert work in works
    for comparison in recorded["comparisons"]:
        assert comparison["seconds"] > 0
        for peer in comparison["peers"]:
            assert 0 < peer["least"] <= peer["ratio"] <= peer["most"]
