"""The book's experiments: what a run does, what a record holds, and held-out worlds."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from systems import FIRST_GAINS, NAMED, close

from lqrlib import (
    GaussianPolicy,
    LinearPolicy,
    critic,
    descent,
    exact,
    finite_horizon,
    model,
    studies,
    worlds,
)
from lqrlib.gradients import gauss_newton_dpg, per_decision_is, trajectory_is
from lqrlib.mbpo import sweep
from lqrlib.rollout import concatenate, rollout, transitions
from lqrlib.studies import Setting, Study, hack, remedies
from lqrlib.weights import breakdown, critical_covariance

MAIN = studies.settings()["double integrator"]
SMALL = MAIN._replace(horizon=12)
# Not one of the book's: a world and seeds that no page and no setting has seen.
HELD_OUT = Setting(worlds.random(3, 2, np.random.default_rng(20_260)), np.zeros((2, 3)))
HELD_OUT_SEEDS = range(7000, 7020)


# Settings.


def test_the_three_settings_start_where_the_tests_of_estimators_do():
    named = {"double integrator": "double_integrator", "three rooms": "three_rooms"}
    named["Laplacian"] = "laplacian"
    for name, setting in studies.settings().items():
        np.testing.assert_array_equal(setting.lqr.A, NAMED[named[name]]().A)
        np.testing.assert_array_equal(setting.K0, FIRST_GAINS[named[name]])
        assert exact.is_stable(setting.lqr, setting.K0)


@pytest.mark.parametrize("name", studies.settings())
def test_forty_steps_of_one_length_span_the_way(name):
    setting = studies.settings()[name]
    way = exact.optimal_gain(setting.lqr) - setting.K0
    assert 40 * setting.length == pytest.approx(np.sqrt((way**2).sum()), rel=1e-12)
    close(setting.optimum, exact.cost(setting.lqr, setting.K0 + way))


@pytest.mark.parametrize("name", studies.settings())
@pytest.mark.parametrize("cov", [0.01, 10.0])
def test_the_exact_gradient_of_the_same_horizon_arrives_with_normalised_steps(
    name, cov
):
    setting = studies.settings()[name]

    def gradient(K):
        stages = finite_horizon.constant(setting.lqr, K, setting.horizon)
        return finite_horizon.gradient(setting.lqr, stages, cov=cov).sum(axis=-3)

    step = studies.step_rule(setting, "normalised", cov)
    path = descent.descend(setting.lqr, setting.K0, gradient, step, updates=100)
    assert path.cost[60:].max() < 1.005 * setting.optimum


@pytest.mark.parametrize("cov", [0.01, 1.0, 10.0])
def test_the_exact_gradient_arrives_with_plain_steps_in_the_main_world(cov):
    step = studies.step_rule(MAIN, "plain", cov)
    follow = partial(exact.gradient, MAIN.lqr, cov=cov)
    path = descent.descend(MAIN.lqr, MAIN.K0, follow, step, updates=100)
    assert path.cost[-1] < 1.001 * MAIN.optimum


# Runs.


def test_a_batch_belongs_to_its_seed_and_size():
    first, same = (studies.batch(SMALL, 0.5, 30, 4) for _ in range(2))
    np.testing.assert_array_equal(first.x, same.x)
    assert first.cost.shape == (30, 12)
    np.testing.assert_array_equal(first.policy.K, SMALL.K0)
    assert np.abs(first.x - studies.batch(SMALL, 0.5, 30, 5).x).max() > 0.1
    assert not np.array_equal(first.x[:20], studies.batch(SMALL, 0.5, 20, 4).x)


def test_a_frozen_run_is_a_descent_on_its_data():
    data = studies.batch(SMALL, 0.5, 30, 0)
    gradient = partial(trajectory_is, SMALL.lqr, cov=0.5)
    found = studies.frozen(SMALL, data, gradient, 1e-3, updates=5)
    K = SMALL.K0
    for cost in found:
        assert cost == exact.cost(SMALL.lqr, K)
        K = K - 1e-3 * trajectory_is(SMALL.lqr, data, K, cov=0.5).gradient


def test_a_collecting_run_by_hand():
    seen = []

    def gradient(data, K):
        seen.append((data, K))
        return np.ones((1, 2)) * data.cost.shape[0]

    found = studies.collecting(
        SMALL,
        0.5,
        20,
        gradient,
        1e-4,
        np.random.default_rng(3),
        collections=4,
        updates=8,
    )
    assert [data.cost.shape[0] for data, _ in seen] == [5, 5, 10, 10, 15, 15, 20, 20]
    K, rng, parts = SMALL.K0, np.random.default_rng(3), []
    for i in range(8):
        if i % 2 == 0:
            parts.append(rollout(SMALL.lqr, GaussianPolicy(K, 0.5), 5, 12, rng))
        np.testing.assert_array_equal(seen[i][0].x, concatenate(parts).x)
        np.testing.assert_array_equal(
            seen[i][0].policy.K[5 * (i // 2)], parts[-1].policy.K
        )
        close(found[i], exact.cost(SMALL.lqr, K))
        K = K - 1e-4 * 5 * len(parts)
    close(found[8], exact.cost(SMALL.lqr, K))


def test_a_collecting_run_that_leaves_the_stable_set_stays_lost():
    found = studies.collecting(
        SMALL, 0.5, 20, lambda *_: -np.ones((1, 2)), 1.0, np.random.default_rng(0)
    )
    assert found.shape == (101,)
    assert np.isfinite(found[0])
    assert np.isinf(found[2:]).all()


def test_the_sanity_check_holds_every_combination_in_its_place():
    found = studies.sanity(SMALL, 1.0, 40, 2)
    assert found.shape == (2, 3, 2)
    data = studies.batch(SMALL, 1.0, 40, 2)
    for i, weights in enumerate(studies.WEIGHTS):
        gradient = hack.expression(SMALL, weights, 1.0)
        for j, kind in enumerate(studies.STEPS):
            step = studies.step_rule(SMALL, kind, 1.0)
            assert found[0, i, j] == studies.frozen(SMALL, data, gradient, step)[-1]
            rng = np.random.default_rng([2, 40, 1])
            loop = studies.collecting(SMALL, 1.0, 40, gradient, step, rng)
            assert found[1, i, j] == loop[-1]


def test_the_law_is_that_of_the_hack_at_its_best():
    data = studies.batch(SMALL, 3.0, 50, 1)

    def gradient(K):
        return per_decision_is(SMALL.lqr, data, K, cov=3.0, time_baseline=True)

    step = descent.of_length(SMALL.length)
    path = descent.descend(SMALL.lqr, SMALL.K0, gradient, step, updates=60)
    assert studies.law(SMALL, 3.0, 50, 1) == path.cost[-1]


@pytest.mark.parametrize("name", [*studies.REMEDIES, *studies.OTHERS])
def test_every_remedy_gives_the_end_and_the_best_of_a_path_from_the_first_gain(name):
    end, best = studies.remedy(SMALL, name, 1.0, 60, 0)
    start = exact.cost(SMALL.lqr, SMALL.K0)
    assert best <= end
    assert SMALL.optimum <= best <= start + 1e-9 or name in studies.OTHERS


def test_stopping_leaves_the_gain_where_the_weights_are_worth_too_little():
    data = studies.batch(MAIN, 0.1, 100, 0)
    far = exact.optimal_gain(MAIN.lqr)
    stop = remedies.REMEDIES["stop at low ESS"].estimate
    plain = remedies.REMEDIES["time baseline"].estimate
    here = plain(MAIN.lqr, data, MAIN.K0, cov=0.1)
    np.testing.assert_array_equal(
        stop(MAIN.lqr, data, MAIN.K0, cov=0.1).gradient, here.gradient
    )
    assert (stop(MAIN.lqr, data, far, cov=0.1).gradient == 0).all()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("name", lambda: studies.remedy(SMALL, "prayer", 1.0, 50, 0)),
        ("weights", lambda: hack.expression(SMALL, "lead", 1.0)),
        ("kind", lambda: studies.step_rule(SMALL, "giant", 1.0)),
        ("cov", lambda: studies.batch(SMALL, -1.0, 50, 0)),
        ("size", lambda: studies.batch(SMALL, 1.0, 0, 0)),
    ],
)
def test_what_does_not_exist_is_refused_by_name(name, call):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()


# Records.


def product(setting, cov, size, seed):
    return np.array([cov * size + seed, setting.horizon])


@pytest.fixture
def stored(tmp_path, monkeypatch):
    axes = {"cov": (0.5, 2.0), "size": (10, 20, 30), "seed": (0, 1)}
    tiny = Study(product, "Laplacian", axes)
    monkeypatch.setitem(studies.STUDIES, "tiny", tiny)
    return tiny, studies.store("tiny", tmp_path)


def test_a_record_holds_every_cell_in_its_place(stored):
    study, file = stored
    record = studies.load(file)
    assert record.axes == study.axes
    assert record.results.shape == (2, 3, 2, 2)
    assert record.at(cov=2.0, size=30, seed=1).tolist() == [61.0, 150.0]
    assert record.at(size=20)[:, :, 0].tolist() == [[10, 11], [40, 41]]
    assert "NumPy" in record.versions


def test_a_record_does_not_depend_on_the_number_of_workers(stored):
    one, two = (studies.run(stored[0], workers) for workers in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_what_was_not_recorded_is_refused_by_name(stored):
    record = studies.load(stored[1])
    with pytest.raises(ValueError, match=r"^cov: expected one of"):
        record.at(cov=1.0)
    with pytest.raises(ValueError, match=r"^values: expected axes among"):
        record.at(horizon=60)


def test_a_record_of_the_working_folder_comes_before_that_of_the_library(
    stored, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    read = studies.load("records/puzzle.npz"), studies.read("records/benchmarks.json")
    assert read[0].axes == studies.STUDIES["puzzle"].axes
    assert read[1]["comparisons"]
    (tmp_path / "records").mkdir()
    stored[1].rename("records/puzzle.npz")
    Path("records/benchmarks.json").write_text('["γ"]', "utf-8")
    assert studies.load("records/puzzle.npz").axes == stored[0].axes
    assert studies.read("records/benchmarks.json") == ["γ"]


@pytest.mark.parametrize("read", [studies.load, studies.read])
@pytest.mark.parametrize(
    "file", ["records/none.npz", "elsewhere/puzzle.npz", "puzzle.npz", "/puzzle.npz"]
)
def test_a_record_that_is_missing_is_named(read, file):
    with pytest.raises(ValueError, match=rf"^file: expected a file.*, found '{file}'$"):
        read(file)


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_study_is_recorded_over_its_whole_grid(name):
    record = studies.load(f"book/records/{name}.npz")
    assert record.axes == studies.STUDIES[name].axes
    lengths = tuple(len(values) for values in record.axes.values())
    assert record.results.shape[: len(lengths)] == lengths
    least = studies.settings()[studies.STUDIES[name].world].optimum
    if name == "queries":  # errors, and what costs are in excess of their optimum
        least = 0.0
    costs = record.results
    if name == "hack-paths":  # gains, costs, effective sample sizes
        costs = costs[..., -2]
    assert costs.min() >= least


@pytest.mark.parametrize("name", ["sanity", "sanity-rooms", "law", "law-rooms"])
def test_a_recorded_run_can_be_run_again(name):
    record, study = studies.load(f"book/records/{name}.npz"), studies.STUDIES[name]
    setting = studies.settings()[study.world]
    again = [study.function(setting, 1.0, 100, seed) for seed in range(4)]
    recorded = record.at(cov=1.0, size=100)[:4]
    same = np.isclose(again, recorded) | (np.isinf(again) & np.isinf(recorded))
    assert same.mean() > 0.7  # rounding may part paths on another machine


def test_a_recorded_path_of_the_hack_can_be_walked_again():
    record, study = studies.load("book/records/hack-paths.npz"), "hack-paths"
    function = studies.STUDIES[study].function
    setting = studies.settings()["double integrator"]
    for data in ("Gaussian", "deterministic"):
        again = function(setting, data, 10.0, 30, 3)
        kept = record.at(data=data, cov=10.0, size=30, seed=3)
        np.testing.assert_allclose(again[:5], kept[:5], rtol=1e-6)
        assert not np.allclose(again[0], again[-1])


# The claims of the chapters, where no page has looked.


def test_in_a_held_out_world_the_hack_does_not_arrive_and_planning_does():
    near = 1.01 * HELD_OUT.optimum
    ends = {
        name: np.array(
            [studies.remedy(HELD_OUT, name, 1.0, 300, s)[0] for s in HELD_OUT_SEEDS]
        )
        for name in ("as in the question", "time baseline", *studies.OTHERS)
    }
    assert (ends["as in the question"] < near).mean() <= 0.1
    assert (ends["time baseline"] < near).mean() <= 0.3
    assert (ends["planning"] < near).mean() >= 0.9
    assert (ends["deterministic gradient"] < near).mean() >= 0.9


def test_in_a_held_out_world_the_optimum_lies_beyond_the_wall_below_the_critical_one():
    lqr, K0 = HELD_OUT.lqr, HELD_OUT.K0
    best = exact.optimal_gain(lqr)
    critical = float(critical_covariance(lqr, best, K0, 60))
    for cov in (0.01, 1.0, 100.0):
        wall = float(breakdown(lqr, K0, best - K0, cov, 60))
        assert (wall < 1.0) == (cov < critical)


# Arrivals.


@pytest.mark.parametrize("expression", studies.EXPRESSIONS)
def test_an_arrival_is_a_run_on_the_batch_of_its_seed(expression):
    found = float(studies.arrival(SMALL, expression, 1.0, 60, 3))
    lqr, data = SMALL.lqr, studies.batch(SMALL, 1.0, 60, 3)
    if expression == "hack":
        assert found == studies.law(SMALL, 1.0, 60, 3)
    elif expression == "dpg":
        step = partial(gauss_newton_dpg, lqr, data)
        path = descent.descend(lqr, SMALL.K0, step, 0.5, updates=40)
        assert found == pytest.approx(path.cost[-1], rel=1e-9)
    else:
        fitted = model.fit(transitions(data)).problem(lqr)
        assert found == exact.cost(lqr, exact.optimal_gain(fitted))


def test_both_modes_take_half_steps_of_policy_iteration(monkeypatch):
    # Few, so that the length of a step still shows.
    monkeypatch.setattr("lqrlib.studies.arrivals._UPDATES", 2)
    few = partial(studies.collecting, collections=2, updates=4)
    monkeypatch.setattr("lqrlib.studies.arrivals.collecting", few)
    lqr, K = SMALL.lqr, SMALL.K0
    frozen, collecting = studies.passes(SMALL, 1.0, 60, 3)
    data = studies.batch(SMALL, 1.0, 60, 3)
    for _ in range(2):
        K = K - 0.5 * gauss_newton_dpg(lqr, data, K).gradient
    assert frozen == pytest.approx(exact.cost(lqr, K), rel=1e-9)
    K, rng, parts = SMALL.K0, np.random.default_rng([3, 60, 1]), []
    for i in range(4):
        if i % 2 == 0:
            parts.append(rollout(lqr, GaussianPolicy(K, 1.0), 30, 12, rng))
        K = K - 0.5 * gauss_newton_dpg(lqr, concatenate(parts), K).gradient
    assert collecting == pytest.approx(exact.cost(lqr, K), rel=1e-9)


def test_policy_iteration_does_not_move_on_data_without_rank():
    data = rollout(MAIN.lqr, LinearPolicy(MAIN.K0), 30, 12, np.random.default_rng(0))
    step = studies.policy_iteration(MAIN, data)(MAIN.K0)
    assert np.isnan(step).all()
    found = descent.descend(
        MAIN.lqr, MAIN.K0, studies.policy_iteration(MAIN, data), 0.5, updates=3
    )
    np.testing.assert_array_equal(found.K[-1], MAIN.K0)


def test_the_sanity_check_passes_frozen_and_collecting():
    frozen, collecting = studies.passes(MAIN, 1.0, 1000, 7)
    assert frozen == studies.arrival(MAIN, "dpg", 1.0, 1000, 7)
    assert max(frozen, collecting) < 1.01 * MAIN.optimum
    assert frozen != collecting


def test_damped_policy_iteration_arrives_from_gains_that_no_page_has_drawn():
    lqr, rng, starts = MAIN.lqr, np.random.default_rng(31), []
    while len(starts) < 12:
        K = rng.uniform([-12, -10], [1, 1])[None]
        if exact.is_stable(lqr, K) and exact.cost(lqr, K) > 4 * MAIN.optimum:
            starts.append(K)
    for seed, K in enumerate(starts):
        rows = transitions(studies.batch(MAIN, 1.0, 1000, 8000 + seed))
        sums = critic.sums(lqr, rows)
        for _ in range(60):
            K = K - 0.5 * critic.solve(lqr, sums, K).gauss_newton(K)
        assert exact.cost(lqr, K) < 1.01 * MAIN.optimum
    assert max(exact.cost(lqr, np.stack(starts))) > 20 * MAIN.optimum


def test_in_a_world_that_no_page_has_seen_two_arrive_and_the_hack_does_not():
    ends = {
        name: np.array(
            [studies.arrival(HELD_OUT, name, 1.0, 300, s) for s in HELD_OUT_SEEDS]
        )
        for name in studies.EXPRESSIONS
    }
    good = {name: (end < 1.01 * HELD_OUT.optimum).mean() for name, end in ends.items()}
    assert good["model"] == 1.0
    assert good["dpg"] >= 0.9
    assert good["hack"] <= 0.2
    assert np.median(ends["model"]) <= np.median(ends["dpg"])


def test_another_expression_is_refused():
    with pytest.raises(ValueError, match=r"^expression: expected one of"):
        studies.arrival(SMALL, "hope", 1.0, 10, 0)


@pytest.mark.parametrize("cov", [0.1, 1.0])
def test_a_recorded_arrival_is_what_runs_today(cov):
    record = studies.load("book/records/arrivals.npz")
    for name in studies.EXPRESSIONS:
        now = [float(studies.arrival(MAIN, name, cov, 100, seed)) for seed in range(5)]
        then = record.at(expression=name, cov=cov, size=100)[:5]
        assert np.mean(np.isclose(now, then, rtol=1e-4)) >= 0.6


# The plane of covariance and real_ratio.


@pytest.mark.parametrize("loop", studies.LOOPS)
def test_a_plane_is_a_sweep_of_its_loop_at_sixteen_updates(loop):
    how = studies.LOOPS[loop]
    settings = studies.loop_settings(MAIN, loop, "pathwise")
    kept = studies.points(settings)
    assert kept[0] == 0
    assert kept[-1] == settings.updates * settings.collections
    assert settings.n_trajectories * settings.collections == 100
    small = MAIN._replace(horizon=10)
    found = studies.plane(small, loop, "pathwise", 5)
    assert found.shape == (16, len(how.cov), len(how.real_ratio))
    axes = {"cov": how.cov[4:5], "real_ratio": how.real_ratio[2:3]}
    made = studies.loop_settings(small, loop, "pathwise")
    alone = sweep(small.lqr, made, axes, [5]).history.cost[kept]
    close(found[:, 4, 2], alone[:, 0, 0, 0], rtol=1e-6)


def test_only_the_hack_rolls_out_whole_trajectories_where_the_loop_collects():
    lengths = {
        (loop, of): studies.loop_settings(MAIN, loop, of).branch_length
        for loop in ("fixed", "strong")
        for of in ("hack", "dpg")
    }
    assert lengths["fixed", "hack"] == lengths["fixed", "dpg"] == 60
    assert (lengths["strong", "hack"], lengths["strong", "dpg"]) == (60, 5)


def test_a_variant_is_the_loop_with_other_rollouts_and_more_models():
    small = MAIN._replace(horizon=10)
    found = studies.variant(small, "dpg", 0.5, 2, 3, 8)
    settings = replace(
        studies.loop_settings(small, "collecting", "dpg"),
        lag=0.5,
        branch_length=2,
        members=3,
        elites=2,
    )
    alone = sweep(small.lqr, settings, {"real_ratio": (0.0, 0.05, 0.5)}, [8])
    np.testing.assert_array_equal(found, alone.history.cost[-1, :, 0])


def test_an_unknown_loop_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^loop: expected one of .+, found 'other'"):
        studies.loop_settings(MAIN, "other", "dpg")


# Forecasts.


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_mean_cosine_is_that_of_draws(dimension):
    rng = np.random.default_rng(dimension)
    for ratio in (0.05, 0.5, 3.0):
        draws = rng.standard_normal((200_000, dimension)) / np.sqrt(dimension)
        draws[:, 0] += ratio
        cosines = draws[:, 0] / np.linalg.norm(draws, axis=1)
        z = (cosines.mean() - studies.mean_cosine(ratio, dimension)) / (
            cosines.std() / np.sqrt(len(cosines))
        )
        assert abs(z) < 4


def test_the_models_forecast_is_met_by_other_worlds_and_seeds():
    ends = np.array(
        [studies.arrival(HELD_OUT, "model", 1.0, 100, s) for s in range(7000, 7100)]
    )
    measured = np.median(ends) / HELD_OUT.optimum - 1
    assert 0.6 < measured / studies.model_forecast(HELD_OUT, 1.0) < 1.6


def test_forecasts_of_the_critic_are_met_by_seeds_that_no_record_holds():
    settings = studies.loop_settings(MAIN, "fixed", "dpg")
    ratios = (0.0, 0.5, 1.0)
    axes = {"cov": (1.0,), "real_ratio": ratios}
    ends = sweep(MAIN.lqr, settings, axes, range(9000, 9030)).history.cost[-1, 0]
    measured = np.median(ends, axis=-1) / MAIN.optimum - 1
    found = studies.critic_forecast(MAIN, 1.0, ratios)
    ratio = measured / found.excess
    assert (ratio > 0.5).all()
    assert (ratio < 2.0).all()
    assert found.curvature_error[-1] == 0.0  # nothing is drawn afresh


def test_a_critics_forecast_goes_like_one_over_the_data():
    one, four = (
        studies.critic_forecast(MAIN, 1.0, (0.3,), size=size) for size in (100, 400)
    )
    close(one.excess, 4 * four.excess, rtol=1e-9)
    close(one.curvature_error, 2 * four.curvature_error, rtol=1e-9)


def test_the_hacks_forecast_without_noise_is_the_way_of_exact_steps():
    far = studies.hack_forecast(MAIN, (1.0,), (0.0,), size=10**9, updates=30)
    gradient = partial(exact.gradient, MAIN.lqr, cov=1.0)
    rule = descent.of_length(0.05)
    path = descent.descend(MAIN.lqr, MAIN.K0, gradient, rule, updates=30)
    close(far[0, 0], path.cost[-1] / MAIN.optimum - 1, rtol=1e-3)


def test_the_hacks_forecast_is_worse_with_fewer_rows_and_less_noise():
    found = studies.hack_forecast(MAIN, (0.1, 1.0), (0.0, 0.9), updates=12)
    assert (np.diff(found, axis=1) > 0).all()
    assert (np.diff(found, axis=0) < 0).all()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cov", {"cov": 0.0}),
        ("ratios", {"ratios": (1.5,)}),
        ("size", {"size": 0}),
    ],
)
def test_forecasts_refuse_what_they_cannot_foresee_by_name(name, changes):
    given = {"cov": 1.0, "ratios": (0.5,)} | changes
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        studies.critic_forecast(MAIN, **given)
    given["covs"] = (given.pop("cov"),)
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        studies.hack_forecast(MAIN, **given)


def test_with_real_rows_only_the_hacks_forecast_has_nothing_to_say():
    with pytest.raises(ValueError, match=r"^ratios: expected numbers in \[0, 1\)"):
        studies.hack_forecast(MAIN, (1.0,), (1.0,))
