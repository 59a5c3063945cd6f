"""Reference values, computed once outside this library, to the digits recorded."""

import dataclasses

import numpy as np
import pytest
from systems import FIRST_GAIN, close, random_world, stable_gain

from lqrlib import exact, worlds
from lqrlib.weights import (
    breakdown,
    critical_covariance,
    second_moment,
    tail_index,
)

MAIN = worlds.double_integrator()
STARTS = 100


def sharpest(lqr, K):
    """λmax(R + γB'PB), the sharpest curvature of the action value at K."""
    P = exact.value_matrix(lqr, K)
    return np.linalg.eigvalsh(lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B).max()


def starts(n_inputs):
    """Stable gains of as many random worlds."""
    for seed in range(STARTS):
        rng = np.random.default_rng([n_inputs, seed])
        lqr = random_world(1 + seed % 5, n_inputs, rng)
        yield lqr, stable_gain(lqr, rng), rng


def test_optimum_of_the_main_world():
    K = exact.optimal_gain(MAIN)
    close(K, [[-1.8581542, -3.14379679]], rtol=0, atol=5e-9)
    assert exact.cost(MAIN, K) == pytest.approx(17.392386706948827, rel=1e-13)


def test_cost_of_the_first_gain():
    assert exact.cost(MAIN, FIRST_GAIN) == pytest.approx(22.30869592598592, rel=1e-13)


@pytest.mark.parametrize(
    ("cov", "printed"),
    [(0.0, [-0.41321468, 8.61767862]), (0.5, [-0.28216569, 9.08189816])],
)
def test_gradient_at_the_first_gain(cov, printed):
    close(exact.gradient(MAIN, FIRST_GAIN, cov), [printed], rtol=0, atol=6e-9)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_steps_of_nineteen_tenths_of_the_sharpest_curvature_always_descend(m):
    # The curvature falls along the path, so the start's step size stays good.
    for lqr, K, _ in starts(m):
        step = 1.9 / sharpest(lqr, K)
        path = [K]
        for _ in range(20):
            path.append(path[-1] - step * exact.gain_error(lqr, path[-1]))
        J = exact.cost(lqr, path)
        assert (np.diff(J) <= 1e-12 * J[0]).all()
        assert J[1] < J[0]


def test_with_one_action_a_step_of_twenty_one_tenths_never_descends():
    # Here the curvature is one number, so each step overshoots in every direction.
    for lqr, K, _ in starts(1):
        step = 2.1 / sharpest(lqr, K)
        assert exact.cost(lqr, K - step * exact.gain_error(lqr, K)) > exact.cost(lqr, K)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_a_step_of_twenty_one_tenths_leaves_the_optimum_along_the_sharpest_axis(m):
    for lqr, _, rng in starts(m):
        optimum = exact.optimal_gain(lqr)
        P = exact.value_matrix(lqr, optimum)
        curvature = lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B
        values, axes = np.linalg.eigh(curvature)
        away = 1e-5 * np.outer(axes[:, -1], rng.standard_normal(lqr.n))
        stepped = away - 2.1 / values[-1] * exact.gain_error(lqr, optimum + away)
        # E is curvature times distance to first order: the factor is 1 − 2.1.
        close(stepped, -1.1 * away, rtol=0, atol=0.05 * np.abs(away).max())
        before, after = exact.cost(lqr, [optimum + away, optimum + stepped])
        assert after > before


def test_gauss_newton_is_the_natural_step_of_the_max_entropy_policy():
    # The Fisher natural gradient of N(Kx, Σ) is 2ΣE; Σ = (τ/2)(R + γB'PB)⁻¹.
    lqr, K, _ = next(starts(3))
    P = exact.value_matrix(lqr, K)
    temperature = 0.3
    Sigma = temperature / 2 * np.linalg.inv(lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B)
    natural = Sigma @ exact.natural_gradient(lqr, K)
    close(natural, temperature * exact.gauss_newton(lqr, K), rtol=1e-11)


# The second moment of weights, between the first gain and others.


@pytest.mark.parametrize(
    ("horizon", "printed"),
    [
        (1, 1.05409),
        (2, 1.10594),
        (6, 1.27112),
        (11, 1.37534),
        (21, 1.50513),
        (30, 1.64285),
    ],
)
def test_second_moment_of_weights_near_the_first_gain(horizon, printed):
    found = second_moment(MAIN, [[-1.05, -1.1]], FIRST_GAIN, 0.25, horizon)
    assert found == pytest.approx(printed, abs=6e-6)


def towards_the_optimum(fraction):
    return FIRST_GAIN + fraction * (exact.optimal_gain(MAIN) - FIRST_GAIN)


@pytest.mark.parametrize(
    ("variance", "fractions"),
    [
        (0.01, ("0.0306", "0.0164", "0.0143", "0.0126")),
        (1.0, ("0.306", "0.185", "0.173", "0.159")),
        (9.0, ("0.919", "0.725", "0.721", "0.694")),
    ],
)
def test_weights_break_down_on_the_way_to_the_optimum_where_it_was_found(
    variance, fractions
):
    way = exact.optimal_gain(MAIN) - FIRST_GAIN
    for horizon, printed in zip((1, 5, 10, 100), fractions, strict=True):
        border, half_digit = float(printed), 0.5 * 10.0 ** -len(printed.split(".")[1])
        found = breakdown(MAIN, FIRST_GAIN, way, variance, horizon)
        assert found == pytest.approx(border, abs=half_digit)
        before, after = (
            second_moment(
                MAIN, towards_the_optimum(border + side), FIRST_GAIN, variance, horizon
            )
            for side in (-half_digit, half_digit)
        )
        assert np.isfinite(before)
        assert after == np.inf


@pytest.mark.parametrize("horizon", [1, 5, 10, 100])
def test_at_a_variance_of_one_hundred_weights_reach_beyond_the_optimum(horizon):
    there = towards_the_optimum(1.5)
    assert np.isfinite(second_moment(MAIN, there, FIRST_GAIN, 100.0, horizon))
    way = exact.optimal_gain(MAIN) - FIRST_GAIN
    assert breakdown(MAIN, FIRST_GAIN, way, 100.0, horizon) > 1.5


def test_whatever_the_variance_weights_reach_no_farther_than_this():
    way = exact.optimal_gain(MAIN) - FIRST_GAIN
    found = breakdown(MAIN, FIRST_GAIN, way, 1e9, 60)
    assert found == pytest.approx(2.656, abs=5e-4)


@pytest.mark.parametrize(
    ("variance", "printed"),
    [(0.01, "1.0009"), (1.0, "1.09"), (9.0, "1.66"), (100.0, "4.7")],
)
def test_tail_indices_of_weights_of_the_optimum_over_fifty_steps(variance, printed):
    half_digit = 0.5 * 10.0 ** -len(printed.split(".")[1])
    found = tail_index(MAIN, exact.optimal_gain(MAIN), FIRST_GAIN, variance, 50)
    assert found == pytest.approx(float(printed), abs=half_digit)


@pytest.mark.parametrize(
    ("horizon", "printed"), [(10, 14.532), (30, 15.0088), (60, 15.0430), (100, 15.0436)]
)
def test_critical_covariances_of_the_optimum(horizon, printed):
    best = exact.optimal_gain(MAIN)
    found = critical_covariance(MAIN, best, FIRST_GAIN, horizon)
    assert found == pytest.approx(printed, rel=1e-5)


@pytest.mark.parametrize(("size", "deviation"), [(1.0, 3.88), (0.0, 0.90)])
def test_the_critical_deviation_of_the_optimum_at_sixty_steps(size, deviation):
    lqr = dataclasses.replace(MAIN, X0=size * np.eye(2))
    best = exact.optimal_gain(lqr)
    found = np.sqrt(critical_covariance(lqr, best, FIRST_GAIN, 60))
    assert found == pytest.approx(deviation, abs=0.005)
    below, above = (
        second_moment(lqr, best, FIRST_GAIN, sigma**2, 60)
        for sigma in (deviation - 0.005, deviation + 0.005)
    )
    assert below == np.inf
    assert np.isfinite(above)
