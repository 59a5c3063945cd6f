"""Values, moments and costs against their equations, by hand and by peers."""

import dataclasses

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov
from systems import SYSTEMS, close, discounted_source, system

from lqrlib import exact, worlds

# The equations, put back.


@SYSTEMS
def test_value_matrix_solves_its_equation(n, m):
    lqr, K, _ = system(n, m)
    P, F = exact.value_matrix(lqr, K), lqr.A + lqr.B @ K
    close(lqr.Q + K.T @ lqr.R @ K + lqr.gamma * F.T @ P @ F, P, rtol=1e-10, atol=1e-10)


@SYSTEMS
def test_state_moment_solves_its_equation(n, m):
    lqr, K, cov = system(n, m)
    X, F = exact.state_moment(lqr, K, cov), lqr.A + lqr.B @ K
    close(
        discounted_source(lqr, cov) + lqr.gamma * F @ X @ F.T, X, rtol=1e-10, atol=1e-10
    )


@SYSTEMS
def test_optimal_gain_solves_the_riccati_equation(n, m):
    lqr, _, _ = system(n, m)
    K = exact.optimal_gain(lqr)
    P, g = exact.value_matrix(lqr, K), lqr.gamma
    curvature, cross = lqr.R + g * lqr.B.T @ P @ lqr.B, g * lqr.B.T @ P @ lqr.A
    close(curvature @ K, -cross, rtol=1e-9, atol=1e-10)
    greedy = (
        lqr.Q + g * lqr.A.T @ P @ lqr.A - cross.T @ np.linalg.solve(curvature, cross)
    )
    close(greedy, P, rtol=1e-9, atol=1e-10)


@SYSTEMS
def test_cost_is_the_same_from_values_and_from_moments(n, m):
    lqr, K, cov = system(n, m)
    X = exact.state_moment(lqr, K, cov)
    by_moments = np.trace((lqr.Q + K.T @ lqr.R @ K) @ X)
    by_moments += np.trace(lqr.R @ cov) / (1 - lqr.gamma)
    assert exact.cost(lqr, K, cov) == pytest.approx(by_moments, rel=1e-11)


# One state, by hand: a = 1, b = 2, K = −.25 gives f = .5; γ = .8, so 1 − γf² = .8.


HAND = {"a": 1.0, "b": 2.0, "q": 3.0, "r": 16.0, "w": 0.5, "x0": 5.0, "gamma": 0.8}


def test_scalar_case_by_hand():
    lqr, K, cov = worlds.scalar(**HAND), [[-0.25]], 0.25
    # P = (q + K²r)/(1 − γf²) = (3 + 1)/.8 = 5
    assert exact.value_matrix(lqr, K) == pytest.approx(5.0)
    # X = (x0 + γ/(1−γ)(w + b²σ²))/(1 − γf²) = (5 + 4(.5 + 1))/.8 = 13.75
    assert exact.state_moment(lqr, K, cov) == pytest.approx(13.75)
    # J = 5·5 + 4·5·1.5 + 16·.25/.2 = 25 + 30 + 20
    assert exact.cost(lqr, K, cov) == pytest.approx(75.0)
    # Θ = [[3 + .8·5, .8·5·2], [·, 16 + .8·5·4]]
    close(exact.q_matrix(lqr, K), [[7.0, 8.0], [8.0, 32.0]])
    # E = 32·(−.25) + 8 = 0: this gain happens to be optimal; so is every step from it
    for zero in (exact.gain_error, exact.natural_gradient, exact.gauss_newton):
        assert zero(lqr, K) == pytest.approx(0.0, abs=1e-14)
    assert exact.optimal_gain(lqr) == pytest.approx(-0.25)


def test_scalar_gradients_by_hand():
    lqr, K = worlds.scalar(**HAND), [[-0.5]]  # f = 0
    # P = 3 + .25·16 = 7; E = (16 + .8·4·7)(−.5) + .8·2·7 = −8
    assert exact.gain_error(lqr, K) == pytest.approx(-8.0)
    assert exact.natural_gradient(lqr, K) == pytest.approx(-16.0)
    assert exact.gauss_newton(lqr, K) == pytest.approx(-8.0 / 38.4)
    # X = x0 + 4·w = 7, so ∇J = 2·(−8)·7
    assert exact.gradient(lqr, K) == pytest.approx(-112.0)


def test_scalar_average_cost_by_hand():
    lqr = worlds.scalar(**HAND)
    # P = (3 + 1)/(1 − f²) = 16/3; noise .5 + 4·.25 = 1.5; tr(RΣ) = 4
    assert exact.average_cost(lqr, [[-0.25]], 0.25) == pytest.approx(8.0 + 4.0)


# Independent peers.


@SYSTEMS
def test_scipy_agrees_after_conversion(n, m):
    lqr, K, cov = system(n, m)
    F = np.sqrt(lqr.gamma) * (lqr.A + lqr.B @ K)
    P = solve_discrete_lyapunov(F.T, lqr.Q + K.T @ lqr.R @ K)
    X = solve_discrete_lyapunov(F, discounted_source(lqr, cov))
    close(exact.value_matrix(lqr, K), P, rtol=1e-9, atol=1e-10)
    close(exact.state_moment(lqr, K, cov), X, rtol=1e-9, atol=1e-10)


@SYSTEMS
def test_the_value_of_the_optimal_gain_is_scipys_riccati_solution(n, m):
    lqr, _, _ = system(n, m)
    root = np.sqrt(lqr.gamma)
    P = solve_discrete_are(root * lqr.A, root * lqr.B, lqr.Q, lqr.R)
    optimum = exact.value_matrix(lqr, exact.optimal_gain(lqr))
    close(optimum, P, rtol=1e-9, atol=1e-10)


@SYSTEMS
def test_a_long_sum_of_discounted_moments_agrees(n, m):
    lqr, K, cov = system(n, m)
    F, stage = lqr.A + lqr.B @ K, lqr.Q + K.T @ lqr.R @ K
    moment, X, J, weight = lqr.X0, 0.0 * lqr.X0, 0.0, 1.0
    for _ in range(3000):
        X = X + weight * moment
        J += weight * (np.trace(stage @ moment) + np.trace(lqr.R @ cov))
        moment = F @ moment @ F.T + lqr.W + lqr.B @ cov @ lqr.B.T
        weight *= lqr.gamma
    close(exact.state_moment(lqr, K, cov), X, rtol=1e-9, atol=1e-10)
    assert exact.cost(lqr, K, cov) == pytest.approx(J, rel=1e-9)


@SYSTEMS
def test_a_long_sum_of_discounted_stage_costs_is_the_value(n, m):
    lqr, K, _ = system(n, m)
    F, stage = lqr.A + lqr.B @ K, lqr.Q + K.T @ lqr.R @ K
    x = np.linspace(1.0, 2.0, n)
    value, state = 0.0, x
    for t in range(3000):
        value += lqr.gamma**t * state @ stage @ state
        state = F @ state
    assert x @ exact.value_matrix(lqr, K) @ x == pytest.approx(value, rel=1e-9)


@SYSTEMS
def test_policy_iteration_ends_at_the_optimal_gain(n, m):
    lqr, K, _ = system(n, m)
    for _ in range(30):
        K = K - exact.gauss_newton(lqr, K)
    close(K, exact.optimal_gain(lqr), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-100, 1e-20, 1e20, 1e100])
def test_the_optimal_gain_is_as_accurate_in_any_unit_of_cost(unit):
    lqr = worlds.double_integrator()
    other = dataclasses.replace(lqr, Q=unit * lqr.Q, R=unit * lqr.R)
    close(exact.optimal_gain(other), exact.optimal_gain(lqr), rtol=1e-12)


# Discount and average.


@SYSTEMS
def test_discount_equals_a_noise_free_undiscounted_problem(n, m):
    lqr, K, cov = system(n, m)
    root = np.sqrt(lqr.gamma)
    converted = dataclasses.replace(
        lqr,
        A=root * lqr.A,
        B=root * lqr.B,
        W=0.0 * lqr.W,
        X0=discounted_source(lqr, cov),
        gamma=1.0,
    )
    constant = np.trace(lqr.R @ cov) / (1 - lqr.gamma)
    undiscounted = exact.cost(converted, K) + constant
    assert exact.cost(lqr, K, cov) == pytest.approx(undiscounted, rel=1e-11)
    close(exact.gradient(lqr, K, cov), exact.gradient(converted, K), rtol=1e-9)
    close(exact.optimal_gain(lqr), exact.optimal_gain(converted), rtol=1e-9)


@SYSTEMS
def test_average_cost_is_the_limit_of_the_normalised_discounted_cost(n, m):
    lqr, K, cov = system(n, m)
    K = exact.optimal_gain(dataclasses.replace(lqr, gamma=1.0))  # ρ(A + BK) < 1
    average = exact.average_cost(lqr, K, cov)
    gaps = []
    for rest in (1e-4, 1e-5):
        near = dataclasses.replace(lqr, gamma=1 - rest)
        gaps.append(rest * exact.cost(near, K, cov) - average)
    # The difference is linear in 1 − γ: ten times nearer, ten times smaller.
    assert gaps[0] / gaps[1] == pytest.approx(10.0, rel=0.05)
    assert abs(gaps[1]) < 1e-2 * average


@SYSTEMS
def test_average_cost_is_the_cost_of_the_stationary_state(n, m):
    lqr, _, cov = system(n, m)
    K = exact.optimal_gain(dataclasses.replace(lqr, gamma=1.0))
    noise = lqr.W + lqr.B @ cov @ lqr.B.T
    stationary = solve_discrete_lyapunov(lqr.A + lqr.B @ K, noise)
    stage = np.trace((lqr.Q + K.T @ lqr.R @ K) @ stationary) + np.trace(lqr.R @ cov)
    assert exact.average_cost(lqr, K, cov) == pytest.approx(stage, rel=1e-9)


def test_a_number_for_the_covariance_means_its_multiple_of_the_identity():
    lqr, K, _ = system(3, 2)
    for function in (exact.cost, exact.state_moment, exact.average_cost):
        close(function(lqr, K, 0.3), function(lqr, K, 0.3 * np.eye(2)), rtol=0)
        close(function(lqr, K, None), function(lqr, K, np.zeros((2, 2))), rtol=0)


def test_evaluate_gathers_the_single_functions():
    lqr, K, cov = system(3, 2)
    all_of_it = exact.evaluate(lqr, K, cov)
    close(all_of_it.cost, exact.cost(lqr, K, cov), rtol=1e-13)
    close(all_of_it.gradient, exact.gradient(lqr, K, cov), rtol=1e-13)
    close(all_of_it.P, exact.value_matrix(lqr, K), rtol=1e-13)
    close(all_of_it.X, exact.state_moment(lqr, K, cov), rtol=1e-13)
    close(all_of_it.E, exact.gain_error(lqr, K), rtol=1e-13)
    assert all_of_it.stable
