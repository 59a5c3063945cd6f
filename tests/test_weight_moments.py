"""Moments of weights of any order against one determinant, and where they end.

Sampling is no oracle here: the moment that would give its error is infinite first.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import FIRST_GAIN, FIRST_GAINS, NAMED, close, spd, stabilised, system

from lqrlib import exact, lyapunov, worlds
from lqrlib.weights import (
    breakdown,
    critical_covariance,
    log_moment,
    moment,
    second_moment,
    tail_index,
)

MAIN = worlds.double_integrator()
BEST = exact.optimal_gain(MAIN)
WAY = BEST - FIRST_GAIN
SIZES = pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3)])


def root(M):
    values, vectors = np.linalg.eigh(M)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def exponent(lqr, K, K_b, cov, cov_b, T, order):
    """M and c with w^q = exp(v'Mv + c): v all the standard noise of T steps stacked."""
    n, m = lqr.n, lqr.m
    size = n + T * (m + n)
    L = np.linalg.cholesky(cov_b)
    x = root(lqr.X0) @ np.eye(n, size)  # linear in v, like all below
    M = np.zeros((size, size))
    for t in range(T):
        normals = np.eye(m + n, size, k=n + t * (m + n))
        xi, zeta = normals[:m], normals[m:]
        e = L @ xi - (K - K_b) @ x
        M += 0.5 * (xi.T @ xi - e.T @ np.linalg.solve(cov, e))
        x = lqr.A @ x + lqr.B @ (K_b @ x + L @ xi) + root(lqr.W) @ zeta
    scale = np.linalg.slogdet(cov_b).logabsdet - np.linalg.slogdet(cov).logabsdet
    return order * M, 0.5 * order * T * scale


def as_one_determinant(*arguments):
    """log E[w^q] = c − ½ log det(I − 2M), while I − 2M ≻ 0."""
    M, constant = exponent(*arguments)
    values = np.linalg.eigvalsh(np.eye(len(M)) - 2 * M)
    if values[0] <= 1e-12:
        return np.inf
    return constant - 0.5 * np.log(values).sum()


def near(n, m, reach):
    lqr, K_b, cov = system(n, m)
    return lqr, K_b + reach * np.random.default_rng(4).standard_normal((m, n)), K_b, cov


# Moments of any order.


@SIZES
@pytest.mark.parametrize("T", [1, 2, 5])
@pytest.mark.parametrize("order", [0.3, 1.0, 1.7, 2.0, 3.5])
@pytest.mark.parametrize("reach", [0.02, 0.2])
def test_a_moment_is_one_determinant(n, m, T, order, reach):
    lqr, K, K_b, cov = near(n, m, reach)
    dense = as_one_determinant(lqr, K, K_b, cov, cov, T, order)
    found = log_moment(lqr, K, K_b, cov, T, order)
    assert found == pytest.approx(dense, rel=1e-7, abs=1e-10)


@SIZES
@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("wider", [0.55, 0.8, 1.6, 5.0])
def test_so_is_one_of_policies_with_two_covariances(n, m, T, order, wider):
    lqr, K, K_b, cov = near(n, m, 0.03)
    cov_b = wider * cov + 0.01 * spd(m, np.random.default_rng(9))
    dense = as_one_determinant(lqr, K, K_b, cov, cov_b, T, order)
    found = log_moment(lqr, K, K_b, cov, T, order, cov_behaviour=cov_b)
    assert found == pytest.approx(dense, rel=1e-7, abs=1e-10)


def test_the_orders_and_covariances_above_include_moments_that_do_not_exist():
    lqr, K, K_b, cov = near(3, 2, 0.2)
    assert np.isinf(log_moment(lqr, K, K_b, cov, 5, 3.5))
    lqr, K, K_b, cov = near(3, 2, 0.03)
    narrow = log_moment(lqr, K, K_b, cov, 1, 3.0, cov_behaviour=0.55 * cov)
    assert np.isinf(narrow)  # Λ is not positive definite
    assert np.isfinite(log_moment(lqr, K, K_b, cov, 1, 3.0, cov_behaviour=1.6 * cov))


@pytest.mark.parametrize("T", [1, 7, 40])
def test_the_mean_is_one_and_the_zeroth_moment_is_its_limit(T):
    lqr, K, K_b, cov = near(3, 2, 0.3)
    wide = 2.5 * cov
    for options in ({}, {"cov_behaviour": wide}):
        first = log_moment(lqr, K, K_b, cov, T, 1.0, **options)
        assert first == pytest.approx(0.0, abs=1e-10)
        last = log_moment(lqr, K, K_b, cov, T, 1e-12, **options)
        assert last == pytest.approx(0.0, abs=1e-6)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_the_logarithm_is_convex_in_the_order(n, m, seed):
    lqr, K_b, rng = stabilised(n, m, seed)
    K, cov = K_b + 0.05 * rng.standard_normal((m, n)), spd(m, rng)
    orders = np.linspace(0.2, 3.0, 15)
    found = log_moment(lqr, K, K_b, cov, 6, orders)
    finite = found[np.isfinite(found)]
    assert np.isinf(found[finite.size :]).all()  # what exists is an interval
    assert np.diff(finite, 2).min(initial=0.0) >= -1e-9


def test_a_moment_is_the_exponential_of_its_logarithm_and_the_second_is_of_order_two():
    lqr, K, K_b, cov = near(3, 2, 0.05)
    logarithm = log_moment(lqr, K, K_b, cov, 9, 1.5, cov_behaviour=1.3 * cov)
    plain = moment(lqr, K, K_b, cov, 9, 1.5, cov_behaviour=1.3 * cov)
    assert np.log(plain) == pytest.approx(logarithm, rel=1e-10)
    wide = {"cov_behaviour": 1.3 * cov}
    assert second_moment(lqr, K, K_b, cov, 9, **wide) == moment(
        lqr, K, K_b, cov, 9, 2.0, **wide
    )
    assert log_moment(lqr, K, K_b, cov, 9) == log_moment(lqr, K, K_b, cov, 9, 2.0)


def test_one_covariance_given_twice_is_one_covariance():
    lqr, K, K_b, cov = near(2, 3, 0.1)
    for order in (0.7, 2.0, 3.0):
        twice = log_moment(lqr, K, K_b, cov, 6, order, cov_behaviour=cov)
        assert twice == pytest.approx(log_moment(lqr, K, K_b, cov, 6, order), rel=1e-8)


def test_equal_means_cost_a_factor_for_each_step():
    # r = σ_b²/σ²: E[ρ²] = r / √(2r − 1) for one action.
    found = log_moment(MAIN, BEST, BEST, 0.1, 25, cov_behaviour=0.4)
    assert found == pytest.approx(25 * np.log(4 / np.sqrt(7)), rel=1e-12)
    assert np.isinf(log_moment(MAIN, BEST, BEST, 0.1, 1, cov_behaviour=0.05))


# The tail index.


@pytest.mark.parametrize(
    ("cov", "alpha"), [(0.01, 1.0009), (1.0, 1.09), (9.0, 1.66), (100.0, 4.7)]
)
def test_reference_tail_indices_at_the_optimum(cov, alpha):
    assert tail_index(MAIN, BEST, FIRST_GAIN, cov, 50) == pytest.approx(alpha, rel=3e-3)


def test_the_tail_index_of_one_scalar_step_by_hand():
    # q(q − 1) δ²X₀/σ² = 1.
    delta = np.array([0.1, -0.4, 3.0])
    found = tail_index(
        worlds.scalar(x0=2.0), (delta - 0.6)[:, None, None], [[-0.6]], 0.5, 1
    )
    close(found, 0.5 + np.sqrt(0.25 + 0.5 / (2.0 * delta**2)), rtol=1e-12)


@SIZES
def test_moments_end_at_the_tail_index(n, m):
    lqr, K, K_b, cov = near(n, m, 0.3)
    for options in ({}, {"cov_behaviour": 1.2 * cov}):
        alpha = tail_index(lqr, K, K_b, cov, 8, **options)
        below, above = alpha * (1 - 1e-6), alpha * (1 + 1e-6)
        assert np.isfinite(log_moment(lqr, K, K_b, cov, 8, below, **options))
        assert np.isinf(log_moment(lqr, K, K_b, cov, 8, above, **options))


def test_equal_policies_have_no_tail_and_narrow_data_have_one_of_their_own():
    assert np.isinf(tail_index(MAIN, BEST, BEST, 1.0, 20))
    # qΣ⁻¹ − (q − 1)Σ_b⁻¹ ≻ 0: q < σ²/(σ² − σ_b²).
    found = tail_index(MAIN, BEST, BEST, 1.0, 20, cov_behaviour=0.6)
    assert found == pytest.approx(2.5, rel=1e-9)


# Breakdown.


@pytest.mark.parametrize("cov", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("order", [1.5, 2.0, 4.0])
def test_one_step_breaks_down_on_an_ellipsoid(cov, order):
    lqr, K_b, _ = system(3, 2)
    D = np.random.default_rng(0).standard_normal((6, 2, 3))
    spread = np.linalg.eigvalsh(D @ lqr.X0 @ D.mT)[:, -1]
    by_hand = np.sqrt(cov / (order * (order - 1) * spread))
    close(breakdown(lqr, K_b, D, cov, 1, order=order), by_hand, rtol=1e-9)


@SIZES
@pytest.mark.parametrize("T", [2, 30])
def test_moments_end_at_the_breakdown_and_not_before(n, m, T):
    lqr, K_b, cov = system(n, m)
    D = np.random.default_rng(2).standard_normal((5, m, n))
    wall = breakdown(lqr, K_b, D, cov, T)
    shares = np.array([0.01, 0.3, 0.7, 0.99, 1 - 1e-9])[:, None]
    steps = (shares * wall)[..., None, None]
    assert np.isfinite(second_moment(lqr, K_b + steps * D, K_b, cov, T)).all()
    beyond = (wall * (1 + 1e-9))[..., None, None] * D
    assert np.isinf(second_moment(lqr, K_b + beyond, K_b, cov, T)).all()


def test_a_longer_direction_needs_fewer_steps_and_none_at_all_never_breaks_down():
    once, twice = (breakdown(MAIN, FIRST_GAIN, s * WAY, 1.0, 20) for s in (1.0, 2.0))
    assert once == pytest.approx(2.0 * twice, rel=1e-12)
    assert np.isinf(breakdown(MAIN, FIRST_GAIN, 0.0 * WAY, 1.0, 20))


def test_from_an_unsettled_gain_it_is_the_first_of_several_exits():
    K_b = np.array([[0.2, -0.5]])
    assert lyapunov.spectral_radius(MAIN.closed_loop(K_b)) > 1
    D = BEST - K_b
    steps = np.geomspace(1e-4, 3.0, 4000)
    good = np.isfinite(
        second_moment(MAIN, K_b + steps[:, None, None] * D, K_b, 10.0, 150)
    )
    exits = np.flatnonzero(good[:-1] & ~good[1:])
    assert exits.size > 1  # the steps with a moment are no interval
    wall = breakdown(MAIN, K_b, D, 10.0, 150)
    assert steps[exits[0]] < wall < steps[exits[0] + 1] * (1 + 1e-9)


def test_from_an_unsettled_gain_a_direction_without_states_never_breaks_down():
    still = dataclasses.replace(MAIN, X0=0 * MAIN.X0, W=0 * MAIN.W, B=0 * MAIN.B)
    still = dataclasses.replace(still, A=2.0 * np.eye(2))
    assert np.isinf(breakdown(still, FIRST_GAIN, WAY, 1.0, 5))


# The critical covariance.


def stacked(lqr, K, K_b, noise, start, T):
    """Covariance of Δx_t, stacked over t, for x' = (A + B(2K − K_b))x + n."""
    n, F = lqr.n, lqr.A + lqr.B @ (2 * K - K_b)
    maps = np.zeros((T * n, T * n))
    for t in range(T):
        maps[t * n : (t + 1) * n, :n] = np.linalg.matrix_power(F, t) @ root(start)
        for s in range(1, t + 1):
            step = np.linalg.matrix_power(F, t - s) @ root(noise)
            maps[t * n : (t + 1) * n, s * n : (s + 1) * n] = step
    passed = np.kron(np.eye(T), K - K_b) @ maps
    return passed @ passed.T


def by_eigenvalues(lqr, K, K_b, T):
    fixed = stacked(lqr, K, K_b, lqr.W, lqr.X0, T)
    explored = stacked(lqr, K, K_b, lqr.B @ lqr.B.T, 0 * lqr.X0, T)
    values, vectors = np.linalg.eigh(np.eye(len(fixed)) - 2 * explored)
    if values[0] <= 0:
        return np.inf
    whiten = vectors / np.sqrt(values)
    return np.linalg.eigvalsh(2 * whiten.T @ fixed @ whiten)[-1]


@pytest.mark.parametrize("T", [1, 2, 10, 30])
@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("name", FIRST_GAINS)
def test_the_critical_covariance_is_an_eigenvalue(name, share, T):
    lqr, K_b = NAMED[name](), FIRST_GAINS[name]
    K = K_b + share * (exact.optimal_gain(lqr) - K_b)
    found = critical_covariance(lqr, K, K_b, T)
    assert found == pytest.approx(by_eigenvalues(lqr, K, K_b, T), rel=1e-9)


def test_reference_critical_covariances():
    found = [critical_covariance(MAIN, BEST, FIRST_GAIN, T) for T in (10, 30, 60, 100)]
    close(found, [14.532053683, 15.008775022, 15.043049331, 15.043563395], rtol=1e-9)
    at_rest = dataclasses.replace(MAIN, X0=0 * MAIN.X0)
    found = critical_covariance(at_rest, BEST, FIRST_GAIN, 60)
    assert np.sqrt(found) == pytest.approx(0.90, abs=5e-3)


@pytest.mark.parametrize("name", ["three_rooms", "laplacian"])
def test_in_two_worlds_no_covariance_suffices(name):
    lqr, K_b = NAMED[name](), FIRST_GAINS[name]
    best = exact.optimal_gain(lqr)
    assert np.isinf(critical_covariance(lqr, best, K_b, 60))
    assert np.isinf(second_moment(lqr, best, K_b, 1e9, 60))


def test_every_covariance_suffices_where_the_policies_agree():
    assert critical_covariance(MAIN, BEST, BEST, 60) == pytest.approx(0.0, abs=1e-20)


def test_moments_exist_above_it_only():
    critical = float(critical_covariance(MAIN, BEST, FIRST_GAIN, 40))
    scan = critical * np.array([0.01, 0.5, 1 - 1e-9, 1 + 1e-9, 2.0, 1e6])
    found = np.isfinite(second_moment(MAIN, BEST, FIRST_GAIN, scan[:, None, None], 40))
    assert found.tolist() == [False, False, False, True, True, True]


# All of them: batches, and what is refused.


def test_batches_equal_loops():
    lqr, K_b, cov = system(3, 2)
    rng = np.random.default_rng(5)
    K = K_b + 0.1 * rng.standard_normal((4, 1, 2, 3))
    covs = rng.uniform(0.5, 1.5, (3, 1, 1)) * cov
    wide = 1.5 * covs
    found = log_moment(lqr, K, K_b, covs, 4, 1.4, cov_behaviour=wide)
    alphas = tail_index(lqr, K, K_b, covs, 4, cov_behaviour=wide)
    walls = breakdown(lqr, K_b, K - K_b, covs, 4)
    critical = critical_covariance(lqr, K, K_b, 4)
    assert found.shape == alphas.shape == walls.shape == (4, 3)
    assert critical.shape == (4, 1)
    for i in range(4):
        close(critical[i, 0], critical_covariance(lqr, K[i, 0], K_b, 4), rtol=1e-12)
        for j in range(3):
            one = lqr, K[i, 0], K_b, covs[j], 4
            more = {"cov_behaviour": wide[j]}
            close(found[i, j], log_moment(*one, 1.4, **more), rtol=1e-10)
            close(alphas[i, j], tail_index(*one, **more), rtol=1e-10)
            wall = breakdown(lqr, K_b, K[i, 0] - K_b, covs[j], 4)
            close(walls[i, j], wall, rtol=1e-10)


def test_orders_broadcast_like_the_leading_axes_of_a_gain():
    lqr, K, K_b, cov = near(2, 1, 0.05)
    orders = np.array([0.5, 1.5, 2.5])
    together = log_moment(lqr, K, K_b, cov, 6, orders)
    alone = [log_moment(lqr, K, K_b, cov, 6, order) for order in orders]
    close(together, alone, rtol=1e-12)


@pytest.mark.parametrize("order", [0.0, -1.0, np.nan, "two", [2.0, 0.0]])
@pytest.mark.parametrize("function", [log_moment, moment])
def test_an_order_that_is_no_number_above_0_is_refused_by_name(function, order):
    with pytest.raises(ValueError, match=r"^order: expected .+, found .+"):
        function(MAIN, BEST, FIRST_GAIN, 1.0, 5, order)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("K", {"K": np.zeros((2, 1))}),
        ("K_behaviour", {"K_behaviour": np.zeros((1, 3))}),
        ("cov", {"cov": -1.0}),
        ("cov", {"cov": 0.0}),
        ("horizon", {"horizon": 0}),
        ("cov_behaviour", {"cov_behaviour": np.eye(2)}),
    ],
)
@pytest.mark.parametrize("function", [log_moment, second_moment, tail_index])
def test_bad_arguments_are_refused_by_name(function, name, changed):
    good = {"K": BEST, "K_behaviour": FIRST_GAIN, "cov": 1.0, "horizon": 5}
    with pytest.raises(ValueError, match=rf"^{name}: expected .+, found .+"):
        function(MAIN, **(good | changed))


def test_batches_that_do_not_fit_are_refused_by_name():
    three, two = np.ones((3, 1, 1)), np.ones((2, 1, 1))
    with pytest.raises(ValueError, match=r"^cov_behaviour: expected"):
        log_moment(MAIN, BEST, FIRST_GAIN, three, 5, cov_behaviour=two)
    with pytest.raises(ValueError, match=r"^direction: expected"):
        breakdown(MAIN, three * FIRST_GAIN, two * WAY, 1.0, 5)
    with pytest.raises(ValueError, match=r"^cov: expected"):
        breakdown(MAIN, FIRST_GAIN, two * WAY, three, 5)
    with pytest.raises(ValueError, match=r"^K_behaviour: expected"):
        critical_covariance(MAIN, two * BEST, three * FIRST_GAIN, 5)
