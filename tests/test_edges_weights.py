"""Moments of weights near where they end, against one determinant with 50 digits.

The determinant is that of all the noise of a trajectory at once: the recursion of the
library is not in it.
"""

import dataclasses

import extended as ex
import numpy as np
import pytest
from systems import FIRST_GAIN

from lqrlib import LQR, exact, ladder, lyapunov, worlds
from lqrlib.weights import (
    breakdown,
    critical_covariance,
    log_moment,
    moment,
    second_moment,
    tail_index,
)

EPS = np.finfo(float).eps
MAIN = worlds.double_integrator()
BEST, ONE = exact.optimal_gain(MAIN), np.eye(1)
WAY = BEST - FIRST_GAIN
# A pivot is lost to rounding in proportion to how far from the end it is, so that
# log E[w²] is good to eps over the distance; about six times the worst that was seen.
NEAR = 4.0
# Far from the end: absolute, since the logarithm of a moment near 1 is near 0.
FAR = 30 * EPS
# Searches for an end stop when they know it to 2⁻⁴²; as fractions of the end.
END = 4 * 2.0**-42


def changed(**parts):
    return dataclasses.replace(MAIN, **parts)


def two_by_two():
    lqr = worlds.random(2, 2, np.random.default_rng(3))
    K_b = 0.5 * exact.optimal_gain(lqr)
    return lqr, K_b, np.random.default_rng(1).standard_normal((2, 2))


NONE = np.zeros((2, 2))
RAYS = {
    "main": (MAIN, FIRST_GAIN, WAY),
    "two actions": two_by_two(),
    "one state": (worlds.scalar(), np.array([[-0.6]]), ONE),
    "X0 = 0": (changed(X0=NONE), FIRST_GAIN, WAY),
    "X0 of rank 1": (changed(X0=np.diag([1.0, 0.0])), FIRST_GAIN, WAY),
    "W = 0": (changed(W=NONE), FIRST_GAIN, WAY),
    "X0 = 0 and W = 0": (changed(X0=NONE, W=NONE), FIRST_GAIN, WAY),
}
EACH_RAY = pytest.mark.parametrize("ray", RAYS.values(), ids=RAYS)


def exists(lqr, K, K_b, cov, T, order=2.0):
    return ex.log_moment(lqr, K, K_b, cov, T, order) < ex.mp.inf


def moves_at_once(lqr):
    """Whether the first action answers to a state that is not 0."""
    return lqr.X0.any()


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("cov", [0.01, 1.0])
@EACH_RAY
def test_up_to_its_end_the_second_moment_is_the_determinant_and_then_none(ray, cov, T):
    lqr, K_b, D = ray
    wall, Sigma = breakdown(lqr, K_b, D, cov, T), cov * np.eye(lqr.m)
    if T == 1 and not moves_at_once(lqr):
        assert wall == np.inf
        assert second_moment(lqr, K_b + 1e6 * D, K_b, cov, T) == 1.0
        return
    assert exists(lqr, ex.long(K_b) + (1 - END) * wall * D, K_b, Sigma, T)
    assert not exists(lqr, ex.long(K_b) + (1 + END) * wall * D, K_b, Sigma, T)
    for distance in (1e-6, 1e-9):
        inside, outside = (K_b + s * wall * D for s in (1 - distance, 1 + distance))
        true = ex.log_moment(lqr, inside, K_b, Sigma, T)
        found = log_moment(lqr, inside, K_b, cov, T)
        assert abs(float(found - true)) < NEAR * EPS / distance
        assert moment(lqr, inside, K_b, cov, T, 2.0) == np.exp(found)
        assert second_moment(lqr, outside, K_b, cov, T) == np.inf
        # The order ends where the step does: w^α at 2 − α like the distance.
        for K, side in ((inside, 1.0), (outside, -1.0)):
            assert 0 < side * (tail_index(lqr, K, K_b, cov, T) - 2.0) < 10 * distance


@pytest.mark.parametrize(
    ("K_b", "D", "T"),
    [
        ([[1.0, 0.0]], WAY, 3),
        ([[0.5, 0.3]], [[-1.0, -0.5]], 4),
        ([[3.0, 3.0]], [[-1.0, -1.0]], 3),
    ],
)
def test_from_a_loop_that_grows_the_breakdown_is_the_first_gap_of_a_scan(K_b, D, T):
    K_b, D = np.array(K_b), np.array(D)
    assert lyapunov.spectral_radius(MAIN.closed_loop(K_b)) > 1
    wall = float(breakdown(MAIN, K_b, D, 1.0, T))
    for share in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1 - END):
        assert exists(MAIN, ex.long(K_b) + share * wall * D, K_b, ONE, T)
    assert not exists(MAIN, ex.long(K_b) + (1 + END) * wall * D, K_b, ONE, T)


def test_a_region_that_is_left_and_entered_again_is_so_in_a_scan():
    # For T steps all that is seen is x' = 1.4x + u + w; the states are its future.
    T, v = 5, np.append(1.4 ** np.arange(5), 0.0)[:, None]
    A = np.eye(T + 1, k=1) * (np.arange(T + 1) < T)
    lqr = LQR(A, v, np.eye(T + 1), ONE, 0.01 * v @ v.T, 0.1 * v @ v.T, 0.9)
    K_b, D = np.zeros((1, T + 1)), -np.eye(1, T + 1)
    wall = float(breakdown(lqr, K_b, D, 1.0, T))
    steps = [(1 - END) * wall, (1 + END) * wall, 0.6, 0.685, 0.75]
    scan = [exists(lqr, step * D, K_b, ONE, T) for step in steps]
    assert scan == [True, False, False, True, False]
    found = [second_moment(lqr, step * D, K_b, 1.0, T) for step in steps[2:]]
    assert np.isfinite(found).tolist() == scan[2:]


@pytest.mark.parametrize("horizon", [1, 2, 4])
def test_the_critical_covariance_is_where_the_determinant_says(horizon):
    for lqr in (MAIN, changed(X0=NONE), changed(X0=np.diag([0.0, 1.0]))):
        found = float(critical_covariance(lqr, BEST, FIRST_GAIN, horizon))
        if horizon == 1 and not moves_at_once(lqr):
            assert found == 0.0
            continue
        assert exists(lqr, BEST, FIRST_GAIN, found * (1 + 1e-10) * ONE, horizon)
        assert not exists(lqr, BEST, FIRST_GAIN, found * (1 - 1e-10) * ONE, horizon)
        assert np.isfinite(
            log_moment(lqr, BEST, FIRST_GAIN, found * (1 + 1e-9), horizon)
        )
        assert log_moment(lqr, BEST, FIRST_GAIN, found * (1 - 1e-9), horizon) == np.inf


@pytest.mark.parametrize("horizon", [1, 2, 4])
def test_the_tail_index_is_the_order_at_which_the_determinant_vanishes(horizon):
    for share, cov in ((0.1, 0.01), (0.3, 1.0), (1.0, 100.0)):
        K = FIRST_GAIN + share * WAY
        order = float(tail_index(MAIN, K, FIRST_GAIN, cov, horizon))
        assert exists(MAIN, K, FIRST_GAIN, cov * ONE, horizon, order * (1 - END))
        assert not exists(MAIN, K, FIRST_GAIN, cov * ONE, horizon, order * (1 + END))


@pytest.mark.parametrize("order", [1e-6, 0.5, 1.0, 1 + 1e-6, 2.0, 3.0])
@pytest.mark.parametrize("share", [0.0, 1e-12, 1e-8, 1e-4, 1e-2, 0.05])
def test_close_to_the_data_a_moment_is_good_to_the_last_digits_of_one(share, order):
    K = FIRST_GAIN + share * WAY
    true = ex.log_moment(MAIN, K, FIRST_GAIN, ONE, 3, order)
    assert true < ex.mp.inf
    found = log_moment(MAIN, K, FIRST_GAIN, 1.0, 3, order)
    assert abs(float(found - true)) < FAR


@pytest.mark.parametrize("weight", [1e-10, 1e10])
def test_weights_do_not_know_the_cost(weight):
    lqr, K = changed(Q=weight * np.eye(2), R=[[weight]]), FIRST_GAIN + 0.1 * WAY
    found, plain = (log_moment(world, K, FIRST_GAIN, 1.0, 9) for world in (lqr, MAIN))
    assert found == plain


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e3])
def test_the_unit_of_the_action_changes_no_moment(size):
    lqr = changed(B=size * MAIN.B)
    K, K_b, cov = (FIRST_GAIN + 0.1 * WAY) / size, FIRST_GAIN / size, ONE / size**2
    true = ex.log_moment(lqr, K, K_b, cov, 3)
    assert abs(float(log_moment(lqr, K, K_b, cov, 3) - true)) < FAR
    wall = float(breakdown(lqr, K_b, WAY / size, cov, 3))
    assert wall == pytest.approx(float(breakdown(MAIN, FIRST_GAIN, WAY, 1.0, 3)))


# The ladder at its smallest: one step of one state, where all is a polynomial.


def normal_moments(k, variance):
    """E x^k."""
    odd = k % 2
    return ex.mp.mpf(0) if odd else ex.mp.fac2(k - 1) * variance ** (k // 2)


def expected(polynomial, var_x, var_e):
    """E of a polynomial in independent x and e, {(powers of x, of e): factor}."""
    return sum(
        factor * normal_moments(i, var_x) * normal_moments(j, var_e)
        for (i, j), factor in polynomial.items()
    )


def times(p, q):
    product = {}
    for (i, j), a in p.items():
        for (k, l), b in q.items():  # noqa: E741
            product[i + k, j + l] = product.get((i + k, j + l), 0) + a * b
    return product


def one_step(lqr, k, k_b, var):
    """Mean and variance of w s c, for u ~ N(k_b x, σ²) and s = (u − kx)x/σ²."""
    _, _, Q, R, _, X0, _ = (each.item() for each in map(np.array, ex.World.of(lqr)))
    k, k_b, var = ex.mp.mpf(k), ex.mp.mpf(k_b), ex.mp.mpf(var)
    values = []
    for power, shift in ((1, k), (2, 2 * k - k_b)):
        # Under w^q: u = (q k − (q−1) k_b)x + e, and x is wider from order 2 on.
        shrunk = 1 - power * (power - 1) * (k - k_b) ** 2 * X0 / var
        cost = {(2, 0): Q + R * shift**2, (1, 1): 2 * R * shift, (0, 2): R}
        score = {(1, 1): 1 / var, (2, 0): (shift - k) / var}
        term = times(score, cost)
        if power == 2:
            term = times(term, term)
        values.append(expected(term, X0 / shrunk, var) / ex.mp.sqrt(shrunk))
    mean, second = values
    return mean, second - mean**2


def test_one_step_of_the_ladder_up_to_its_end():
    lqr, k_b, var = worlds.scalar(), -0.6, 0.5
    wall = float(breakdown(lqr, [[k_b]], ONE, var, 1))
    for distance in (1.0, 0.5, 1e-3, 1e-6, 1e-9):
        k = k_b + (1 - distance) * wall
        mean, variance = one_step(lqr, k, k_b, var)
        for rung in ("trajectory", "per-decision"):
            found = ladder.spread(lqr, [[k]], [[k_b]], var, 1, rung)
            assert ex.relative(found.mean, mean) < FAR
            assert ex.relative(found.variance, variance) < 10 * NEAR * EPS / distance
        beyond = ladder.spread(lqr, [[k_b + (1 + 1e-9) * wall]], [[k_b]], var, 1, rung)
        assert beyond.variance == np.inf


def test_the_ladder_is_refused_from_the_border_on():
    for gap, ends in ((1e-9, False), (0.0, True), (-1e-9, True)):
        lqr = LQR([[2 * (1 - gap)]], ONE, ONE, ONE, ONE, ONE, 0.25)
        if ends:
            with pytest.raises(ValueError, match=r"^K: expected gains with √γ"):
                ladder.spread(lqr, [[0.0]], [[0.0]], 1.0, 1, "advantage")
        else:
            found = ladder.spread(lqr, [[0.0]], [[0.0]], 1.0, 1, "advantage")
            E = ex.evaluate(lqr, [[0.0]], ONE).E
            assert ex.relative(found.mean, 2 * E) < EPS / gap
