"""Maximum-entropy LQR: optimum, soft policy iteration, gradients, and their spread."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from systems import (
    FIRST_GAIN,
    MOST,
    SYSTEMS,
    close,
    gaussian_data,
    plain_policy,
    plain_world,
    spd,
    stabilised_systems,
    system,
    z_scores,
)

from lqrlib import GaussianPolicy, exact, ladder, rates, soft, worlds
from lqrlib.rollout import rollout

MAIN = worlds.double_integrator()
TAU = 0.7


def soft_value(lqr, K, cov, tau, x):
    """V(x) = E[Q(x, u) + τ log π(u|x)] from the soft action value."""
    Q = soft.action_value(lqr, K, cov, tau)
    at_mean = np.concatenate([x, K @ x])
    noise = np.trace(Q.Theta[lqr.n :, lqr.n :] @ cov)
    return (
        at_mean @ Q.Theta @ at_mean + noise + Q.const - tau * soft.entropy(cov, lqr.m)
    )


def changed(function, matrix, symmetric=False, h=1e-5):
    """Central differences of a function of a matrix, entry by entry."""
    slope = np.empty_like(matrix)
    for place in np.ndindex(matrix.shape):
        D = np.zeros_like(matrix)
        D[place] = h
        if symmetric:
            D = 0.5 * (D + D.T)
        slope[place] = (function(matrix + D) - function(matrix - D)) / (2 * h)
    return slope


# The optimum.


@SYSTEMS
def test_the_optimum_is_stationary_in_gain_and_covariance(n, m):
    lqr, *_ = system(n, m)
    best = soft.optimal_policy(lqr, TAU)
    slope = soft.gradient(lqr, best.K, best.cov, TAU)
    size = np.abs(exact.q_matrix(lqr, best.K)).max() / (1 - lqr.gamma)
    close(slope.K, 0.0, atol=1e-8 * size)
    close(slope.cov, 0.0, atol=1e-8 * size)


@SYSTEMS
def test_the_optimal_density_is_that_of_the_soft_action_value(n, m):
    lqr, *_ = system(n, m)
    rng = np.random.default_rng([n, m])
    best = soft.optimal_policy(lqr, TAU)
    Q = soft.action_value(lqr, best.K, best.cov, TAU)
    x, u = rng.standard_normal(n), rng.standard_normal((6, m))
    z = np.concatenate([np.tile(x, (6, 1)), u], axis=1)
    values = np.einsum("ij,jk,ik->i", z, Q.Theta, z) + Q.const
    left = best.log_prob(np.tile(x, (6, 1)), u) + values / TAU
    close(left, left[0], rtol=1e-8)
    # The constant is V*/τ: the soft Bellman equation V = −τ log ∫ exp(−Q/τ) du.
    close(TAU * left[0], soft_value(lqr, best.K, best.cov, TAU, x), rtol=1e-8)


@SYSTEMS
def test_soft_values_obey_the_soft_bellman_equation(n, m):
    lqr, K, cov = system(n, m)
    rng = np.random.default_rng([n, m, 1])
    Q = soft.action_value(lqr, K, cov, TAU)
    x, u = rng.standard_normal(n), rng.standard_normal(m)
    z, after = np.concatenate([x, u]), lqr.A @ x + lqr.B @ u
    P = exact.value_matrix(lqr, K)
    ahead = soft_value(lqr, K, cov, TAU, after) + np.trace(P @ lqr.W)
    right = x @ lqr.Q @ x + u @ lqr.R @ u + lqr.gamma * ahead
    close(z @ Q.Theta @ z + Q.const, right, rtol=1e-8)


@SYSTEMS
def test_the_cost_is_the_mean_soft_value_of_the_first_state(n, m):
    lqr, K, cov = system(n, m)
    const = soft_value(lqr, K, cov, TAU, np.zeros(n))
    found = np.trace(exact.value_matrix(lqr, K) @ lqr.X0) + const
    close(soft.cost(lqr, K, cov, TAU), found, rtol=1e-9)


@given(stabilised_systems())
@settings(max_examples=40)
def test_no_policy_beats_the_optimal_one(drawn):
    lqr, K, rng = drawn
    cov, tau = spd(lqr.m, rng), rng.uniform(0.01, 3.0)
    least = soft.optimal_cost(lqr, tau)
    best = soft.optimal_policy(lqr, tau)
    slack = 1e-9 * (abs(least) + abs(float(exact.cost(lqr, best.K, best.cov))))
    for gain, spread in ((K, cov), (K, best.cov), (best.K, cov)):
        assert soft.cost(lqr, gain, spread, tau) >= least - slack


def test_the_scalar_optimum_by_hand():
    lqr = worlds.scalar()
    a, b, q, r, g = (
        float(np.squeeze(v)) for v in (lqr.A, lqr.B, lqr.Q, lqr.R, lqr.gamma)
    )
    # p = q + γa²p − (γabp)²/(r + γb²p), the positive root of a quadratic.
    half = g * b * b * q - r * (1 - g * a * a)
    p = (half + np.sqrt(half**2 + 4 * g * b * b * q * r)) / (2 * g * b * b)
    best = soft.optimal_policy(lqr, TAU)
    close(best.K, -g * a * b * p / (r + g * b * b * p), rtol=1e-12)
    close(best.cov, TAU / (2 * (r + g * b * b * p)), rtol=1e-12)
    close(soft.entropy(best.cov, 1), 0.5 * np.log(2 * np.pi * np.e * best.cov.item()))


def test_the_optimal_gain_does_not_depend_on_the_temperature():
    plain = exact.optimal_gain(MAIN)
    for tau in (1e-3, 1.0, 1e3):
        best = soft.optimal_policy(MAIN, tau)
        close(best.K, plain, rtol=0, atol=0)
        found = changed(lambda K, b=best, t=tau: soft.cost(MAIN, K, b.cov, t), plain)
        close(found, 0.0, atol=1e-6 * float(soft.cost(MAIN, plain, best.cov, 0.0)))


@SYSTEMS
def test_noise_of_the_optimum_costs_half_the_temperature_per_action(n, m):
    lqr, *_ = system(n, m)
    best = soft.optimal_policy(lqr, TAU)
    price = exact.cost(lqr, best.K, best.cov) - exact.cost(lqr, best.K)
    close(price, TAU * m / (2 * (1 - lqr.gamma)), rtol=1e-7)


def test_without_temperature_it_is_the_ordinary_problem():
    close(soft.optimal_cost(MAIN, 0.0), exact.cost(MAIN, exact.optimal_gain(MAIN)))
    close(soft.cost(MAIN, FIRST_GAIN, 0.0, 0.0), exact.cost(MAIN, FIRST_GAIN))
    close(soft.best_covariance(MAIN, FIRST_GAIN, 0.0), 0.0)
    near = soft.optimal_cost(MAIN, 1e-6) - soft.optimal_cost(MAIN, 0.0)
    assert 0.0 < abs(near) < 1e-3


# Soft policy iteration.


@SYSTEMS
def test_the_best_covariance_has_no_slope_and_beats_its_neighbours(n, m):
    lqr, K, _ = system(n, m)
    cov = soft.best_covariance(lqr, K, TAU)
    close(soft.gradient(lqr, K, cov, TAU).cov * (1 - lqr.gamma), 0.0, atol=1e-9)
    for factor in (0.9, 1.1):
        assert soft.cost(lqr, K, factor * cov, TAU) > soft.cost(lqr, K, cov, TAU)


@SYSTEMS
def test_soft_policy_iteration_descends_to_the_optimum(n, m):
    lqr, K, cov = system(n, m)
    found = soft.policy_iteration(lqr, K, cov, TAU, 30)
    costs = soft.cost(lqr, found.K, found.cov, TAU)
    assert (np.diff(costs) <= 1e-9 * np.abs(costs[:-1])).all()
    best = soft.optimal_policy(lqr, TAU)
    close(found.K[-1], best.K, rtol=1e-7, atol=1e-9)
    close(found.cov[-1], best.cov, rtol=1e-7, atol=1e-9)
    close(found.K[1], K - exact.gauss_newton(lqr, K), rtol=1e-12)


def test_soft_policy_iteration_broadcasts():
    K = np.stack([FIRST_GAIN, 0.5 * FIRST_GAIN])
    both = soft.policy_iteration(MAIN, K, 1.0, TAU, 3)
    assert (both.K.shape, both.cov.shape) == ((4, 2, 1, 2), (4, 2, 1, 1))
    alone = soft.policy_iteration(MAIN, K[1], 1.0, TAU, 3)
    close(both.K[:, 1], alone.K, rtol=1e-12)
    close(both.cov[:, 1], alone.cov, rtol=1e-12)


# Gradients.


@SYSTEMS
def test_gradients_are_the_slopes_of_the_soft_cost(n, m):
    lqr, K, cov = system(n, m)
    slope = soft.gradient(lqr, K, cov, TAU)
    in_K = changed(lambda some: soft.cost(lqr, some, cov, TAU), K)
    in_cov = changed(lambda some: soft.cost(lqr, K, some, TAU), cov, symmetric=True)
    close(slope.K, in_K, rtol=1e-5, atol=1e-5 * np.abs(in_K).max())
    close(slope.cov, in_cov, rtol=1e-5, atol=1e-5 * np.abs(in_cov).max())


@SYSTEMS
def test_the_natural_gradient_solves_with_the_fisher_information(n, m):
    lqr, K, cov = system(n, m)
    natural, slope = (
        f(lqr, K, cov, TAU) for f in (soft.fisher_gradient, soft.gradient)
    )
    inverse, X = np.linalg.inv(cov), exact.state_moment(lqr, K, cov)
    close(inverse @ natural.K @ X, slope.K, rtol=1e-8)
    mass = 2 * (1 - lqr.gamma)
    close(inverse @ natural.cov @ inverse / mass, slope.cov, rtol=1e-8, atol=1e-9)


@SYSTEMS
def test_at_the_best_covariance_it_is_the_gauss_newton_step(n, m):
    lqr, K, _ = system(n, m)
    natural = soft.fisher_gradient(lqr, K, soft.best_covariance(lqr, K, TAU), TAU)
    close(natural.K, TAU * exact.gauss_newton(lqr, K), rtol=1e-9, atol=1e-12)
    close(natural.cov, 0.0, atol=1e-12)


# Sampling.


def test_the_mean_of_soft_returns_is_the_soft_cost():
    lqr, (K, cov) = plain_world(gamma=0.6), plain_policy()
    data, policy = gaussian_data(lqr, K, cov, 20_000, 50), GaussianPolicy(K, cov)
    stage = data.cost + TAU * policy.log_prob(data.x[:, :-1], data.u)
    returns = stage @ lqr.gamma ** np.arange(50)
    assert abs(z_scores(returns, soft.cost(lqr, K, cov, TAU))) < MOST


def test_pathwise_gradients_have_the_stated_mean_and_variance():
    lqr, (K_b, cov) = plain_world(), plain_policy()
    K, T, rng = K_b + 0.1, 6, np.random.default_rng(5)
    data = rollout(lqr, GaussianPolicy(K_b, cov), 40_000, T, rng)
    x, Q = data.x[:, :-1], exact.q_matrix(lqr, K)
    u = GaussianPolicy(K, cov).act(x, rng)
    slope = 2.0 * (u @ Q[3:, 3:].T + x @ Q[3:, :3].T)
    discounts = lqr.gamma ** np.arange(T)
    each = np.einsum("t,kti,ktj->kij", discounts, slope, x)
    found = soft.pathwise_spread(lqr, K, K_b, cov, T)
    assert np.abs(z_scores(each, found.mean)).max() < MOST
    squares = np.square(each - found.mean)
    assert np.abs(z_scores(squares, found.variance)).max() < MOST
    without = ladder.spread(lqr, K, K_b, cov, T, "deterministic gradient")
    assert (found.variance > without.variance).all()


def test_pathwise_spread_broadcasts():
    K = np.stack([FIRST_GAIN, 1.2 * FIRST_GAIN])
    cov = np.array([0.1, 2.0])[:, None, None, None] * np.eye(1)
    every = soft.pathwise_spread(MAIN, K, FIRST_GAIN, cov, 4)
    assert every.variance.shape == (2, 2, 1, 2)
    one = soft.pathwise_spread(MAIN, K[1], FIRST_GAIN, 2.0, 4)
    close(every.variance[1, 1], one.variance, rtol=1e-12)


# What is refused, and what is data.


def test_an_unstable_gain_costs_infinity():
    wild = np.array([[50.0, 50.0]])
    assert soft.cost(MAIN, wild, 1.0, TAU) == np.inf
    assert np.isnan(soft.best_covariance(MAIN, wild, TAU)).all()
    with pytest.raises(ValueError, match="K: expected gains with"):
        soft.policy_iteration(MAIN, wild, 1.0, TAU, 2)


@pytest.mark.parametrize("tau", [-0.1, np.nan, np.inf, "hot"])
def test_a_temperature_is_a_number_from_zero_on(tau):
    for call in (soft.best_covariance, lambda *a: soft.cost(*a[:2], 1.0, a[2])):
        with pytest.raises(ValueError, match="temperature"):
            call(MAIN, FIRST_GAIN, tau)


def test_what_needs_a_positive_temperature_says_so():
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        soft.optimal_policy(MAIN, 0.0)
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        soft.policy_iteration(MAIN, FIRST_GAIN, 1.0, 0.0, 2)


def test_without_discount_the_entropy_has_no_sum():
    endless = dataclasses.replace(MAIN, gamma=1.0)
    K = exact.optimal_gain(endless)
    for call in (soft.cost, soft.action_value, soft.gradient):
        with pytest.raises(ValueError, match="gamma: expected below 1"):
            call(endless, K, 1.0, TAU)
    C = rates.curvature(endless, K)
    close(soft.best_covariance(endless, K, TAU) @ C, 0.5 * TAU, rtol=1e-9)


def test_a_policy_without_spread_has_no_entropy():
    with pytest.raises(ValueError, match="cov: expected a positive definite"):
        soft.cost(MAIN, FIRST_GAIN, 0.0, TAU)
