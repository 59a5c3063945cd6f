"""The agents: how they are judged, that they train, and the record that is drawn."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT
from systems import FIRST_GAIN, MOST

from benchmarks import agents
from lqrlib import exact, studies, worlds

LQR = worlds.double_integrator()
BEST = exact.optimal_gain(LQR)
RECORD = ROOT / "book/records/agents.json"


@pytest.fixture(scope="module")
def stored():
    return json.loads(RECORD.read_text("utf-8"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(agents, "TRAJECTORIES", 40)
    monkeypatch.setattr(agents, "HORIZON", 50)


def test_the_optimal_gain_has_no_excess_and_is_linear(small):
    found = agents.judge(lambda x: x @ BEST.T)
    assert found.excess == found.standard_error == 0.0
    np.testing.assert_allclose(found.gain, BEST[0], rtol=1e-9)
    assert found.linear_share == pytest.approx(1.0)


def test_the_excess_of_another_gain_is_the_exact_one():
    found = agents.judge(lambda x: x @ FIRST_GAIN.T)
    exactly = exact.cost(LQR, FIRST_GAIN) / exact.cost(LQR, BEST) - 1.0
    assert abs(found.excess - exactly) < MOST * found.standard_error
    assert found.standard_error < 0.2 * exactly


def test_paired_differences_are_known_better_than_costs(small):
    near = 1.01 * BEST
    cost = agents.costs(lambda x: x @ near.T)[0]
    alone = cost.std(ddof=1) / np.sqrt(len(cost)) / exact.cost(LQR, BEST)
    assert agents.judge(lambda x: x @ near.T).standard_error < alone / 20


def test_a_bent_policy_has_a_nearest_gain_and_a_share(small):
    found = agents.judge(lambda x: 5.0 * np.tanh(x @ BEST.T / 5.0))
    assert 0.5 < found.linear_share < 1.0
    assert np.abs(found.gain).max() < np.abs(BEST).max()


@pytest.mark.parametrize(
    ("name", "checkpoints"), [("SAC", (110, 160)), ("PPO", (2048,))]
)
def test_an_agent_trains_for_a_few_steps_and_repeats(name, checkpoints, small):
    pytest.importorskip("stable_baselines3")
    runs = [agents.train(name, seed, checkpoints) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    for found in runs[0]:
        assert np.isfinite(found.excess)
        assert found.excess > -MOST * found.standard_error
        assert 0.0 <= found.linear_share <= 1.0
        assert len(found.gain) == 2
    assert len(runs[0]) == len(checkpoints)


def test_a_record_has_rows_of_seeds_and_six_digits(monkeypatch):
    monkeypatch.setattr("benchmarks.agents.version", lambda name: f"{name} 1+cpu")
    at = agents.Judgement(1 / 3, 0.01, [-1 / 7, 2.0], 0.9)
    length = len(agents.AGENTS["SAC"].checkpoints)
    made = agents.record({"SAC": {4: [at] * length, 2: [at] * length}})
    sac = made["agents"]["SAC"]
    assert sac["seeds"] == [2, 4]
    assert np.shape(sac["excess"]) == (2, length)
    assert sac["gain"][0][0] == [-0.142857, 2.0]
    assert sac["excess"][1][0] == 0.333333
    assert made["versions"]["torch"] == "torch 1"
    json.dumps(made)


def test_a_plan_with_ten_trajectories_is_ahead_of_both_agents(stored):
    setting = studies.settings()["double integrator"]
    ends = [
        studies.ending(setting, "planning", 1.0, 10, seed=seed)
        for seed in range(1000, 1020)
    ]
    plan = np.median(ends) / setting.optimum - 1.0
    medians = [np.median(a["excess"], axis=0) for a in stored["agents"].values()]
    assert min(map(np.min, medians)) > 10 * plan


def test_the_chapter_s_example_trains(monkeypatch):
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    page = (ROOT / "book/soft_actor_critic.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    learned = []

    def learn(agent, steps):
        learned.append((agent.gamma, steps))

    monkeypatch.setattr(stable_baselines3.SAC, "learn", learn)
    exec(code, {})
    assert learned == [(LQR.gamma, 12_000)]


# What is stored.


def test_the_record_was_made_with_the_pinned_versions_and_present_settings(stored):
    files = [ROOT / "requirements.txt", *(ROOT / "requirements").glob("*.txt")]
    text = "\n".join(file.read_text("utf-8") for file in files)
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.MULTILINE))
    for name in agents.NAMED:
        assert stored["versions"][name] == pins[name]
    assert stored["world"] == agents.WORLD
    assert stored["cost_unit"] == pytest.approx(agents.COST_UNIT, rel=1e-5)
    assert stored["evaluation"] == {
        "trajectories": agents.TRAJECTORIES,
        "horizon": agents.HORIZON,
        "seed": agents.EVALUATION_SEED,
    }
    for name, agent in agents.AGENTS.items():
        kept = stored["agents"][name]
        assert kept["options"] == {**agent.options, **agent.network}
        assert kept["copies"] == agent.copies
        assert kept["steps"] == list(agent.checkpoints)
        assert kept["seeds"] == list(agents.SEEDS)


def test_the_record_is_whole_small_and_plausible(stored):
    assert RECORD.stat().st_size < 60_000
    for kept in stored["agents"].values():
        shape = len(kept["seeds"]), len(kept["steps"])
        assert shape[0] >= 10
        parts = {name: np.array(kept[name]) for name in agents.Judgement._fields}
        assert {name: part.shape for name, part in parts.items()} == {
            "excess": shape,
            "standard_error": shape,
            "gain": (*shape, 2),
            "linear_share": shape,
        }
        assert all(np.isfinite(part).all() for part in parts.values())
        # No policy beats K*, but for sampling error, and all learn something.
        slack = MOST * parts["standard_error"]
        assert (parts["excess"] > -slack).all()
        assert (slack > 0.0).all()
        assert (parts["linear_share"] >= 0.0).all()
        assert (parts["linear_share"] <= 1.0).all()
        first, last = np.median(parts["excess"], axis=0)[[0, -1]]
        assert last < first
