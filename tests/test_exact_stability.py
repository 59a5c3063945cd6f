"""Unstable gains are data; worlds without a finite cost say so."""

import dataclasses

import numpy as np
import pytest
from systems import NAMED, close, system

from lqrlib import LQR, exact, worlds

MATRIX_FUNCTIONS = [
    exact.value_matrix,
    exact.state_moment,
    exact.q_matrix,
    exact.gain_error,
    exact.gradient,
    exact.natural_gradient,
    exact.gauss_newton,
]


def world_with_loop(radius):
    """A world whose √γρ(A + BK) is ``radius`` at K = 0: γ = 1/4 makes √γ exact."""
    return worlds.scalar(a=2.0 * radius, w=0.0, gamma=0.25)


def assert_unstable(lqr, K):
    every = exact.evaluate(lqr, K, 0.1)
    assert not exact.is_stable(lqr, K)
    assert not every.stable
    assert every.cost == exact.cost(lqr, K, 0.1) == np.inf
    for matrix in (every.gradient, every.P, every.X, every.E):
        assert np.isnan(matrix).all()
    for function in MATRIX_FUNCTIONS:
        assert np.isnan(function(lqr, K)).all()


@pytest.mark.parametrize("size", [500.0, 1e10, 1e100, 1e154, 1e200, 1e308])
@pytest.mark.parametrize("signs", [(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)], ids=str)
def test_a_gain_that_is_too_large_has_infinite_cost(size, signs):
    K = size * np.array([signs])
    assert_unstable(worlds.double_integrator(), K)
    assert exact.average_cost(worlds.double_integrator(), K) == np.inf


@pytest.mark.parametrize("radius", [1.0, -1.0, np.nextafter(1.0, 2.0), 1.0 + 1e-9])
def test_at_the_border_and_beyond_a_gain_is_unstable(radius):
    assert_unstable(world_with_loop(radius), [[0.0]])


@pytest.mark.parametrize("radius", [np.nextafter(1.0, 0.0), 1.0 - 1e-9, 1e-9 - 1.0])
def test_just_inside_the_border_everything_is_finite(radius):
    lqr = world_with_loop(radius)
    every = exact.evaluate(lqr, [[0.0]])
    assert exact.is_stable(lqr, [[0.0]])
    assert every.stable
    for value in every:
        assert np.isfinite(value).all()


def test_the_discount_decides_what_is_stable():
    lqr = worlds.scalar(a=1.1, gamma=0.8)  # √.8 · 1.1 = .98
    assert exact.is_stable(lqr, [[0.0]])
    assert not exact.is_stable(dataclasses.replace(lqr, gamma=0.9), [[0.0]])
    assert exact.average_cost(lqr, [[0.0]]) == np.inf  # which knows no discount


def test_an_unstable_gain_is_not_given_the_finite_solution_of_its_equation():
    # p = 1 + 4p has the solution −1/3, which SciPy would return.
    lqr = worlds.scalar(a=2.0, w=0.0, gamma=1.0)
    assert exact.cost(lqr, [[0.0]]) == np.inf


def test_a_stable_gain_whose_cost_is_too_large_for_a_float_costs_infinity():
    lqr = dataclasses.replace(worlds.double_integrator(), X0=1e308 * np.eye(2))
    assert exact.cost(lqr, [[-1.0, -1.0]]) == np.inf
    assert exact.cost(worlds.double_integrator(), [[-1.0, -1.0]], 1e308) == np.inf
    assert not exact.evaluate(lqr, [[-1.0, -1.0]]).stable


@pytest.mark.parametrize("size", [1e100, 1e150, 1e160, 1e308])
def test_an_enormous_gain_without_effect_on_the_state_is_no_crash(size):
    idle = worlds.scalar(a=0.5, b=0.0)
    assert exact.is_stable(idle, [[size]])
    # P = (1 + K²)/(1 − .9/4), a float only up to K² = 1e308.
    assert np.isfinite(exact.cost(idle, [[size]])) == (size < 1e154)
    exact.evaluate(idle, [[size]], 1e308)
    exact.gauss_newton(idle, [[size]])


def test_no_discount_is_finite_without_noise():
    lqr = dataclasses.replace(worlds.recht_double_integrator(), W=np.zeros((2, 2)))
    K = exact.optimal_gain(lqr)
    # With γ = 1 and no noise J = x₀'Px₀, and x₀ = (−1, 0).
    assert exact.cost(lqr, K) == pytest.approx(exact.value_matrix(lqr, K)[0, 0])
    assert np.abs(exact.gradient(lqr, K)).max() < 1e-9


@pytest.mark.parametrize(
    "function", [exact.cost, exact.gradient, exact.state_moment, exact.evaluate]
)
@pytest.mark.parametrize(("noise", "cov"), [(1e-4, 0.0), (0.0, 0.1)])
def test_no_discount_with_noise_is_refused(function, noise, cov):
    lqr = worlds.scalar(w=noise, gamma=1.0)
    with pytest.raises(ValueError, match=r"^gamma: expected below 1 .* found 1"):
        function(lqr, exact.optimal_gain(lqr), cov)
    assert np.isfinite(exact.average_cost(lqr, exact.optimal_gain(lqr), cov))


@pytest.mark.parametrize("name", NAMED)
def test_average_cost_serves_every_world_and_ignores_discount_and_start(name):
    lqr = dataclasses.replace(NAMED[name](), gamma=1.0)
    K = exact.optimal_gain(lqr)
    other = dataclasses.replace(lqr, gamma=0.5, X0=7.0 * lqr.X0)
    assert exact.average_cost(lqr, K, 0.2) == exact.average_cost(other, K, 0.2)


@pytest.mark.parametrize(
    ("A", "B"),
    [
        ([[2.0, 0.0], [0.0, 0.5]], [[0.0], [1.0]]),
        ([[2.0, 0.0], [1.0, 0.5]], [[0.0], [1.0]]),
        ([[2.0, 1.0], [1.0, 2.0]], [[1.0], [1.0]]),
        ([[1.2, 0.0], [0.0, 1.2]], [[0.0], [0.0]]),
        ([[1.0, 0.0], [0.0, 1.0]], [[0.0], [1.0]]),
        # For spirals SciPy returns a matrix of size 1e15 without a word.
        ([[1.5, -1.0], [1.0, 1.5]], [[0.0], [0.0]]),
        ([[0.5, 1.0], [-1.0, 1.5]], [[0.0], [0.0]]),
    ],
    ids=[
        "untouched",
        "untouched but coupled",
        "one axis untouched",
        "no effect",
        "integrator",
        "spiral",
        "slow spiral",
    ],
)
def test_a_world_that_no_gain_stabilises_has_no_optimum(A, B):
    eye, zero = np.eye(2), np.zeros((2, 2))
    lqr = LQR(A, B, eye, [[1.0]], zero, eye, 1.0)
    with pytest.raises(ValueError, match=r"^lqr: expected a world .* found no"):
        exact.optimal_gain(lqr)


def test_a_world_that_needs_no_action_has_the_optimal_gain_zero():
    lqr = dataclasses.replace(worlds.scalar(), A=[[0.5]], B=[[0.0]])
    assert exact.optimal_gain(lqr) == 0.0
    free = worlds.scalar(a=0.5, q=0.0)
    assert exact.optimal_gain(free) == 0.0


@pytest.mark.parametrize("size", [1e20, 1e100])
def test_with_an_enormous_effect_or_state_cost_the_optimum_is_deadbeat(size):
    for changes in ({"b": size}, {"q": size}):
        lqr = worlds.scalar(a=1.0, **changes)
        # The state is sent to 0 at once: A + BK = 0.
        close(exact.optimal_gain(lqr), -lqr.A / lqr.B, rtol=1e-12)


@pytest.mark.parametrize("size", [1e100, 1e200, 1e307])
def test_where_no_float_holds_the_optimum_there_is_a_reason(size):
    with pytest.raises(ValueError, match=r"^lqr: expected .* found no"):
        exact.optimal_gain(worlds.scalar(a=size))


def test_inputs_are_not_modified():
    lqr, K, cov = system(3, 2)
    gains, covs = np.stack([K, 100.0 * K]), np.stack([cov, cov])
    before = gains.copy(), covs.copy()
    exact.evaluate(lqr, gains, covs)
    exact.average_cost(lqr, gains, covs)
    close(gains, before[0], rtol=0)
    close(covs, before[1], rtol=0)
