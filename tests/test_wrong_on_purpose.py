"""Gradients with one mistake each fail the check; those without do not."""

import functools

import numpy as np
import pytest
from systems import FIRST_GAINS, MOST, NAMED, z_scores

from lqrlib import GaussianPolicy, exact, finite_horizon, rollout
from lqrlib.check import check_gradient
from lqrlib.critic import lstdq
from lqrlib.model import fit
from lqrlib.rollout import transitions

SEED, COV = 71, 0.4  # a seed that the page does not use
in_every_world = pytest.mark.parametrize("world", FIRST_GAINS)


def returns(credit):
    return np.cumsum(credit[:, ::-1], axis=1)[:, ::-1]


def estimate(
    lqr, data, K, cov, *, pay=returns, weigh=np.exp, score_of=None, gamma=None
):
    """A per-decision gradient, written out once more."""
    x, u = data.x[:, :-1], data.u
    scored = K if score_of is None else score_of(data)
    squares = [np.square(u - x @ gain.T).sum(-1) for gain in (data.policy.K, K)]
    log_w = np.cumsum((squares[0] - squares[1]) / (2 * cov), axis=1)
    discount = (gamma or lqr.gamma) ** np.arange(data.cost.shape[1])
    paid = pay(weigh(log_w) * data.cost * discount)
    return np.einsum("it,itm,itn->mn", paid, u - x @ scored.T, x) / cov / len(x)


def slope(lqr, data, K, cov, *, stale=False):
    evaluated = data.policy.K if stale else K
    return 2 * lstdq(lqr, transitions(data), evaluated).gain_error(K)


def planned(lqr, data, K, cov, *, gamma):
    fitted = fit(transitions(data)).problem(lqr)
    P, B = exact.value_matrix(fitted, K), fitted.B
    return 2 * ((lqr.R + gamma * B.T @ P @ B) @ K + gamma * B.T @ P @ fitted.A)


def half(lqr, data, K, cov):
    """Of every other trajectory: right, and no sum of what the check knows."""
    some = data._replace(x=data.x[::2], u=data.u[::2], cost=data.cost[::2])
    return estimate(lqr, some, K, cov)


def five(credit):
    total = returns(credit)
    return total - np.concatenate([total[:, 5:], 0 * total[:, :5]], axis=1)


EVERYWHERE = {
    "earlier costs": functools.partial(
        estimate, pay=lambda credit: np.cumsum(credit, axis=1) - credit
    ),
    "next five costs": functools.partial(estimate, pay=five),
    "no discount": functools.partial(estimate, gamma=1.0),
    "no variance in the score": lambda *a, cov: estimate(*a, cov) * np.sqrt(cov),
}
ON_OTHER_DATA = {
    "whole return": functools.partial(
        estimate, pay=lambda c: np.repeat(c.sum(1, keepdims=True), c.shape[1], 1)
    ),
    "not renormalised": functools.partial(
        estimate, weigh=lambda log_w: np.exp(log_w - log_w.max(axis=0))
    ),
    "score of K_b": functools.partial(estimate, score_of=lambda data: data.policy.K),
}


def checked(function, world, target="gaussian", **options):
    rng = np.random.default_rng(SEED)
    lqr, K = NAMED[world](), FIRST_GAINS[world]
    return check_gradient(function, lqr, K, rng=rng, cov=COV, target=target, **options)


@in_every_world
def test_the_gradient_without_a_mistake_passes(world):
    assert checked(estimate, world).passed
    report = checked(half, world)
    assert report.passed
    assert np.abs(report.off_policy.z).max() > 0.1  # chance is left to be wrong by


@in_every_world
@pytest.mark.parametrize("mistake", EVERYWHERE)
def test_a_mistake_of_its_own_shows_on_own_data(world, mistake):
    report = checked(EVERYWHERE[mistake], world)
    assert {"on_policy", "slope"} <= {*report.failed}


@in_every_world
@pytest.mark.parametrize("mistake", ON_OTHER_DATA)
def test_a_mistake_with_weights_shows_on_other_data_only(world, mistake):
    assert checked(ON_OTHER_DATA[mistake], world).failed == ("off_policy",)


@in_every_world
def test_a_stale_critic_shows_away_from_the_data(world):
    stale = functools.partial(slope, stale=True)
    assert checked(stale, world, "natural", reach=3.0).failed == ("off_policy",)
    assert checked(slope, world, "natural", reach=3.0).passed


@in_every_world
def test_a_detached_critic_shows_everywhere(world):
    detached = functools.partial(planned, gamma=0.0)
    failed = {*checked(detached, world, "natural").failed}
    assert {"on_policy", "off_policy", "slope"} <= failed


@pytest.mark.parametrize("world", ["double_integrator", "three_rooms"])
def test_a_forgotten_discount_in_the_slope_shows_where_it_matters(world):
    gamma = NAMED[world]().gamma
    assert checked(functools.partial(planned, gamma=gamma), world, "natural").passed
    report = checked(functools.partial(planned, gamma=1.0), world, "natural")
    assert "slope" in report.failed


def test_paying_with_earlier_costs_is_named():
    report = checked(EVERYWHERE["earlier costs"], "double_integrator")
    assert "zero" in report.reason


def test_five_costs_have_the_mean_of_a_receding_horizon():
    lqr, K = NAMED["double_integrator"](), FIRST_GAINS["double_integrator"]
    g, T, sets = lqr.gamma, 12, 200
    stages = finite_horizon.constant(lqr, K, T)
    P = finite_horizon.value_matrices(lqr, stages)  # P[T − h] is the value of h steps
    X = finite_horizon.state_moments(lqr, stages, COV)
    exactly = sum(
        2
        * ((lqr.R + g * lqr.B.T @ P[i] @ lqr.B) @ K + g * lqr.B.T @ P[i] @ lqr.A)
        @ X[t]
        for t in range(T)
        for i in [T - min(4, T - 1 - t)]
    )
    found = []
    for seed in range(sets):
        rng = np.random.default_rng([SEED, seed])
        data = rollout.rollout(lqr, GaussianPolicy(K, COV), 100, T, rng)
        found.append(estimate(lqr, data, K, COV, pay=five))
    assert np.abs(z_scores(np.array(found), exactly)).max() < MOST


def paid(M, Z):
    """E[z'Mz zz'] for z ~ N(0, Z)."""
    return np.trace(M @ Z) * Z + 2 * Z @ M @ Z


def paid_by_value(lqr, K, T):
    """Σ γᵗ E[V_t(x_t) x_t x_t'] under K, with V_t(x) = x'Px + const."""
    stages, N = finite_horizon.constant(lqr, K, T), lqr.W + COV * lqr.B @ lqr.B.T
    P = finite_horizon.value_matrices(lqr, stages)
    X, const, total = finite_horizon.state_moments(lqr, stages, COV), 0, 0
    for t in reversed(range(T)):
        const = COV * np.trace(lqr.R) + lqr.gamma * (np.trace(P[t + 1] @ N) + const)
        total = total + paid(P[t], X[t]) / lqr.gamma**t + const * X[t]
    return total


def paid_afterwards(lqr, K, K_b, T):
    """Σ_{t<r} γᵗ E[c_t x_r x_r'], with actions of K up to t and of K_b from then on."""
    X = finite_horizon.state_moments(lqr, finite_horizon.constant(lqr, K, T), COV)
    G, L = np.hstack([lqr.A, lqr.B]), np.vstack([np.eye(lqr.n), K])
    C = np.zeros((lqr.n + lqr.m,) * 2)
    C[: lqr.n, : lqr.n], C[lqr.n :, lqr.n :] = lqr.Q, lqr.R
    drawn = np.diag([0.0] * lqr.n + [COV] * lqr.m)
    F, N, total = lqr.closed_loop(K_b), lqr.W + COV * lqr.B @ lqr.B.T, 0
    for t in range(T):
        Z = L @ X[t] @ L.T / lqr.gamma**t + drawn
        cost = np.trace(C @ Z)
        S = G @ paid(C, Z) @ G.T + cost * lqr.W
        for _ in range(t + 1, T):
            total, S = total + lqr.gamma**t * S, F @ S @ F.T + cost * N
    return total


@pytest.mark.parametrize("world", ["double_integrator", "three_rooms"])
@pytest.mark.parametrize("mistake", ["whole return", "score of K_b"])
def test_the_mean_on_other_data_is_off_by_the_change_of_the_gain(world, mistake):
    lqr, K_b, T, sets = NAMED[world](), FIRST_GAINS[world], 8, 200
    K = K_b + 0.06 * np.random.default_rng(SEED).standard_normal(K_b.shape)
    right = finite_horizon.gradient(lqr, finite_horizon.constant(lqr, K, T), COV).sum(0)
    extra = {
        "whole return": -paid_afterwards(lqr, K, K_b, T),
        "score of K_b": paid_by_value(lqr, K, T),
    }[mistake]
    found = []
    for seed in range(sets):
        rng = np.random.default_rng([SEED, 1, seed])
        data = rollout.rollout(lqr, GaussianPolicy(K_b, COV), 400, T, rng)
        found.append(ON_OTHER_DATA[mistake](lqr, data, K, COV))
    off = z_scores(np.array(found), right + (K - K_b) @ extra / COV)
    assert np.abs(off).max() < MOST
    assert np.abs(z_scores(np.array(found), right)).max() > 2 * MOST
