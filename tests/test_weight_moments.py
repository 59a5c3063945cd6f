"""Moments of weights against one determinant, and where they end against eigenvalues.

Sampling is hardly an oracle here: the moment that would give its error is infinite
first.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import (
    FIRST_GAIN,
    FIRST_GAINS,
    MOST,
    NAMED,
    close,
    gaussian_data,
    spd,
    stabilised,
    system,
    z_scores,
)

from lqrlib import LQR, GaussianPolicy, exact, lyapunov, worlds
from lqrlib.weights import (
    breakdown,
    critical_covariance,
    log_moment,
    log_weights,
    moment,
    second_moment,
    tail_index,
)

MAIN = worlds.double_integrator()
BEST, ONE = exact.optimal_gain(MAIN), np.eye(1)
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


# The second moment.


@pytest.mark.parametrize("T", [1, 2, 3, 6])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (2, 3), (5, 3)])
def test_the_second_moment_is_one_determinant_of_all_noise_at_once(n, m, T):
    lqr, K_b, cov = system(n, m)
    direction = np.random.default_rng(4).standard_normal((m, n))
    steps = np.array([0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0])
    targets = K_b + steps[:, None, None] * direction
    dense = [as_one_determinant(lqr, K, K_b, cov, cov, T, 2.0) for K in targets]
    assert np.isfinite(dense[:3]).all()
    assert dense[-1] == np.inf
    close(second_moment(lqr, targets, K_b, cov, T), np.exp(dense), rtol=1e-8)


@pytest.mark.parametrize("T", [5, 20])
def test_it_is_so_for_an_unstable_behaviour_as_well(T):
    K_b = np.array([[0.5, 0.3]])  # ρ(A + BK_b) > 1
    K, cov = K_b + np.array([[-0.02, 0.01]]), np.array([[0.7]])
    dense = as_one_determinant(MAIN, K, K_b, cov, cov, T, 2.0)
    assert log_moment(MAIN, K, K_b, cov, T) == pytest.approx(dense, rel=1e-9)


def test_of_one_scalar_step_by_hand():
    # E exp(δ²x²/σ²), x ~ N(0, X₀): (1 − 2δ²X₀/σ²)^(−½), while 2δ²X₀ < σ².
    lqr = worlds.scalar(x0=3.0)
    delta = np.array([0.0, 0.2, -0.3, 0.5])
    found = second_moment(lqr, (delta - 0.7)[:, None, None], [[-0.7]], 0.6, 1)
    close(found, [*(1 - 10 * delta[:3] ** 2) ** -0.5, np.inf], rtol=1e-13)


def test_of_two_scalar_steps_by_hand():
    # Given x₀ = x: E exp(s x₁²) with x₁ ~ N(f x, v); s = δ²/σ², f = a + b(K_b + 2δ).
    s, f, v = 0.1**2 / 0.5, 1.1 + (-0.6 + 0.2), 0.1 + 0.5
    shrunk = 1 - 2 * s * v
    at_start = s + s * f**2 / shrunk
    by_hand = (shrunk * (1 - 2 * at_start)) ** -0.5
    found = second_moment(worlds.scalar(), [[-0.5]], [[-0.6]], 0.5, 2)
    assert found == pytest.approx(by_hand, rel=1e-13)


@pytest.mark.parametrize("wider", [None, 1.03])
def test_sampled_weights_have_the_exact_second_moment(wider):
    lqr, K, cov = system(3, 2)
    target = K + 0.005 * np.random.default_rng(1).standard_normal((2, 3))
    made_with = cov if wider is None else wider * cov
    options = {} if wider is None else {"cov_behaviour": made_with}
    # Near enough for an eighth moment, so that the z-score may be trusted.
    assert moment(lqr, target, K, cov, 6, 8.0, **options) < 2
    data = gaussian_data(lqr, K, made_with, 20_000, 6)
    w = np.exp(log_weights(data, GaussianPolicy(target, cov))[:, -1])
    found = second_moment(lqr, target, K, cov, 6, **options)
    assert found > 1.005
    assert abs(z_scores(w**2, found)) < MOST


@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1), st.integers(1, 30)
)
@settings(deadline=None, max_examples=50, derandomize=True)
def test_it_is_one_only_where_the_policies_agree_and_grows_with_the_horizon(
    n, m, seed, T
):
    lqr, K_b, rng = stabilised(n, m, seed)
    cov = spd(m, rng)
    assert second_moment(lqr, K_b, K_b, cov, T) == 1.0
    target = K_b + 0.02 * rng.standard_normal((m, n))
    shorter, longer = (second_moment(lqr, target, K_b, cov, t) for t in (T, T + 1))
    assert 1.0 < shorter <= longer * (1 + 1e-12)


@pytest.mark.parametrize(
    ("gain_lead", "behaviour_lead", "cov_lead"),
    [
        ((4,), (), ()),
        ((), (4,), ()),
        ((), (), (4,)),
        ((2, 1), (3,), (2, 1)),
        ((), (), ()),
    ],
    ids=str,
)
def test_many_second_moments_equal_a_loop(gain_lead, behaviour_lead, cov_lead):
    lqr, K, cov = system(3, 2)
    rng = np.random.default_rng(5)
    targets = K + 0.15 * rng.standard_normal((*gain_lead, 2, 3))
    behaviours = K + 0.05 * rng.standard_normal((*behaviour_lead, 2, 3))
    covs = rng.uniform(0.5, 1.5, (*cov_lead, 1, 1)) * cov
    together = second_moment(lqr, targets, behaviours, covs, 5)
    lead = np.broadcast_shapes(gain_lead, behaviour_lead, cov_lead)
    assert np.shape(together) == lead
    targets, behaviours, covs = (
        np.broadcast_to(M, (*lead, *M.shape[-2:])) for M in (targets, behaviours, covs)
    )
    for i in np.ndindex(lead):
        alone = second_moment(lqr, targets[i], behaviours[i], covs[i], 5)
        assert together[i] == pytest.approx(alone, rel=1e-12)


def test_far_away_it_is_infinite_and_never_nan():
    for size in (1e3, 1e100, 1e160, 1e300):
        K = size * np.array([[1.0, -1.0]])
        assert second_moment(MAIN, K, FIRST_GAIN, 1.0, 50) == np.inf
        assert second_moment(MAIN, K, FIRST_GAIN, 1.0, 50, cov_behaviour=2) == np.inf
    lqr, K_b, cov = system(5, 3)
    for q in (0.5, 2.0):
        with_nothing = log_moment(lqr, 1e200 + K_b, K_b, cov, 3, q)
        assert with_nothing == np.inf  # for q < 1 it left the floats
    unstable = np.array([[30.0, 30.0]])
    assert second_moment(MAIN, unstable, unstable, 1.0, 1000) == 1.0


def test_a_world_without_noise_and_start_has_weights_that_never_vary():
    # Without W, X₀ and with B = 0 the states are 0, and every gain acts alike.
    still = np.zeros((2, 2))
    lqr = dataclasses.replace(
        MAIN, A=0.5 * np.eye(2), B=still[:, :1], W=still, X0=still
    )
    assert second_moment(lqr, [[5.0, 5.0]], FIRST_GAIN, 1.0, 10) == 1.0
    assert np.isinf(tail_index(lqr, [[5.0, 5.0]], FIRST_GAIN, 1.0, 10))
    assert np.isinf(breakdown(lqr, FIRST_GAIN, WAY, 1.0, 10))
    assert critical_covariance(lqr, BEST, FIRST_GAIN, 10) == 0.0


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
    assert np.isinf(narrow)  # 3Σ_b − 2Σ is not positive definite
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


@SIZES
@pytest.mark.parametrize("order", [0.1, 0.5, 0.8])
def test_below_order_one_the_policies_may_change_places(n, m, order):
    # E_b[w^q] = E[w^(q−1)] under the other policy, whose weights are 1/w.
    lqr, K, K_b, cov = near(n, m, 0.5)
    cov_b = cov + 0.3 * spd(m, np.random.default_rng(9))
    there = log_moment(lqr, K, K_b, cov, 7, order, cov_behaviour=cov_b)
    back = log_moment(lqr, K_b, K, cov_b, 7, 1.0 - order, cov_behaviour=cov)
    assert there < -1e-3
    assert there == pytest.approx(back, rel=1e-9)


@pytest.mark.parametrize("steps", [1.0, 30.0, 1e3])
def test_orders_below_one_have_a_moment_however_far_away(steps):
    K = FIRST_GAIN + steps * WAY
    found = log_moment(MAIN, K, FIRST_GAIN, 1.0, 6, [0.5, 2.0])
    dense = as_one_determinant(MAIN, K, FIRST_GAIN, ONE, ONE, 6, 0.5)
    assert found[0] == pytest.approx(dense, rel=1e-6)
    assert found[1] == np.inf
    long = log_moment(MAIN, K, FIRST_GAIN, 1.0, 60, 0.5)
    assert -np.inf < long < found[0]  # the recursion once lost this to rounding


@SIZES
def test_a_moment_does_not_depend_on_the_coordinates(n, m):
    lqr, K, K_b, cov = near(n, m, 0.05)
    rng = np.random.default_rng(6)
    S, U = np.eye(n) + spd(n, rng), np.eye(m) + spd(m, rng)  # x → Sx, u → Uu
    back = np.linalg.inv(S)
    turned = dataclasses.replace(
        lqr,
        A=S @ lqr.A @ back,
        B=S @ lqr.B @ np.linalg.inv(U),
        W=S @ lqr.W @ S.T,
        X0=S @ lqr.X0 @ S.T,
    )
    there = U @ K @ back, U @ K_b @ back, U @ cov @ U.T
    for order in (0.5, 2.0):
        for wide in (1.0, 1.7):
            expected = log_moment(lqr, K, K_b, cov, 5, order, cov_behaviour=wide * cov)
            wider = {"cov_behaviour": wide * there[2]}
            found = log_moment(turned, *there, 5, order, **wider)
            assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("order", [0.5, 1.5, 3.0])
def test_two_variances_in_one_scalar_step_by_hand(order):
    # With c = qσ_b² − (q−1)σ², ∫ π^q π_b^(1−q) is
    # (σ^(2(1−q)) σ_b^(2q)/c)^½ exp(½q(q−1)δ²x²/c).
    var, var_b, delta, start = 0.5, 0.7, 0.2, 3.0
    c = order * var_b - (order - 1) * var
    factor = var ** (1 - order) * var_b**order / c
    by_hand = (factor / (1 - order * (order - 1) * delta**2 * start / c)) ** 0.5
    lqr, K = worlds.scalar(x0=start), [[-0.7 + delta]]
    found = moment(lqr, K, [[-0.7]], var, 1, order, cov_behaviour=var_b)
    assert found == pytest.approx(by_hand, rel=1e-13)


def test_equal_means_cost_a_factor_for_each_step():
    # r = σ_b²/σ²: E[ρ²] = r / √(2r − 1) for one action.
    found = log_moment(MAIN, BEST, BEST, 0.1, 25, cov_behaviour=0.4)
    assert found == pytest.approx(25 * np.log(4 / np.sqrt(7)), rel=1e-12)
    assert np.isinf(log_moment(MAIN, BEST, BEST, 0.1, 1, cov_behaviour=0.05))


# The tail index.


def test_the_tail_index_of_one_scalar_step_by_hand():
    # q(q − 1) δ²X₀/σ² = 1.
    delta = np.array([0.1, -0.4, 3.0, 2.0**-16, 1e-9])
    found = tail_index(worlds.scalar(x0=2.0), delta[:, None, None], [[0.0]], 0.5, 1)
    alphas = 0.5 + np.sqrt(0.25 + 0.5 / (2.0 * delta**2))
    alphas[-1] = np.inf  # beyond the largest order that is tried
    close(found, alphas, rtol=1e-12)


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


def test_wide_data_have_lighter_tails_and_a_longer_horizon_heavier_ones():
    wide = np.array([0.9, 1.0, 3.0, 10.0])[:, None, None]
    alphas = tail_index(MAIN, BEST, FIRST_GAIN, 1.0, 20, cov_behaviour=wide)
    assert (np.diff(alphas) > 0).all()
    alphas = [float(tail_index(MAIN, BEST, FIRST_GAIN, 4.0, T)) for T in range(1, 12)]
    assert (np.diff(alphas) < 0).all()
    assert alphas[-1] > 1


# Breakdown.


def first_exit(lqr, K_b, D, cov, T, order):
    """1/z for the largest z > 0 at which z²I − 2qzP + qR is singular.

    log w = s v'Pv − ½s² v'Rv for v all the standard noise of T steps stacked, so that
    w^q has a mean as long as I − 2qsP + qs²R ≻ 0.
    """
    n, m = lqr.n, lqr.m
    size = n + T * (m + n)
    L = np.linalg.cholesky(cov)
    x, P, R = root(lqr.X0) @ np.eye(n, size), np.zeros((size, size)), 0.0
    for t in range(T):
        normals = np.eye(m + n, size, k=n + t * (m + n))
        xi, zeta = normals[:m], normals[m:]
        moved = np.linalg.solve(L, D @ x)
        P, R = P + xi.T @ moved, R + moved.T @ moved
        x = lqr.closed_loop(K_b) @ x + lqr.B @ L @ xi + root(lqr.W) @ zeta
    beside = np.hstack([np.zeros_like(P), np.eye(size)])
    pencil = np.vstack([beside, np.hstack([-order * R, order * (P + P.T)])])
    z = np.linalg.eigvals(pencil)
    return 1.0 / z.real[np.abs(z.imag) < 1e-7 * np.abs(z)].max()


def shift_register(a, T, w, x0, idle=0.0):
    """For T steps the same observations as x' = ax + u + w, from a loop with ρ = 0.

    The states are what x will be in 0, 1, …, T − 1 steps, if nothing happens; and one
    more, of variance ``idle`` at the start, which nobody observes.
    """
    v = np.append(a ** np.arange(T), 0.0)[:, None]
    start = x0 * v @ v.T + np.diag([*np.zeros(T), idle])
    A = np.eye(T + 1, k=1) * (np.arange(T + 1) < T)
    return LQR(A, v, np.eye(T + 1), ONE, w * v @ v.T, start, 0.9)


@SIZES
@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("order", [1.2, 2.0, 4.0])
def test_the_breakdown_is_an_eigenvalue(n, m, T, order):
    lqr, K_b, cov = system(n, m)
    D = np.random.default_rng(2).standard_normal((3, m, n))
    by_hand = [first_exit(lqr, K_b, each, cov, T, order) for each in D]
    close(breakdown(lqr, K_b, D, cov, T, order=order), by_hand, rtol=1e-7)


@pytest.mark.parametrize("K_b", [[[0.2, -0.5]], [[0.5, 0.3]], [[1.0, 0.0]]], ids=str)
@pytest.mark.parametrize("cov", [1.0, 100.0])
def test_it_is_so_for_loops_that_do_not_settle(K_b, cov):
    K_b = np.array(K_b)
    assert lyapunov.spectral_radius(MAIN.closed_loop(K_b)) > 1
    by_hand = first_exit(MAIN, K_b, BEST - K_b, cov * ONE, 60, 2.0)
    found = breakdown(MAIN, K_b, BEST - K_b, cov, 60)
    assert found == pytest.approx(by_hand, rel=1e-6)


def test_a_region_left_and_entered_again_is_left_at_the_first_exit():
    lqr = shift_register(1.4, 5, 0.01, 0.1)
    K_b, D = np.zeros((1, 6)), -np.eye(1, 6)
    assert lyapunov.spectral_radius(lqr.closed_loop(K_b)) == 0
    steps = np.array([0.3, 0.6, 0.685, 0.75])[:, None, None]
    found = np.isfinite(second_moment(lqr, steps * D, K_b, 1.0, 5))
    assert found.tolist() == [True, False, True, False]
    assert 0.3 < breakdown(lqr, K_b, D, 1.0, 5) < 0.4


@pytest.mark.parametrize(
    ("T", "order", "opens", "far"),
    [
        (5, 2.0, 1.37779384136, 0.6),
        (6, 2.0, 1.33338486657, 0.6),
        (8, 2.0, 1.26158361410, 0.6),
        (10, 8.0, 1.06296112470, 0.125),
    ],
)
@pytest.mark.parametrize("beyond", [-1e-3, -1e-5, 1e-6, 1e-5, 1e-3])
def test_a_gap_in_the_region_is_seen_however_narrow(T, order, opens, far, beyond):
    # Before a = ``opens`` there is none, and the region ends much farther out.
    lqr = shift_register(opens + beyond, T, 0.01, 0.1)
    K_b, D = np.zeros((1, T + 1)), -np.eye(1, T + 1)
    by_hand = first_exit(lqr, K_b, D, ONE, T, order)
    assert (by_hand > far) == (beyond < 0)
    for idle in np.geomspace(0.1, 100.0, 6):  # changes nothing but the steps tried
        lqr = shift_register(opens + beyond, T, 0.01, 0.1, idle)
        found = breakdown(lqr, K_b, D, 1.0, T, order=order)
        assert found == pytest.approx(by_hand, rel=1e-9)


def test_noise_alone_breaks_weights_too():
    at_rest = dataclasses.replace(MAIN, X0=0 * MAIN.X0)
    undisturbed = dataclasses.replace(at_rest, W=0 * MAIN.W)
    for lqr in (at_rest, undisturbed):
        by_hand = first_exit(lqr, FIRST_GAIN, WAY, ONE, 20, 2.0)
        found = breakdown(lqr, FIRST_GAIN, WAY, 1.0, 20)
        assert found == pytest.approx(by_hand, rel=1e-8)


def test_settled_and_unsettled_gains_in_one_batch_equal_a_loop():
    many = np.array([[[0.2, -0.5]], [[-1.0, -1.0]], [[0.5, 0.3]]])
    together = breakdown(MAIN, many, WAY, [[[1.0]], [[1e13]], [[1e-13]]], 30)
    for K_b, cov, found in zip(many, (1.0, 1e13, 1e-13), together, strict=True):
        assert found == pytest.approx(breakdown(MAIN, K_b, WAY, cov, 30), rel=1e-14)


@pytest.mark.parametrize("length", [1e-300, 1e-9, 1e9, 1e300])
def test_the_breakdown_goes_with_the_inverse_of_the_directions_length(length):
    once = breakdown(MAIN, FIRST_GAIN, WAY, 1.0, 20)
    found = breakdown(MAIN, FIRST_GAIN, length * WAY, 1.0, 20)
    assert found * length == pytest.approx(once, rel=1e-11)


def test_up_to_order_one_nothing_breaks_down():
    orders = [0.01, 0.5, 1.0, 1.001, 2.0]
    found = breakdown(MAIN, FIRST_GAIN, WAY, 1.0, 20, order=orders)
    assert np.isinf(found).tolist() == [True, True, True, False, False]
    assert found[3] > 10 * found[4]


def test_a_longer_horizon_never_breaks_down_later():
    rays = np.random.default_rng(8).standard_normal((20, 1, 2))
    walls = [breakdown(MAIN, FIRST_GAIN, rays, 1.0, T) for T in (1, 2, 5, 20, 60)]
    assert (np.diff(walls, axis=0) <= 1e-11).all()
    assert (walls[-1] < 0.9 * walls[0]).any()


@pytest.mark.parametrize("cov", [1e-20, 0.01, 1.0, 100.0, 1e15])
@pytest.mark.parametrize("order", [1.5, 2.0, 4.0])
def test_one_step_breaks_down_where_the_largest_eigenvalue_says(cov, order):
    lqr, K_b, _ = system(3, 2)
    D = np.random.default_rng(0).standard_normal((6, 2, 3))
    spread = np.linalg.eigvalsh(D @ lqr.X0 @ D.mT)[:, -1]
    by_hand = np.sqrt(cov / (order * (order - 1) * spread))
    close(breakdown(lqr, K_b, D, cov, 1, order=order), by_hand, rtol=1e-11)


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
    never = breakdown(MAIN, [FIRST_GAIN] * 3, 0.0 * WAY, 1.0, 20)
    assert never.tolist() == [np.inf] * 3


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


@pytest.mark.parametrize("name", ["three_rooms", "laplacian"])
def test_in_two_worlds_no_covariance_suffices(name):
    lqr, K_b = NAMED[name](), FIRST_GAINS[name]
    best = exact.optimal_gain(lqr)
    assert np.isinf(critical_covariance(lqr, best, K_b, 60))
    assert np.isinf(second_moment(lqr, best, K_b, 1e9, 60))


def test_every_covariance_suffices_where_the_policies_agree():
    assert critical_covariance(MAIN, BEST, BEST, 60) == 0.0


@pytest.mark.parametrize("length", [1e-6, 1e-2, 1.0, 1e3, 1e6])
def test_the_critical_covariance_of_one_step_by_hand(length):
    # Σ = σ²I: 2 λmax(Δ X₀ Δ') = σ².
    lqr, K_b, _ = system(3, 2)
    change = length * np.random.default_rng(0).standard_normal((5, 2, 3))
    by_hand = 2 * np.linalg.eigvalsh(change @ lqr.X0 @ change.mT)[:, -1]
    found = critical_covariance(lqr, K_b + change, K_b, 1)
    close(found, by_hand, rtol=1e-9 if length < 1e-3 else 1e-12)  # K_b + Δ rounds


def test_close_to_the_data_it_goes_with_the_square_of_the_change():
    # F → A + BK_b and C_B drops out: σ_c² → 2 λmax(Δ C Δ'), states of K_b at σ = 0.
    change = 1e-4 * WAY
    states = stacked(MAIN, FIRST_GAIN + WAY, FIRST_GAIN + 2 * WAY, MAIN.W, MAIN.X0, 25)
    limit = 2e-8 * np.linalg.eigvalsh(states)[-1]
    found = critical_covariance(MAIN, FIRST_GAIN + change, FIRST_GAIN, 25)
    assert found == pytest.approx(limit, rel=1e-3)


def test_no_covariance_reaches_farther_than_its_limit():
    # As σ² → ∞ the breakdown tends to where the critical covariance becomes infinite.
    end = float(breakdown(MAIN, FIRST_GAIN, WAY, 1e12, 20))
    assert float(breakdown(MAIN, FIRST_GAIN, WAY, 1e10, 20)) == pytest.approx(end)
    before, after = (
        critical_covariance(MAIN, FIRST_GAIN + s * end * WAY, FIRST_GAIN, 20)
        for s in (1 - 1e-6, 1 + 1e-6)
    )
    assert 1e3 < before < np.inf
    assert after == np.inf


def test_without_a_start_and_noise_every_covariance_suffices_or_none():
    quiet = dataclasses.replace(MAIN, W=0 * MAIN.W, X0=0 * MAIN.X0)
    gains = FIRST_GAIN + np.array([0.5, 5.0])[:, None, None] * WAY
    found = critical_covariance(quiet, gains, FIRST_GAIN, 20)
    assert found.tolist() == [0.0, np.inf]


def test_a_longer_horizon_never_needs_less():
    found = [critical_covariance(MAIN, BEST, FIRST_GAIN, T) for T in (1, 2, 5, 20, 60)]
    assert (np.diff(found) > 0).all()


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
    with pytest.raises(ValueError, match=r"^order: expected leading axes"):
        log_moment(MAIN, two * BEST, FIRST_GAIN, 1.0, 5, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"^order: expected leading axes"):
        breakdown(MAIN, FIRST_GAIN, three * WAY, 1.0, 5, order=[1.0, 2.0])


@pytest.mark.parametrize("horizon", [0, -1, 1.5, True, None, "3"])
def test_a_horizon_that_is_no_count_is_refused_by_name(horizon):
    for call in (second_moment, breakdown):
        with pytest.raises(ValueError, match=r"^horizon: expected .+, found .+"):
            call(MAIN, FIRST_GAIN, FIRST_GAIN, 1.0, horizon)
    with pytest.raises(ValueError, match=r"^horizon: expected .+, found .+"):
        critical_covariance(MAIN, FIRST_GAIN, FIRST_GAIN, horizon)
