"""Gradients with one mistake each fail the check; those without do not."""

import functools

import numpy as np
import pytest
from systems import FIRST_GAINS, NAMED

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
    z = (np.mean(found, axis=0) - exactly) / np.std(found, axis=0) * np.sqrt(sets)
    assert np.abs(z).max() < 4
