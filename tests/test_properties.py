"""What must hold for every system, on systems that Hypothesis picks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from systems import close, in_bases, regular, spd, stabilised_systems, stable_gain

from lqrlib import exact

every_system = given(stabilised_systems())
few = settings(deadline=None, max_examples=50, derandomize=True)


def assert_semidefinite(M):
    np.testing.assert_array_equal(M, M.T)
    values = np.linalg.eigvalsh(M)
    assert values[0] >= -1e-12 * values[-1]


@few
@every_system
def test_the_basis_of_the_state_does_not_matter(drawn):
    lqr, K, rng = drawn
    S, cov = regular(lqr.n, rng), spd(lqr.m, rng)
    other = in_bases(lqr, S)
    moved = K @ np.linalg.inv(S)
    assert exact.cost(other, moved, cov) == pytest.approx(exact.cost(lqr, K, cov))
    best = exact.optimal_gain(lqr)
    close(exact.optimal_gain(other) @ S, best, rtol=1e-6, atol=1e-7)
    X = exact.state_moment(lqr, K, cov)
    close(exact.state_moment(other, moved, cov), S @ X @ S.T, rtol=1e-6, atol=1e-7)


@few
@every_system
def test_the_unit_of_cost_scales_cost_and_gradient_but_not_the_optimum(drawn):
    lqr, K, rng = drawn
    unit = 10.0 ** rng.uniform(-8, 8)
    other = dataclasses.replace(lqr, Q=unit * lqr.Q, R=unit * lqr.R)
    assert exact.cost(other, K, 0.2) == pytest.approx(unit * exact.cost(lqr, K, 0.2))
    gradient = unit * exact.gradient(lqr, K)
    scale = np.abs(gradient).max()
    close(exact.gradient(other, K), gradient, atol=1e-9 * scale)
    close(exact.gauss_newton(other, K), exact.gauss_newton(lqr, K), atol=1e-9)
    best = exact.optimal_gain(lqr)
    close(exact.optimal_gain(other), best, rtol=1e-7, atol=1e-8)


@few
@every_system
def test_values_moments_and_action_values_are_symmetric_and_semidefinite(drawn):
    lqr, K, rng = drawn
    assert_semidefinite(exact.value_matrix(lqr, K))
    assert_semidefinite(exact.state_moment(lqr, K, spd(lqr.m, rng)))
    Theta = exact.q_matrix(lqr, K)
    close(Theta, Theta.T, rtol=1e-12, atol=1e-12 * np.abs(Theta).max())
    assert np.linalg.eigvalsh(Theta)[0] >= -1e-12 * np.abs(Theta).max()


@few
@every_system
def test_no_gain_costs_less_than_the_optimal_one_at_any_covariance(drawn):
    lqr, K, rng = drawn
    for cov in (0.0, spd(lqr.m, rng)):
        best = exact.cost(lqr, exact.optimal_gain(lqr), cov)
        assert exact.cost(lqr, K, cov) >= best * (1 - 1e-12)


@few
@every_system
def test_the_gain_error_and_gradient_vanish_at_the_optimum_at_any_covariance(drawn):
    lqr, K, rng = drawn
    best = exact.evaluate(lqr, exact.optimal_gain(lqr), spd(lqr.m, rng))
    elsewhere = exact.evaluate(lqr, K, 0.0)
    scale = np.abs(best.P).max() * (1 + np.abs(lqr.B).max() ** 2)
    assert np.abs(best.E).max() <= 1e-9 * scale
    assert np.abs(best.gradient).max() <= 1e-8 * scale * np.abs(best.X).max()
    assert np.abs(elsewhere.E).max() > 1e-6  # the zero is not everywhere


@few
@every_system
def test_a_full_gauss_newton_step_never_raises_the_cost(drawn):
    lqr, K, _ = drawn
    stepped = K - exact.gauss_newton(lqr, K)
    assert exact.is_stable(lqr, stepped)
    assert exact.cost(lqr, stepped) <= exact.cost(lqr, K) * (1 + 1e-12)


@few
@every_system
def test_a_short_step_down_the_gradient_lowers_the_cost(drawn):
    lqr, K, _ = drawn
    gradient = exact.gradient(lqr, K)
    step = 1e-6 * gradient / np.linalg.norm(gradient)
    assert exact.cost(lqr, K - step) < exact.cost(lqr, K) < exact.cost(lqr, K + step)


@few
@every_system
def test_cost_grows_with_each_matrix_of_the_problem(drawn):
    lqr, K, rng = drawn
    before = exact.cost(lqr, K, 0.1)
    for name, size in {"Q": lqr.n, "R": lqr.m, "W": lqr.n, "X0": lqr.n}.items():
        more = dataclasses.replace(lqr, **{name: getattr(lqr, name) + spd(size, rng)})
        assert exact.cost(more, K, 0.1) > before


@few
@every_system
def test_cost_and_moment_grow_with_the_policys_covariance(drawn):
    lqr, K, rng = drawn
    cov = spd(lqr.m, rng)
    assert exact.cost(lqr, K) < exact.cost(lqr, K, cov) < exact.cost(lqr, K, 2 * cov)
    assert exact.average_cost(lqr, K, cov) >= exact.average_cost(lqr, K)
    growth = exact.state_moment(lqr, K, cov) - exact.state_moment(lqr, K)
    assert np.linalg.eigvalsh(growth)[0] >= -1e-10 * np.abs(growth).max()


@few
@every_system
def test_a_difference_of_costs_is_exact_in_the_other_gains_moments(drawn):
    lqr, K, rng = drawn
    other = stable_gain(lqr, rng)
    step, P = other - K, exact.value_matrix(lqr, K)
    curvature = lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B
    form = step.T @ curvature @ step + 2 * step.T @ exact.gain_error(lqr, K)
    gained = np.trace(form @ exact.state_moment(lqr, other, 0.3))
    J = exact.cost(lqr, np.stack([K, other]), 0.3)
    assert J[1] - J[0] == pytest.approx(gained, rel=1e-7, abs=1e-9 * J.max())
