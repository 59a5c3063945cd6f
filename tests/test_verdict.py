"""The study of the last chapter: the same data for all, and what a step is."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from lqrlib import critic, exact, gradients, model, observed, rollout, studies, worlds
from lqrlib.descent import descend, of_length
from lqrlib.policy import GaussianPolicy
from lqrlib.studies import verdict as study

SETTINGS = studies.settings()
DOUBLE = SETTINGS["double integrator"]
every_world = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def task(cov=1.0, size=30, seed=4, setting=DOUBLE):
    data = studies.batch(setting, cov, size, seed)
    return study.Task(setting, cov, size, data, np.random.default_rng(seed))


@every_world
@pytest.mark.parametrize("cov", [0.0, 1.0, 30.0])
def test_with_these_steps_the_exact_gradient_arrives(setting, cov):
    def gradient(K):
        return exact.gradient(setting.lqr, K, cov)

    assert study.normalised(setting, gradient) < 1.001 * setting.optimum


@pytest.mark.parametrize("updates", [100, 50, 20])
def test_the_lengths_add_up_and_end_an_eighth_as_long(updates):
    visited = []

    def downhill(K):
        visited.append(K)
        return exact.natural_gradient(DOUBLE.lqr, K)

    last = study.normalised(DOUBLE, downhill, updates)
    assert len(visited) == updates
    assert np.isfinite(last)
    steps = [np.linalg.norm(b - a) for a, b in pairwise(visited)]
    unit = DOUBLE.length * 100 / updates
    assert steps[0] == pytest.approx(unit)
    assert steps[-1] == pytest.approx(unit / 8)
    assert np.all(np.diff(steps) <= 1e-12)


def test_a_path_that_leaves_costs_infinitely_much():
    assert study.normalised(DOUBLE, lambda K: -exact.gradient(DOUBLE.lqr, K)) == np.inf


@every_world
def test_planning_and_policy_iteration_are_those_of_the_map_of_arrivals(setting):
    for method, name in (("planning", "model"), ("policy iteration", "dpg")):
        here = studies.ending(setting, method, 1.0, 30, 3)
        assert here == studies.arrival(setting, name, 1.0, 30, 3)


@every_world
def test_the_model_s_gradient_ends_at_the_model_s_plan(setting):
    for seed in range(3):
        planned = studies.ending(setting, "planning", 1.0, 100, seed)
        stepped = studies.ending(setting, "model gradient", 1.0, 100, seed)
        assert stepped == pytest.approx(float(planned), rel=1e-7)


def test_the_weights_are_those_of_the_library():
    given = task(cov=30.0)

    def gradient(K):
        return gradients.per_decision_is(
            DOUBLE.lqr, given.data, K, cov=30.0, time_baseline=True
        ).gradient

    expected = study.normalised(DOUBLE, gradient)
    assert study.METHODS["weight a cost, baseline"](given) == expected


def directions_of(method, given, monkeypatch):
    """What a method steps along at K0."""
    seen = []
    monkeypatch.setattr(study, "normalised", lambda s, d: seen.append(d(s.K0)))
    study.METHODS[method](given)
    return seen[0]


def test_critics_step_along_their_formulas(monkeypatch):
    given, n = task(), DOUBLE.lqr.n
    steps = rollout.transitions(given.data)
    found = critic.lstdq(DOUBLE.lqr, steps, DOUBLE.K0)
    E, x = found.Theta[n:, n:] @ DOUBLE.K0 + found.Theta[n:, :n], steps.x
    for method, expected in (
        ("deterministic gradient", E @ x.T @ x),
        ("natural gradient", E),
    ):
        here = directions_of(method, given, monkeypatch)
        np.testing.assert_allclose(here, expected, rtol=1e-9)


def test_the_pathwise_direction_differs_by_noise_of_mean_zero(monkeypatch):
    given = task(cov=0.01, size=100)
    with_states = directions_of("deterministic gradient", given, monkeypatch)
    drawn = [directions_of("pathwise gradient", given, monkeypatch) for _ in range(60)]
    z = (np.mean(drawn, axis=0) - with_states) / (np.std(drawn, axis=0) / np.sqrt(60))
    assert np.std(drawn, axis=0).min() > 0.0
    assert np.abs(z).max() < 4.0


@pytest.mark.parametrize("size", [10, 30, 100, 300, 1000])
@pytest.mark.parametrize("method", study.FAMILIES["fresh data"])
def test_fresh_data_are_as_many_as_the_batch(method, size, monkeypatch):
    drawn, asked, original = [], [], gradients.zeroth_order

    def counted(world, policy, n, *rest):
        drawn.append(n)
        return rollout.rollout(world, policy, n, *rest)

    def queried(world, K, *, n_trajectories, **options):
        drawn.append(n_trajectories)
        return original(world, K, n_trajectories=n_trajectories, **options)

    def walk(setting, direction, updates):
        asked.append(updates)
        return np.linalg.norm(direction(setting.K0))

    monkeypatch.setattr(study, "rollout", counted)
    monkeypatch.setattr(study.gradients, "zeroth_order", queried)
    monkeypatch.setattr(study, "normalised", walk)
    assert study.METHODS[method](task(size=size)) > 0.0
    assert drawn[0] % 2 == 0
    assert asked[0] <= 100
    assert drawn[0] * asked[0] == size
    assert studies.updates(method, size) == asked[0]


@pytest.mark.parametrize("method", [*study.METHODS][:14])
def test_updates_are_counted_as_they_are_made(method, monkeypatch):
    made = []

    def walked(lqr, K0, gradient, step, *, updates):
        made.append(updates)
        return descend(lqr, K0, gradient, step, updates=updates)

    monkeypatch.setattr(study, "descend", walked)
    study.METHODS[method](task(size=300, cov=30.0))
    assert studies.updates(method, 300) == (sum(made) or 1)


def test_the_same_seed_gives_the_same_end_and_another_one_another():
    for method in study.METHODS:
        a, b, c = (
            float(studies.ending(DOUBLE, method, 30.0, 10, seed)) for seed in (5, 5, 6)
        )
        assert a == b, method
        assert a != c or a == np.inf, method


def test_every_method_has_a_family_and_only_one():
    named = [name for names in study.FAMILIES.values() for name in names]
    assert named == list(study.METHODS)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("method", {"method": "hope"}),
        ("size", {"size": 1}),
        ("size", {"size": 2.5}),
        ("cov", {"cov": -1.0}),
    ],
)
def test_bad_input_is_refused_by_name(name, options):
    given = {"method": "planning", "cov": 1.0, "size": 10, "seed": 0} | options
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        studies.ending(DOUBLE, **given)


def medians(setting, methods, size, seeds=range(100, 115)):
    return {
        method: np.median(
            [studies.ending(setting, method, 1.0, size, seed) for seed in seeds]
        )
        for method in methods
    }


@every_world
def test_on_seeds_that_no_page_has_seen_the_order_is_the_same(setting):
    of = medians(setting, ("planning", "policy iteration", "doubly robust"), 100)
    assert of["planning"] < of["policy iteration"] < of["doubly robust"]
    assert of["doubly robust"] > 1.01 * setting.optimum


@every_world
@pytest.mark.parametrize("size", [10, 1000])
def test_plans_are_ahead_of_critics_on_seeds_that_no_page_has_seen(setting, size):
    of = medians(setting, ("planning", "policy iteration"), size, range(100, 120))
    planned, learned = (of[name] - setting.optimum for name in of)
    assert learned > 1.5 * planned


@every_world
def test_no_weight_arrives_on_seeds_that_no_page_has_seen(setting):
    of = medians(setting, study.FAMILIES["weights"], 100, range(100, 105))
    assert min(of.values()) > 1.01 * setting.optimum


@every_world
def test_ten_times_the_data_cut_the_excess_of_plan_and_critic_by_about_ten(setting):
    names = "planning", "policy iteration"
    few, many = (medians(setting, names, size, range(100, 140)) for size in (100, 1000))
    for name in names:
        cut = (few[name] - setting.optimum) / (many[name] - setting.optimum)
        assert 3.5 < cut < 28.0, name


def test_the_fixed_points_of_three_steps_are_one_on_other_seeds():
    for seed in range(100, 105):
        ends = [
            float(studies.ending(DOUBLE, method, 1.0, 1000, seed))
            for method in ("deterministic gradient", "policy iteration")
        ]
        assert abs(ends[0] - ends[1]) < 1e-3 * DOUBLE.optimum


def test_half_of_a_state_stops_planning_and_the_states_of_others():
    """Velocity only, another restriction than the page's: the plan is cut."""
    lqr, seen = DOUBLE.lqr, np.array([[0.0, 1.0]])
    start = np.array([[0.0, -1.0]])

    def own(K):
        return exact.gradient(lqr, K) * seen

    path = descend(lqr, start, own, of_length(0.02), updates=400)
    least = path.cost.min()
    cut = float(exact.cost(lqr, exact.optimal_gain(lqr) * seen))
    assert 1.005 * least < cut < 1.02 * least
    X = exact.state_moment(lqr, DOUBLE.K0, 1.0)
    other = descend(
        lqr, start, lambda K: exact.gain_error(lqr, K) @ X * seen, 1e-4, updates=4000
    )
    assert other.cost[-1] > 1.02 * least


def test_a_restricted_gain_needs_states_of_its_own_on_seeds_that_no_page_has_seen():
    lqr, seen = DOUBLE.lqr, np.array([[1.0, 0.0]])
    start = np.array([[-0.2, 0.0]])
    k = np.linspace(-2.0, 0.0, 2001)
    least = exact.cost(lqr, np.stack([k, 0 * k], axis=-1)[:, None]).min()

    def end(direction):
        path = descend(
            lqr, start, lambda K: direction(K) * seen, of_length(0.01), updates=80
        )
        return float(path.cost[-1])

    def ends(seed):
        rows = rollout.transitions(studies.batch(DOUBLE, 1.0, 150, seed))
        fitted, sums = model.fit(rows).problem(lqr), critic.sums(lqr, rows)

        def E(K):
            return critic.solve(lqr, sums, K).gain_error(K)

        return (
            float(exact.cost(lqr, exact.optimal_gain(fitted) * seen)),
            end(lambda K: E(K) @ rows.x.T @ rows.x),
            end(lambda K: E(K) @ exact.state_moment(fitted, K)),
            end(lambda K: exact.gradient(fitted, K)),
        )

    cut, others, own, modelled = np.median([ends(s) for s in range(900, 907)], axis=0)
    assert min(cut, others) > 1.3 * least
    assert max(own, modelled) < 1.03 * least


def test_fresh_data_pass_a_plan_that_cannot_be_right():
    """A lag of .7 and σ² = 5, on seeds of its own."""
    lqr, T = DOUBLE.lqr, DOUBLE.horizon
    world = worlds.with_lag(lqr, 0.7)
    best = observed.best_gain(world, DOUBLE.K0)
    least = float(exact.cost(world, observed.widen(world, best)))
    start = observed.widen(world, DOUBLE.K0)
    away = float(np.linalg.norm(best - DOUBLE.K0))
    lagging = study.Setting(world, start, T)
    planned, fresh = [], []
    for seed in range(5):
        rng = np.random.default_rng([seed, 70])
        data = rollout.rollout(world, GaussianPolicy(start, 5.0), 300, T, rng)
        fitted = model.fit(rollout.transitions(data._replace(x=data.x[..., :2])))
        gain = exact.optimal_gain(fitted.problem(lqr))
        planned.append(float(exact.cost(world, observed.widen(world, gain))))
        part = partial(study._ratio, study.Task(lagging, 5.0, 0, data, rng), world, 30)
        seen = np.array([[1.0, 1.0, 0.0]])
        path = descend(
            world,
            start,
            lambda K, part=part, seen=seen: part(K) * seen,
            of_length(away / 30),
            updates=60,
        )
        fresh.append(float(path.cost[-1]))
    assert np.median(fresh) < 1.05 * least < np.median(planned)
