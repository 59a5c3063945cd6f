"""The gradient and the action value, by differences and by their meaning."""

import numpy as np
import pytest
from systems import SYSTEMS, close, discounted_source, radius, system

from lqrlib import exact


def complex_cost(lqr, K, cov):
    """J for complex K: the value equation as one linear system, no conjugates."""
    F, n = lqr.A + lqr.B @ K, lqr.n
    stage = lqr.Q + K.T @ lqr.R @ K
    system = np.eye(n * n) - lqr.gamma * np.kron(F.T, F.T)
    P = np.linalg.solve(system, stage.reshape(-1)).reshape(n, n)
    return np.trace(P @ discounted_source(lqr, cov)) + np.trace(lqr.R @ cov) / (
        1 - lqr.gamma
    )


def entries(K):
    """The unit matrices of K's shape, one for each entry."""
    return np.eye(K.size).reshape(K.size, *K.shape)


# The gradient, by differences.


@SYSTEMS
def test_gradient_agrees_with_complex_step(n, m):
    lqr, K, cov = system(n, m)
    tiny = 1e-30
    reference = [
        complex_cost(lqr, K + 1j * tiny * e, cov).imag / tiny for e in entries(K)
    ]
    gradient = exact.gradient(lqr, K, cov)
    close(gradient.ravel(), reference, rtol=1e-10, atol=1e-10 * np.abs(gradient).max())


@SYSTEMS
def test_gradient_agrees_with_central_differences(n, m):
    lqr, K, cov = system(n, m)
    h = 1e-6
    ahead = exact.cost(lqr, K + h * entries(K), cov)
    behind = exact.cost(lqr, K - h * entries(K), cov)
    gradient = exact.gradient(lqr, K, cov)
    scale = np.abs(gradient).max()
    close(gradient.ravel(), (ahead - behind) / (2 * h), atol=1e-6 * scale)


@SYSTEMS
def test_what_the_gradient_leaves_over_falls_with_slope_two(n, m):
    lqr, K, cov = system(n, m)
    rng = np.random.default_rng(3)
    D = rng.standard_normal(K.shape)
    D *= (1 - radius(lqr, K)) / np.linalg.norm(lqr.B @ D)
    h = np.logspace(-2.5, -4, 4)
    ahead = exact.cost(lqr, K + h[:, None, None] * D, cov)
    linear = np.sum(exact.gradient(lqr, K, cov) * D)
    remainder = np.abs(ahead - exact.cost(lqr, K, cov) - h * linear)
    slope = np.polyfit(np.log(h), np.log(remainder), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.05)


def test_gradient_is_twice_gain_error_times_moment():
    lqr, K, cov = system(3, 2)
    product = 2 * exact.gain_error(lqr, K) @ exact.state_moment(lqr, K, cov)
    close(exact.gradient(lqr, K, cov), product, rtol=1e-13)


@SYSTEMS
def test_whitening_the_gradient_gives_the_natural_gradient(n, m):
    lqr, K, cov = system(n, m)
    X = exact.state_moment(lqr, K, cov)
    whitened = np.linalg.solve(X, exact.gradient(lqr, K, cov).T).T
    close(whitened, exact.natural_gradient(lqr, K), rtol=1e-8, atol=1e-9)


# The action value.


@SYSTEMS
def test_action_value_is_one_step_plus_the_discounted_value(n, m):
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng(1)
    x, u = rng.standard_normal(n), rng.standard_normal(m)
    z, x_next = np.concatenate([x, u]), lqr.A @ x + lqr.B @ u
    one_step = x @ lqr.Q @ x + u @ lqr.R @ u
    later = x_next @ exact.value_matrix(lqr, K) @ x_next
    value = z @ exact.q_matrix(lqr, K) @ z
    assert value == pytest.approx(one_step + lqr.gamma * later, rel=1e-12)


@SYSTEMS
def test_action_value_of_the_policys_own_action_is_the_value(n, m):
    lqr, K, _ = system(n, m)
    own = np.vstack([np.eye(n), K])
    value = own.T @ exact.q_matrix(lqr, K) @ own
    close(value, exact.value_matrix(lqr, K), rtol=1e-9, atol=1e-10)


@SYSTEMS
def test_the_best_action_is_one_full_gauss_newton_step_away(n, m):
    lqr, K, _ = system(n, m)
    Theta = exact.q_matrix(lqr, K)
    greedy = -np.linalg.solve(Theta[n:, n:], Theta[n:, :n])
    close(K - exact.gauss_newton(lqr, K), greedy, rtol=1e-9, atol=1e-11)


@SYSTEMS
def test_gain_error_is_half_the_slope_of_the_action_value(n, m):
    lqr, K, _ = system(n, m)
    Theta, x = exact.q_matrix(lqr, K), np.linspace(-1.0, 2.0, n)

    def value(u):
        z = np.concatenate([x, u])
        return z @ Theta @ z

    # Central differences of a quadratic have no truncation error: h may be large.
    slope = [(value(K @ x + e) - value(K @ x - e)) / 2 for e in np.eye(m)]
    close(2 * exact.gain_error(lqr, K) @ x, slope, rtol=1e-9, atol=1e-9)
