"""MBPO: its update written out a second time, its edge cases, and the grid of many."""

import concurrent.futures
import dataclasses
import itertools
import multiprocessing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from systems import (
    FIRST_GAIN,
    close,
    gaussian_data,
    plain_policy,
    plain_world,
    spd,
    system,
)

from lqrlib import GaussianPolicy, LinearPolicy, MBPOSettings, Status, exact, worlds
from lqrlib.critic import feature_count, lstdq
from lqrlib.descent import descend, of_length
from lqrlib.gradients import gauss_newton_dpg, per_decision_is
from lqrlib.mbpo import EXPRESSIONS, mbpo, split_batch, sweep
from lqrlib.model import fit
from lqrlib.rollout import (
    Trajectories,
    Transitions,
    concatenate,
    draw_noise,
    rollout,
    transitions,
)

MAIN = worlds.double_integrator()
WORLDS = {
    "double integrator": (MAIN, FIRST_GAIN, 1.0),
    "three states, two actions": (plain_world(gamma=0.7), *plain_policy()),
}
every_expression = pytest.mark.parametrize("expression", EXPRESSIONS)


def small(expression="dpg", **changes):
    """Settings that take milliseconds."""
    sizes = {"n_trajectories": 12, "horizon": 10, "updates": 4}
    return MBPOSettings(
        **({"K0": FIRST_GAIN, "expression": expression} | sizes | changes)
    )


def run(settings, lqr=MAIN, seed=0):
    return mbpo(lqr, settings, np.random.default_rng(seed))


# How a batch is split.


@pytest.mark.parametrize(
    ("size", "ratio", "split"),
    [
        (256, 0.05, (12, 244)),  # the original's batch: 4.7 %, not 5 %
        (256, 0, (0, 256)),
        (256, 1, (256, 0)),
        (256, 0.003, (0, 256)),
        (10, 0.05, (0, 10)),
        (3, 0.99, (2, 1)),
        (1, 1.0, (1, 0)),
    ],
)
def test_a_batch_is_split_as_in_the_original(size, ratio, split):
    assert split_batch(size, ratio) == split


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 1))
@hypothesis_settings(derandomize=True)
def test_the_parts_of_a_batch_add_up_and_grow_with_their_share(size, one, other):
    low, high = (split_batch(size, ratio) for ratio in sorted((one, other)))
    for n_real, n_model in (low, high):
        assert n_real + n_model == size
        assert min(n_real, n_model) >= 0
    assert low[0] <= high[0] <= size * max(one, other)


@pytest.mark.parametrize(
    "ratio", [-0.01, 1.01, np.nan, np.inf, True, "0.5", None, [0.5]]
)
def test_a_share_outside_zero_to_one_is_refused_by_name(ratio):
    with pytest.raises(ValueError, match=r"^real_ratio: expected .+, found .+"):
        split_batch(10, ratio)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_a_batch_that_is_no_count_is_refused_by_name(size):
    with pytest.raises(ValueError, match=r"^batch_size: expected .+, found .+"):
        split_batch(size, 0.5)


# One path, written out a second time from the public parts.


def policy(K, cov):
    return GaussianPolicy(K, cov) if np.any(cov) else LinearPolicy(K)


def some_of(data, mask):
    return Trajectories(*(part[mask] for part in data[:4]), data.policy)


def by_hand(lqr, settings, seed):
    """The gains of `mbpo`, one update at a time."""
    rng, K = np.random.default_rng(seed), np.asarray(settings.K0)
    N, T = settings.n_trajectories, settings.horizon
    data = rollout(lqr, policy(K, settings.cov), N, T, rng)
    model = fit(transitions(data)).problem(lqr)
    gains = [K]
    for _ in range(settings.updates):
        real, imagined = batch_by_hand(data, model, K, settings, rng)
        if settings.expression == "hack":
            everything = concatenate([real, imagined])
            found = per_decision_is(
                lqr, everything, K, cov=settings.cov, time_baseline=True
            )
            change = of_length(settings.step_length)(found.gradient, found.gradient)
        else:
            pair = zip(transitions(real), transitions(imagined), strict=True)
            rows = Transitions(*(np.concatenate(parts) for parts in pair))
            change = settings.damping * lstdq(lqr, rows, K).gauss_newton(K)
        K = K - change
        gains.append(K)
    return gains


def batch_by_hand(data, model, K, settings, rng):
    """Real trajectories drawn without replacement, and the model's from real states."""
    N, T = data.cost.shape
    n_real, n_model = split_batch(N, settings.real_ratio)
    real = some_of(data, rng.permutation(N) < n_real)
    k = settings.branch_length or T
    starts = data.x[:, 0]
    if k < T:
        t, i = divmod(rng.integers(N * T, size=N * T // k), N)
        starts = data.x[i, t]
    noise = draw_noise(N * T // k, k, model.m + model.n, rng)
    rows = n_model * T // k
    imagined = rollout(
        model,
        policy(K, settings.cov),
        rows,
        k,
        rng,
        x0=starts[:rows],
        noise=noise[:rows],
    )
    return real, imagined


@pytest.mark.parametrize("real_ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("expression", "branch_length"),
    [("hack", None), ("dpg", None), ("dpg", 10), ("dpg", 5), ("dpg", 1)],
)
@pytest.mark.parametrize("world", WORLDS)
def test_a_path_is_what_its_definition_makes_of_the_same_draws(
    world, expression, branch_length, real_ratio
):
    lqr, K, cov = WORLDS[world]
    settings = small(
        expression,
        K0=K,
        cov=cov,
        real_ratio=real_ratio,
        n_trajectories=30,
        updates=2,
        branch_length=branch_length,
        step_length=0.02,
        damping=0.1,
    )
    expected = by_hand(lqr, settings, seed=3)
    found = run(settings, lqr, seed=3)
    assert np.abs(np.diff(expected, axis=0)).max() > 1e-3
    close(found.K, expected, rtol=1e-7, atol=1e-8)
    close(found.cost, exact.cost(lqr, found.K), rtol=1e-12)


def real_data(settings, lqr=MAIN, seed=0):
    """The data that `run` collects: the first thing that it draws."""
    N, T = settings.n_trajectories, settings.horizon
    return gaussian_data(lqr, settings.K0, settings.cov, N, T, seed)


def test_with_real_rows_only_the_hack_is_the_sanity_check():
    settings = small("hack", real_ratio=1.0, n_trajectories=40)
    data = real_data(settings)
    path = descend(
        MAIN,
        FIRST_GAIN,
        lambda K: per_decision_is(MAIN, data, K, cov=1.0, time_baseline=True),
        of_length(settings.step_length),
        updates=4,
    )
    close(run(settings).K, path.K, rtol=1e-9)


def test_with_real_rows_only_dpg_is_damped_policy_iteration_on_the_data():
    settings = small("dpg", real_ratio=1.0, n_trajectories=40, damping=0.3)
    data = real_data(settings)
    path = descend(
        MAIN, FIRST_GAIN, lambda K: gauss_newton_dpg(MAIN, data, K), 0.3, updates=4
    )
    close(run(settings).K, path.K, rtol=1e-7)


@pytest.mark.parametrize("real_ratio", [0.0, 0.3, 1.0])
def test_the_model_expression_plans_with_the_fitted_model_whatever_the_ratio(
    real_ratio,
):
    settings = small("model", real_ratio=real_ratio, damping=0.3, n_trajectories=40)
    model = fit(transitions(real_data(settings))).problem(MAIN)
    path = descend(
        model, FIRST_GAIN, lambda K: exact.gauss_newton(model, K), 0.3, updates=4
    )
    history = run(settings)
    close(history.K, path.K, rtol=1e-9)
    close(history.cost, exact.cost(MAIN, path.K), rtol=1e-9)


def test_with_the_models_rows_only_the_real_ones_play_no_part_but_as_starts():
    # The same draws with r = 0 by hand: a batch without any real trajectory.
    for expression in ("hack", "dpg"):
        settings = small(expression, real_ratio=0.0, updates=1)
        rng = np.random.default_rng(0)
        data = rollout(MAIN, GaussianPolicy(FIRST_GAIN, 1.0), 12, 10, rng)
        model = fit(transitions(data)).problem(MAIN)
        _, imagined = batch_by_hand(data, model, FIRST_GAIN, settings, rng)
        if expression == "hack":
            found = per_decision_is(
                MAIN, imagined, FIRST_GAIN, cov=1.0, time_baseline=True
            )
            change = of_length(0.05)(found.gradient, found.gradient)
        else:
            change = 0.5 * gauss_newton_dpg(MAIN, imagined, FIRST_GAIN).gradient
        close(run(settings).K[1], FIRST_GAIN - change, rtol=1e-8)


def test_steps_of_the_hack_have_their_length():
    history = run(small("hack", real_ratio=0.5, step_length=0.03))
    lengths = np.linalg.norm(np.diff(history.K, axis=0), axis=(-2, -1))
    close(lengths, 0.03, rtol=1e-12)


@pytest.mark.parametrize(
    ("expression", "updates"), [("dpg", 15), ("model", 15), ("pathwise", 60)]
)
def test_with_plenty_of_data_the_path_arrives(expression, updates):
    settings = small(expression, n_trajectories=300, horizon=40, updates=updates)
    assert run(settings).status == Status.CONVERGED


def test_branched_rollouts_arrive_as_well():
    settings = small(n_trajectories=300, horizon=40, updates=15, branch_length=5)
    assert run(settings).status == Status.CONVERGED


# What a history records.


@pytest.mark.parametrize(
    ("n_trajectories", "asked", "effective"),
    [(12, 0.05, 0.0), (12, 0.3, 0.25), (4, 1, 1)],
)
def test_the_effective_ratio_is_recorded(n_trajectories, asked, effective):
    settings = small("hack", n_trajectories=n_trajectories, real_ratio=asked)
    np.testing.assert_array_equal(run(settings).real_ratio, [effective] * 4)


def test_the_rank_of_the_critic_is_recorded_at_every_update():
    for expression, rank in {"hack": 0, "dpg": 7, "pathwise": 7, "model": 0}.items():
        history = run(small(expression))
        assert history.K.shape == (5, 1, 2)
        np.testing.assert_array_equal(history.rank, [rank] * 4)


def test_model_rows_of_a_deterministic_policy_are_refused_and_the_gain_stands_still():
    history = run(small(cov=0.0, real_ratio=0.0))
    assert history.status == Status.REFUSED
    assert "rank 4 of 7 in the last batch" in str(history.reason)
    np.testing.assert_array_equal(history.condition, np.inf)
    np.testing.assert_array_equal(history.rank, [4] * 4)
    np.testing.assert_array_equal(history.K, [FIRST_GAIN] * 5)
    np.testing.assert_array_equal(history.cost, [history.cost[0]] * 5)


def test_the_hack_without_a_covariance_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^cov: expected a positive definite"):
        run(small("hack", cov=0.0))


def test_a_run_that_is_lost_keeps_finite_gains_and_an_infinite_cost():
    history = run(small("hack", step_length=30.0))
    assert history.status == Status.DIVERGED
    assert np.isfinite(history.K).all()
    assert history.cost[-1] == np.inf
    left = int(np.argmax(~np.isfinite(history.cost)))
    assert left > 0
    np.testing.assert_array_equal(history.cost[left:], np.inf)
    np.testing.assert_array_equal(history.K[left:], [history.K[left]] * (5 - left))


def assert_no_nan(history):
    for part in (history.K, history.cost, history.real_ratio):
        assert not np.isnan(part).any()
    assert np.isfinite(history.K).all()


@every_expression
def test_no_cell_of_a_harsh_grid_holds_nan(expression):
    settings = small(expression, step_length=0.5, n_trajectories=3)
    axes = {"cov": [1e-12, 1e-4, 1.0, 1e6], "real_ratio": [0.0, 0.4, 1.0]}
    result = sweep(MAIN, settings, axes, range(5))
    assert_no_nan(result.history)


@every_expression
def test_a_first_gain_that_is_unstable_is_diverged_from_the_start(expression):
    history = run(small(expression, K0=-10.0 * FIRST_GAIN))
    assert history.status == Status.DIVERGED
    np.testing.assert_array_equal(history.K, [-10.0 * FIRST_GAIN] * 5)
    np.testing.assert_array_equal(history.cost, np.inf)


def test_a_first_gain_that_leaves_the_floats_does_not_crash():
    assert_no_nan(run(small(K0=-5000.0 * FIRST_GAIN, horizon=100)))


@pytest.mark.parametrize("real_ratio", [0.0, 0.5])
def test_a_model_that_diverges_in_imagination_does_not_crash(real_ratio):
    lqr = worlds.laplacian()
    settings = small(
        K0=-0.5 * np.eye(3),
        cov=1e-6,
        n_trajectories=2,
        horizon=600,
        real_ratio=real_ratio,
        damping=1.0,
    )
    result = sweep(lqr, settings, {}, range(5))
    assert_no_nan(result.history)


def without_the_model():
    """Settings whose fitted model diverges in imagination, and the path without it."""
    settings = small(
        cov=1e-4, n_trajectories=2, horizon=2000, real_ratio=1.0, damping=1.0
    )
    data = real_data(settings, seed=1)
    path = descend(
        MAIN, FIRST_GAIN, lambda K: gauss_newton_dpg(MAIN, data, K), 1.0, updates=4
    )
    return settings, path.K


def test_with_real_rows_only_a_model_that_diverges_plays_no_part():
    settings, path = without_the_model()
    close(run(settings, seed=1).K, path, rtol=1e-5)


def test_nor_does_it_beside_cells_that_use_it():
    settings, path = without_the_model()
    result = sweep(MAIN, settings, {"real_ratio": [0.0, 1.0]}, [1])
    close(result.history.K[:, 1, 0], path, rtol=1e-5)
    assert_same(at(result.history, (1, 0)), run(settings, seed=1))


def test_no_action_at_all_is_refused_and_not_a_crash():
    lqr, _, _ = system(3, 2)
    history = run(small(K0=np.zeros((2, 3)), cov=0.0, real_ratio=0.0), lqr)
    assert history.status == Status.REFUSED


# The grid of many.

BY_TIME = ("K", "cost", "real_ratio", "rank", "condition")
BY_TIME += ("effective_sample_size", "model_error")


def assert_same(one, other):
    for name in ("status", "reason", *BY_TIME):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def at(history, cell):
    """One cell of a history over a grid."""
    parts = {name: getattr(history, name)[:, *cell] for name in BY_TIME}
    return dataclasses.replace(history, status=history.status[cell], **parts)


GRID = {
    "cov": [0.1, 1.0, 10.0],
    "n_trajectories": [5, 12],
    "real_ratio": [0.0, 0.3, 1.0],
}
ORDERS = list(itertools.permutations(GRID))


@pytest.mark.parametrize("order", ORDERS[::2], ids="-".join)
@every_expression
def test_every_cell_of_a_sweep_is_its_own_mbpo_bit_for_bit(expression, order):
    axes, seeds = {name: GRID[name] for name in order}, (4, 7)
    settings = small(expression, updates=3, horizon=7)
    result = sweep(MAIN, settings, axes, seeds)
    assert list(result.axes) == list(order)
    sizes = [len(GRID[name]) for name in order]
    assert result.history.K.shape == (4, *sizes, 2, 1, 2)
    assert result.history.cost.shape == (4, *sizes, 2)
    for part in BY_TIME[2:-1]:
        assert getattr(result.history, part).shape == (3, *sizes, 2)
    assert result.history.model_error.shape == (1, *sizes, 2)
    assert result.history.status.shape == (*sizes, 2)
    for cell in np.ndindex(*sizes, 2):
        *place, s = cell
        values = {name: axes[name][i] for name, i in zip(order, place, strict=True)}
        alone = run(dataclasses.replace(settings, **values), seed=seeds[s])
        assert_same(at(result.history, cell), alone)


@pytest.mark.parametrize(
    "axes",
    [
        {"branch_length": [None, 5, 2]},
        {"expression": list(EXPRESSIONS)},
        {"cov": [0.5, 2.0]},
        {"real_ratio": [0.2]},
        {"damping": [0.1, 0.9], "cov": [0.5, 2.0]},
        {"step_length": [0.1, 0.2], "horizon": [4, 10]},
        {},
    ],
    ids=lambda axes: "-".join(axes) or "none",
)
def test_any_setting_can_be_an_axis(axes):
    settings = small(updates=2)
    result = sweep(MAIN, settings, axes, [3])
    sizes = [len(values) for values in axes.values()]
    assert result.history.status.shape == (*sizes, 1)
    for place in np.ndindex(*sizes):
        values = {n: v[i] for (n, v), i in zip(axes.items(), place, strict=True)}
        alone = run(dataclasses.replace(settings, **values), seed=3)
        assert_same(at(result.history, (*place, 0)), alone)


def test_covariances_of_an_axis_may_be_matrices():
    lqr, K, cov = system(3, 2)
    settings = small(K0=K, updates=2, n_trajectories=30)
    covs = [cov, spd(2, np.random.default_rng(0)), 0.5]
    result = sweep(lqr, settings, {"cov": covs}, [1])
    for i, each in enumerate(covs):
        alone = run(dataclasses.replace(settings, cov=each), lqr, seed=1)
        assert_same(at(result.history, (i, 0)), alone)


def test_seeds_are_what_generators_are_made_from_and_they_differ():
    result = sweep(MAIN, small(), {}, [5, 6, 5])
    assert result.seeds == (5, 6, 5)
    first, other, again = (at(result.history, (i,)) for i in range(3))
    assert_same(first, again)
    assert (first.K[1:] != other.K[1:]).all()


@every_expression
def test_who_runs_the_blocks_changes_no_bit(expression):
    axes = {"cov": [0.1, 1.0], "n_trajectories": [5, 12], "real_ratio": [0.0, 1.0]}
    settings = small(expression)
    here = sweep(MAIN, settings, axes, [1, 2])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        there = sweep(MAIN, settings, axes, [1, 2], executor=pool)
    assert_same(here.history, there.history)


def test_other_processes_change_no_bit_either():
    axes = {"expression": list(EXPRESSIONS), "real_ratio": [0.0, 0.5, 1.0]}
    here = sweep(MAIN, small(), axes, [1])
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fresh) as pool:
        there = sweep(MAIN, small(), axes, [1], executor=pool)
    assert_same(here.history, there.history)


def test_progress_counts_the_blocks():
    counts = []
    axes = {"n_trajectories": [5, 12], "cov": [0.1, 1.0, 10.0]}
    sweep(MAIN, small(), axes, [1, 2], progress=lambda *count: counts.append(count))
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]


# What is refused.


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("expression", {"expression": "Hack"}),
        ("expression", {"expression": None}),
        ("n_trajectories", {"n_trajectories": 0}),
        ("n_trajectories", {"n_trajectories": 10.0}),
        ("horizon", {"horizon": -1}),
        ("horizon", {"horizon": True}),
        ("updates", {"updates": 0}),
        ("step_length", {"step_length": 0.0}),
        ("step_length", {"step_length": np.nan}),
        ("damping", {"damping": -0.5}),
        ("damping", {"damping": "0.5"}),
        ("real_ratio", {"real_ratio": 1.5}),
        ("real_ratio", {"real_ratio": -0.1}),
        ("real_ratio", {"real_ratio": np.nan}),
        ("real_ratio", {"real_ratio": True}),
        ("collections", {"collections": 0}),
        ("batch_size", {"batch_size": 0}),
        ("members", {"members": 0}),
        ("elites", {"members": 3, "elites": 4}),
        ("elites", {"members": 3, "elites": 0}),
        ("mixing", {"mixing": "shuffled"}),
        ("lag", {"lag": 1.0}),
        ("lag", {"lag": -0.1}),
        ("branch_length", {"branch_length": 3}),
        ("branch_length", {"branch_length": 0}),
        ("branch_length", {"branch_length": 20}),
        ("branch_length", {"branch_length": 2.0}),
        ("branch_length", {"branch_length": 5, "expression": "hack"}),
    ],
    ids=str,
)
def test_bad_settings_are_refused_by_name(name, changes):
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        small(**changes)


def test_the_hack_may_name_its_whole_horizon():
    assert_same(run(small("hack", branch_length=10)), run(small("hack")))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cov", {"cov": -1.0}),
        ("cov", {"cov": np.eye(2)}),
        ("cov", {"cov": [1.0]}),
        ("K0", {"K0": [[1.0, 2.0, 3.0]]}),
        ("K0", {"K0": [[np.nan, 1.0]]}),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_world_are_refused_by_name(name, changes):
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        run(small(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"K0": [FIRST_GAIN] * 2}, {"cov": np.ones((2, 1, 1))}],
    ids=["K0", "cov"],
)
def test_a_batch_where_one_is_meant_is_refused_by_name(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=rf"^{name[:1]}.*: expected .+, found .+"):
        run(small(**changes))


@pytest.mark.parametrize("rng", [None, 0, np.random.RandomState(0)])
def test_a_seed_is_no_generator(rng):
    with pytest.raises(ValueError, match=r"^rng: expected .+, found .+"):
        mbpo(MAIN, small(), rng)


@pytest.mark.parametrize(
    ("words", "axes", "seeds"),
    [
        ("axes: expected names among", {"sigma": [1.0]}, [0]),
        ("axes: expected names among", {"updates": [1, 2]}, [0]),
        ("axes: expected names among", {"K0": [FIRST_GAIN]}, [0]),
        ("axes: expected names among", {"lag": [0.0, 0.5]}, [0]),
        ("axes: expected names among", {"collections": [1, 2]}, [0]),
        (r"axes\['cov'\]: expected at least one", {"cov": []}, [0]),
        ("real_ratio: expected", {"real_ratio": [0.5, 1.5]}, [0]),
        ("cov: expected", {"cov": [1.0, -1.0]}, [0]),
        ("horizon: expected", {"horizon": [5, 0]}, [0]),
        ("seeds: expected at least one", {}, []),
    ],
)
def test_bad_grids_are_refused_by_name(words, axes, seeds):
    with pytest.raises(ValueError, match=rf"^{words}.*found"):
        sweep(MAIN, small(), axes, seeds)


def test_the_hack_in_a_grid_needs_a_covariance_in_every_cell():
    with pytest.raises(ValueError, match=r"^cov: expected a positive definite"):
        sweep(MAIN, small("hack"), {"cov": [0.0, 1.0]}, [0])


@pytest.mark.parametrize(
    ("name", "axes", "seeds"),
    [("axes", {"cov": 1.0}, [0]), ("seeds", {}, 5), ("seeds", {}, [-1])],
    ids=["axes", "one seed", "a negative seed"],
)
def test_grids_of_another_kind_are_refused_by_name(name, axes, seeds):
    with pytest.raises(ValueError, match=rf"^{name}.*: expected .+, found .+"):
        sweep(MAIN, small(), axes, seeds)


def test_full_rank_is_what_the_features_need():
    assert run(small()).rank[0] == feature_count(MAIN)
