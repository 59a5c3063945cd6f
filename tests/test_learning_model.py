"""What the chapter on learning the model claims, in worlds that it does not show."""

import dataclasses

import numpy as np
import pytest
from systems import FIRST_GAINS, MOST, NAMED, SYSTEMS, close, system

from lqrlib import GaussianPolicy, LinearPolicy, ensemble, exact, model, observed, rates
from lqrlib import finite_horizon as stages
from lqrlib.rollout import Transitions, concatenate, rollout, transitions
from lqrlib.worlds import double_integrator, with_lag

in_every_world = pytest.mark.parametrize("world", FIRST_GAINS)
SIZES = pytest.mark.parametrize(("n", "m"), [(2, 1), (2, 2), (3, 2), (2, 3), (2, 5)])


def off(fitted, lqr):
    return np.concatenate([fitted.A - lqr.A, fitted.B - lqr.B], axis=-1)


def moments(lqr, K, cov, horizon):
    """The sum over t < T of E[x_t x_t'], without discount."""
    forever = dataclasses.replace(lqr, gamma=1.0)
    gains = stages.constant(forever, K, horizon)
    return stages.state_moments(forever, gains, cov)[:horizon].sum(axis=0)


def gram(lqr, K, cov, horizon):
    """The mean of Z'Z for one trajectory of N(Kx, cov)."""
    plane = np.vstack([np.eye(lqr.n), K])
    total = plane @ moments(lqr, K, cov, horizon) @ plane.T
    total[lqr.n :, lqr.n :] += horizon * cov * np.eye(lqr.m)
    return total


def whitened(error, W, G):
    """Errors of (A, B) with the covariance W ⊗ G⁻¹ divided out."""
    return np.linalg.solve(np.linalg.cholesky(W), error) @ np.linalg.cholesky(G)


@in_every_world
@pytest.mark.parametrize("cov", [0.01, 1.0])
def test_errors_have_the_law_that_state_moments_predict(world, cov):
    lqr, K, N, T, sets = NAMED[world](), FIRST_GAINS[world], 100, 20, 1000
    many = GaussianPolicy(np.broadcast_to(K, (sets, *K.shape)), cov)
    data = rollout(lqr, many, N, T, np.random.default_rng(3))
    fitted = model.fit(transitions(data))
    scores = whitened(off(fitted, lqr), lqr.W, N * gram(lqr, K, cov, T))
    flat = scores.reshape(sets, -1)
    second = flat[:, :, None] * flat[:, None, :] - np.eye(flat.shape[1])
    size = np.square(flat).mean(axis=1) - 1.0
    for found in (second, size):  # Z'Z is random, which leaves terms like 1/N
        error = found.std(axis=0) / np.sqrt(sets)
        assert (np.abs(found.mean(axis=0)) < MOST * error + 2 / N).all()


@SYSTEMS
def test_closed_loop_and_B_err_apart_and_A_errs_by_both(n, m):
    lqr, K, _ = system(n, m)
    S, inverse = moments(lqr, K, 0.3, 12), np.linalg.inv(gram(lqr, K, 0.3, 12))
    loop, B = np.vstack([np.eye(n), K]), np.eye(n + m)[:, n:]
    close(loop.T @ inverse @ loop, np.linalg.inv(S), rtol=1e-8, atol=1e-10)
    close(B.T @ inverse @ B, np.eye(m) / (0.3 * 12), rtol=1e-8, atol=1e-10)
    close(loop.T @ inverse @ B, 0.0, rtol=0, atol=1e-9)
    A = np.linalg.inv(S) + K.T @ K / (0.3 * 12)
    close(inverse[:n, :n], A, rtol=1e-8, atol=1e-10)


@SIZES
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_gains_identify_the_model_where_their_differences_have_rank_m(n, m, rank):
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng([n, m, rank])
    basis = rng.standard_normal((m, min(rank, m)))  # differences stay in its range
    gains = [K] + [
        K + 0.1 * basis @ rng.standard_normal((basis.shape[1], n)) for _ in range(3)
    ]
    parts = [rollout(lqr, LinearPolicy(gain), 20, 6, rng) for gain in gains]
    found = model.fit(transitions(concatenate(parts)))
    assert np.isfinite(found.condition) == (rank >= m)


@SYSTEMS
def test_the_closed_loop_alone_gives_the_cost_but_not_the_gradient(n, m):
    lqr, K, cov = system(n, m)
    other_B = lqr.B + np.random.default_rng(0).standard_normal((n, m))
    other = dataclasses.replace(lqr, A=lqr.A + (lqr.B - other_B) @ K, B=other_B)
    close(exact.cost(other, K), exact.cost(lqr, K), rtol=1e-8)
    slopes = exact.gradient(other, K), exact.gradient(lqr, K)
    assert np.linalg.norm(slopes[0] - slopes[1]) > 0.01 * np.linalg.norm(slopes[1])
    assert not np.isclose(exact.cost(other, K, cov), exact.cost(lqr, K, cov))


@in_every_world
def test_a_wrong_model_costs_its_error_squared_with_the_known_constant(world):
    lqr, rng = NAMED[world](), np.random.default_rng(5)
    best = exact.optimal_gain(lqr)
    C, X = rates.curvature(lqr, best), exact.state_moment(lqr, best)
    dA, dB = rng.standard_normal(lqr.A.shape), rng.standard_normal(lqr.B.shape)

    def plan(step):
        moved = dataclasses.replace(lqr, A=lqr.A + step * dA, B=lqr.B + step * dB)
        return exact.optimal_gain(moved)

    slope = (plan(1e-5) - plan(-1e-5)) / 2e-5
    constant = np.trace(slope.T @ C @ slope @ X)
    rise = [
        exact.cost(lqr, plan(step)) - exact.cost(lqr, best) for step in (1e-3, -1e-3)
    ]
    close(np.mean(rise) / 1e-6, constant, rtol=1e-2)  # odd orders cancel


@in_every_world
def test_members_scatter_like_a_fit_to_the_rows_that_are_left(world):
    lqr, K, groups, sets = NAMED[world](), FIRST_GAINS[world], 40, 10
    many = GaussianPolicy(np.broadcast_to(K, (sets, *K.shape)), 1.0)
    law = np.linalg.inv(gram(lqr, K, 1.0, 20)) / 20
    spread = []
    for group in range(groups):
        rng = np.random.default_rng(group)
        rows = transitions(rollout(lqr, many, 20, 20, rng))
        members = ensemble.stack(model.fit_ensemble(rows, 7, rng))
        B = members.B.var(axis=0, ddof=1) / np.diag(law)[lqr.n :]
        spread.append((B / np.diag(lqr.W)[:, None]).mean())
    error = np.std(spread) / np.sqrt(groups)
    # Of 320 rows, terms of relative size 1/320 times some leverage stay.
    assert abs(np.mean(spread) - 1.25) < MOST * error + 0.03


def test_members_agree_on_a_model_that_more_data_do_not_improve():
    lqr, K = double_integrator(), FIRST_GAINS["double_integrator"]
    world = with_lag(lqr, 0.6)
    spread, error = [], []
    for N in (10, 1000):
        rng = np.random.default_rng(N)
        x, u, cost, x_next = transitions(
            rollout(world, GaussianPolicy(observed.widen(world, K), 1.0), N, 30, rng)
        )
        rows = Transitions(x[..., :2], u, cost, x_next[..., :2])
        members = ensemble.stack(model.fit_ensemble(rows, 7, rng))
        spread.append(members.B.std(axis=0, ddof=1).max())
        error.append(np.abs(model.fit(rows).B - lqr.B).max())
    assert spread[1] < 0.25 * spread[0]
    assert error[1] > 0.8 * error[0] > 5 * spread[1]
