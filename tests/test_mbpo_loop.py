"""MBPO's loop once more, step by step in plain Python, with every setting."""

import dataclasses

import numpy as np
import pytest
from systems import FIRST_GAIN, close, plain_policy, plain_world

from lqrlib import (
    GaussianPolicy,
    LinearPolicy,
    MBPOSettings,
    Status,
    exact,
    observed,
    worlds,
)
from lqrlib.critic import lstdq
from lqrlib.descent import of_length
from lqrlib.gradients import per_decision_is
from lqrlib.mbpo import EXPRESSIONS, mbpo, split_batch, sweep
from lqrlib.model import fit, fit_ensemble
from lqrlib.rollout import (
    Trajectories,
    Transitions,
    concatenate,
    draw_noise,
    draw_starts,
    transitions,
)
from lqrlib.weights import effective_sample_size, log_weights

MAIN = worlds.double_integrator()
RUN = {"n_trajectories": 8, "horizon": 10, "updates": 2, "collections": 3}
every_expression = pytest.mark.parametrize("expression", EXPRESSIONS)


def settings_for(expression="dpg", **changes):
    """Settings that take milliseconds."""
    given = {"K0": FIRST_GAIN, "expression": expression, "real_ratio": 0.4} | RUN
    return MBPOSettings(**(given | changes))


def run(settings, lqr=MAIN, seed=0):
    return mbpo(lqr, settings, np.random.default_rng(seed))


# By hand: one trajectory after the other, one step after the other.


def root(S):
    """Any square root will do for the law, but draws are compared: by eigenvalues."""
    values, vectors = np.linalg.eigh(np.atleast_2d(S))
    return vectors * np.sqrt(np.maximum(values, 0))


def acted(law, K, cov, lqr, starts, noise):
    """Trajectories of N(Kx, cov) under ``law(i, t, x, u, zeta)``."""
    N, T, _ = noise.shape
    x, u = np.empty((N, T + 1, lqr.n)), np.empty((N, T, lqr.m))
    L = root(cov * np.eye(lqr.m) if np.ndim(cov) == 0 else cov)
    for i in range(N):
        x[i, 0] = starts[i]
        for t in range(T):
            u[i, t] = K @ x[i, t] + L @ noise[i, t, : lqr.m]
            x[i, t + 1] = law(i, t, x[i, t], u[i, t], noise[i, t, lqr.m :])
    cost = ((x[:, :-1] @ lqr.Q) * x[:, :-1]).sum(-1) + ((u @ lqr.R) * u).sum(-1)
    made_by = GaussianPolicy(K, cov) if np.any(cov) else LinearPolicy(K)
    return Trajectories(x, u, cost, np.zeros(N, dtype=bool), made_by)


def world_of(lqr, lag):
    """The true law of motion, whose actuator remembers what it did last."""
    carried, L = {}, root(lqr.W)

    def law(i, t, x, u, zeta):
        before = carried[i] if t else np.zeros(lqr.m)
        carried[i] = lag * before + (1 - lag) * u
        return lqr.A @ x + lqr.B @ carried[i] + L @ zeta

    return law


def model_of(members, which):
    """One member for every rollout and step."""

    def law(i, t, x, u, zeta):
        member = members[which[t, i] if which is not None else 0]
        return member.A @ x + member.B @ u + root(member.W) @ zeta

    return law


def by_hand(lqr, settings, seed):
    rng, K = np.random.default_rng(seed), np.asarray(settings.K0, dtype=float)
    N, T, width = settings.n_trajectories, settings.horizon, lqr.m + lqr.n
    parts, gains = [], [K]
    for _ in range(settings.collections):
        starts, noise = draw_starts(lqr, N, rng), draw_noise(N, T, width, rng)
        true = world_of(lqr, settings.lag)
        parts.append(acted(true, K, settings.cov, lqr, starts, noise))
        data = concatenate(parts)
        rows = transitions(data)
        members = [fit(rows)]
        if settings.members > 1:
            members = fit_ensemble(
                rows, settings.members, rng, elites=settings.elites or settings.members
            )
        for _ in range(settings.updates):
            K = K - step_by_hand(lqr, settings, data, members, K, rng)
            gains.append(K)
    world = worlds.with_lag(lqr, settings.lag)
    assert exact.is_stable(world, observed.widen(world, np.array(gains))).all()
    return gains


def step_by_hand(lqr, settings, data, members, K, rng):
    if settings.expression == "model":
        world = members[0].problem(lqr)
        return settings.damping * exact.gauss_newton(world, K)
    T, B = settings.horizon, settings.batch_size or settings.n_trajectories
    k, P = settings.branch_length or T, len(data.cost)
    turns = [rng.permutation(P) for _ in range(-(-B // P))]
    n_real = split_batch(B, settings.real_ratio)[0]
    if settings.mixing == "bernoulli":
        n_real = B if rng.random() < settings.real_ratio else 0
    order = np.concatenate([np.argsort(turn) for turn in turns])[:n_real]
    M = B * T // k
    if k < T:
        t, i = divmod(rng.integers(P * T, size=M), P)
        starts = data.x[i, t]
    else:
        starts = data.x[:, 0] if M == P else data.x[rng.integers(P, size=M), 0]
    noise = draw_noise(M, k, lqr.m + lqr.n, rng)
    which = rng.integers(len(members), size=(k, M)) if len(members) > 1 else None
    count = (B - n_real) * T // k
    law = model_of(members, which)
    fresh = acted(law, K, settings.cov, lqr, starts[:count], noise[:count])
    real = chosen(data, order)
    if settings.expression == "hack":
        return hack_by_hand(lqr, settings, real, fresh, K)
    there = [transitions(part) for part in (real, fresh) if len(part.cost)]
    rows = Transitions(*(np.concatenate(parts) for parts in zip(*there, strict=True)))
    critic = lstdq(lqr, rows, K)
    if settings.expression == "dpg":
        return settings.damping * critic.gauss_newton(K)
    e_real = np.moveaxis(rng.standard_normal((T, lqr.m, P)), -1, 0)[order]
    e_fresh = np.moveaxis(rng.standard_normal((k, lqr.m, M)), -1, 0)[:count]
    e = np.concatenate([part.reshape(-1, lqr.m) for part in (e_real, e_fresh)])
    L = root(settings.cov * np.eye(lqr.m))
    ux, uu = critic.Theta[lqr.n :, : lqr.n], critic.Theta[lqr.n :, lqr.n :]
    actions = rows.x @ K.T + e @ L.T
    slope = (actions @ uu.T + rows.x @ ux.T).T @ rows.x
    return of_length(settings.step_length)(slope, K)


def chosen(data, order):
    """Some of the trajectories, some of them more than once, and who made them."""
    if not len(order):
        return data._replace(cost=data.cost[:0])
    parts = [data.policy.K[order]]
    if isinstance(data.policy, GaussianPolicy):
        parts.append(data.policy.cov[order])
    made_by = type(data.policy)(*parts)
    return Trajectories(*(part[order] for part in data[:4]), made_by)


def hack_by_hand(lqr, settings, real, fresh, K):
    everything = concatenate([part for part in (real, fresh) if len(part.cost)])
    found = per_decision_is(lqr, everything, K, cov=settings.cov, time_baseline=True)
    return of_length(settings.step_length)(found.gradient, K)


VARIANTS = {
    "collecting": {},
    "a batch larger than the pool": {"batch_size": 50},
    "a batch smaller than the pool": {"batch_size": 15},
    "short branches": {"branch_length": 5, "batch_size": 12},
    "an ensemble": {"members": 3, "elites": 2, "branch_length": 5},
    "an ensemble, whole rollouts": {"members": 2},
    "whole batches": {"mixing": "bernoulli", "real_ratio": 0.5},
    "a lag": {"lag": 0.6},
    "everything": {
        "lag": 0.3,
        "members": 3,
        "elites": 2,
        "batch_size": 50,
        "branch_length": 2,
        "mixing": "bernoulli",
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("expression", ["hack", "dpg", "pathwise", "model"])
def test_every_setting_does_what_its_definition_says_to_the_same_draws(
    expression, variant
):
    changes = dict(VARIANTS[variant])
    if expression == "hack":
        changes.pop("branch_length", None)
    if expression == "model":  # an ensemble's plan has tests of its own
        changes = {k: v for k, v in changes.items() if k not in ("members", "elites")}
    changes = {"damping": 0.1, "step_length": 0.02, "n_trajectories": 20} | changes
    settings = settings_for(expression, **changes)
    expected = np.array(by_hand(MAIN, settings, seed=5))
    found = run(settings, seed=5)
    assert np.abs(np.diff(expected, axis=0)).max() > 1e-3
    close(found.K, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("expression", ["hack", "dpg", "pathwise"])
def test_it_does_so_with_three_states_and_two_actions(expression):
    lqr, (K, _) = plain_world(gamma=0.7), plain_policy()
    changes = {"members": 2, "n_trajectories": 30, "lag": 0.2, "collections": 2}
    settings = settings_for(expression, K0=K, damping=0.1, step_length=0.02, **changes)
    close(run(settings, lqr, seed=1).K, by_hand(lqr, settings, seed=1), rtol=1e-6)


# What collecting again means.


@every_expression
def test_a_path_has_all_updates_of_all_collections(expression):
    history = run(settings_for(expression))
    assert history.K.shape == (7, 1, 2)
    assert history.rank.shape == history.real_ratio.shape == (6,)
    assert history.condition.shape == history.effective_sample_size.shape == (6,)
    assert history.model_error.shape == (3,)


def test_the_model_error_is_that_of_least_squares_and_falls_with_the_pool():
    settings = settings_for("model", n_trajectories=200, collections=4, updates=1)
    errors = np.array([run(settings, seed=s).model_error for s in range(40)])
    medians = np.median(errors, axis=0)
    assert 1.4 < medians[0] / medians[-1] < 3  # four times the data halve it
    rng = np.random.default_rng(3)
    starts, noise = draw_starts(MAIN, 200, rng), draw_noise(200, 10, 3, rng)
    data = acted(world_of(MAIN, 0.0), FIRST_GAIN, 1.0, MAIN, starts, noise)
    model, truth = fit(transitions(data)), np.hstack([MAIN.A, MAIN.B])
    off = np.hstack([model.A, model.B]) - truth
    close(errors[3, 0], np.linalg.norm(off) / np.linalg.norm(truth), rtol=1e-9)


def test_the_effective_sample_size_is_that_of_the_real_rows():
    settings = settings_for("hack", real_ratio=1.0, collections=1, updates=3)
    history = run(settings, seed=2)
    rng = np.random.default_rng(2)
    starts, noise = draw_starts(MAIN, 8, rng), draw_noise(8, 10, 3, rng)
    data = acted(world_of(MAIN, 0.0), FIRST_GAIN, 1.0, MAIN, starts, noise)
    for u in range(3):
        log_w = log_weights(data, GaussianPolicy(history.K[u], 1.0))[:, -1]
        expected = effective_sample_size(log_w) / 8
        close(history.effective_sample_size[u], expected, rtol=1e-9)
    assert history.effective_sample_size[0] == pytest.approx(1.0)
    assert history.effective_sample_size[2] < 0.999


@pytest.mark.parametrize(("expression", "ratio"), [("dpg", 0.5), ("hack", 0.0)])
def test_without_weights_or_real_rows_every_row_counts_in_full(expression, ratio):
    history = run(settings_for(expression, real_ratio=ratio))
    np.testing.assert_array_equal(history.effective_sample_size, 1.0)


def test_the_condition_is_that_of_the_critic():
    settings = settings_for("dpg", real_ratio=1.0, collections=1, updates=1)
    rng = np.random.default_rng(0)
    starts, noise = draw_starts(MAIN, 8, rng), draw_noise(8, 10, 3, rng)
    data = acted(world_of(MAIN, 0.0), FIRST_GAIN, 1.0, MAIN, starts, noise)
    expected = lstdq(MAIN, transitions(data), FIRST_GAIN).condition
    close(run(settings).condition, [expected], rtol=1e-6)


def test_without_noise_a_refused_gain_collects_the_same_again_and_stays_refused():
    settings = settings_for("dpg", cov=0.0, real_ratio=1.0)
    history = run(settings)
    assert history.status == Status.REFUSED
    np.testing.assert_array_equal(history.rank, 4)
    named = str(history.reason)
    assert named.startswith("refused: the critic's features have rank 4 of 7")


def test_reasons_of_other_ends_are_those_of_every_history():
    result = sweep(
        MAIN,
        settings_for("dpg", collections=1, updates=30, n_trajectories=100),
        {"cov": [0.0, 1.0], "real_ratio": [0.0]},
        [0],
    )
    refused, arrived = result.history.reason[:, 0, 0]
    assert refused.startswith("refused")
    assert arrived.startswith("ended within")


# Edges of real_ratio, as in the original's code.


@pytest.mark.parametrize(
    ("ratio", "n_real"),
    [(0.0, 0), (1 / 8 - 1e-9, 0), (0.05, 0), (0.5, 4), (1 - 1e-9, 7), (1.0, 8)],
)
@every_expression
def test_every_edge_of_the_ratio_runs_and_reports_its_effective_share(
    expression, ratio, n_real
):
    history = run(settings_for(expression, real_ratio=ratio))
    np.testing.assert_array_equal(history.real_ratio, n_real / 8)
    assert np.isfinite(history.K).all()
    assert (history.cost[1:] != history.cost[0]).all()


@pytest.mark.parametrize(("ratio", "n_real"), [(0.0, 0), (0.999, 0), (1.0, 1)])
@every_expression
def test_a_batch_of_one_is_real_or_not(expression, ratio, n_real):
    history = run(settings_for(expression, real_ratio=ratio, batch_size=1))
    np.testing.assert_array_equal(history.real_ratio, n_real)
    assert np.isfinite(history.K).all()


def test_whole_batches_are_real_as_often_as_the_ratio_says():
    settings = settings_for(
        "dpg", mixing="bernoulli", real_ratio=0.3, updates=400, collections=1
    )
    shares = run(settings).real_ratio
    assert set(shares) == {0.0, 1.0}
    assert abs(shares.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 400)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_at_the_ends_both_mixings_are_one(ratio):
    one, other = (
        run(settings_for("model", real_ratio=ratio, mixing=mixing))
        for mixing in ("stratified", "bernoulli")
    )
    np.testing.assert_array_equal(one.K, other.K)


# A lag that nobody knows of.


def test_the_cost_under_a_lag_is_exact_and_compared_with_the_best_that_sees_as_much():
    settings = settings_for("dpg", lag=0.5, n_trajectories=100, updates=10)
    history, world = run(settings), worlds.with_lag(MAIN, 0.5)
    close(history.cost, exact.cost(world, observed.widen(world, history.K)))
    best = observed.best_gain(world, FIRST_GAIN)
    least = exact.cost(world, observed.widen(world, best))
    assert (history.cost >= least * (1 - 1e-9)).all()
    assert (history.status == Status.CONVERGED) == (history.cost[-1] <= 1.01 * least)


def test_a_first_gain_that_the_lag_makes_unstable_is_diverged_from_the_start():
    K = np.array([[-60.0, -16.0]])
    assert exact.is_stable(MAIN, K)
    history = run(settings_for("dpg", K0=K, lag=0.9))
    assert history.status == Status.DIVERGED
    np.testing.assert_array_equal(history.cost, np.inf)


# One program for a grid.


@every_expression
def test_cells_of_a_collecting_sweep_are_their_own_mbpo_bit_for_bit(expression):
    settings = settings_for(expression, members=3, elites=2, lag=0.3, batch_size=12)
    axes = {"real_ratio": [0.0, 0.4, 1.0], "cov": [0.3, 1.0], "mixing": list(MIXED)}
    result = sweep(MAIN, settings, axes, [2, 3])
    for cell in np.ndindex(3, 2, 2, 2):
        values = {name: axes[name][i] for name, i in zip(axes, cell[:-1], strict=True)}
        alone = run(dataclasses.replace(settings, **values), seed=(2, 3)[cell[-1]])
        np.testing.assert_array_equal(result.history.K[:, *cell], alone.K)
        np.testing.assert_array_equal(
            result.history.model_error[:, *cell], alone.model_error
        )


MIXED = ("stratified", "bernoulli")
