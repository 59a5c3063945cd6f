"""Gains that see a part of the state, and worlds whose actuator lags."""

import numpy as np
import pytest
from systems import FIRST_GAIN, SYSTEMS, close, system

from lqrlib import GaussianPolicy, exact, observed, worlds
from lqrlib.rollout import rollout

MAIN = worlds.double_integrator()
LAGS = pytest.mark.parametrize("lag", [0.0, 0.3, 0.9])


@SYSTEMS
def test_a_gain_that_sees_everything_is_not_widened_and_its_best_is_optimal(n, m):
    lqr, K, _ = system(n, m)
    np.testing.assert_array_equal(observed.widen(lqr, K), K)
    best = observed.best_gain(lqr, K)
    close(exact.cost(lqr, best), exact.cost(lqr, exact.optimal_gain(lqr)), rtol=1e-8)


def test_widening_puts_zeros_behind_and_broadcasts():
    world = worlds.with_lag(MAIN, 0.5)
    gains = np.arange(6.0).reshape(3, 1, 2)
    wide = observed.widen(world, gains)
    assert wide.shape == (3, 1, 3)
    np.testing.assert_array_equal(wide[..., :2], gains)
    np.testing.assert_array_equal(wide[..., 2], 0.0)


@LAGS
def test_at_the_best_gain_the_slope_of_what_is_seen_vanishes(lag):
    world = worlds.with_lag(MAIN, lag)
    best = observed.best_gain(world, FIRST_GAIN)
    slope = exact.gradient(world, observed.widen(world, best))[..., :2]
    close(slope, 0.0, atol=1e-5)
    least = exact.cost(world, observed.widen(world, best))
    rng = np.random.default_rng(0)
    for _ in range(10):
        nearby = best + 0.01 * rng.standard_normal(best.shape)
        assert exact.cost(world, observed.widen(world, nearby)) > least


def test_what_is_not_seen_costs_something():
    world = worlds.with_lag(MAIN, 0.8)
    best = observed.best_gain(world, FIRST_GAIN)
    blind = exact.cost(world, observed.widen(world, best))
    assert blind > 1.02 * exact.cost(world, exact.optimal_gain(world))


@pytest.mark.parametrize(
    "K", [np.zeros((1, 4)), np.zeros((2, 2)), np.zeros(2), [[np.nan, 1.0]], "K"]
)
def test_gains_that_do_not_fit_are_refused_by_name(K):
    world = worlds.with_lag(MAIN, 0.5)
    with pytest.raises(ValueError, match=r"^K: expected .+, found .+"):
        observed.widen(world, K)


def test_a_search_needs_a_gain_of_finite_cost_to_start_from():
    with pytest.raises(ValueError, match=r"^K: expected a gain with finite cost"):
        observed.best_gain(MAIN, -20 * FIRST_GAIN)


# A lagging actuator.


@LAGS
def test_a_lagging_world_moves_as_one_writes_it_down(lag):
    lqr, _, _ = system(3, 2)
    world = worlds.with_lag(lqr, lag)
    rng = np.random.default_rng(1)
    x, v, u = (rng.standard_normal(size) for size in (3, 2, 2))
    carried = lag * v + (1 - lag) * u
    after = world.A @ np.concatenate([x, v]) + world.B @ u
    close(after, np.concatenate([lqr.A @ x + lqr.B @ carried, carried]))
    for whole, part in ((world.Q, lqr.Q), (world.W, lqr.W), (world.X0, lqr.X0)):
        np.testing.assert_array_equal(whole[:3, :3], part)
        assert not whole[3:].any()
        assert not whole[:, 3:].any()
    np.testing.assert_array_equal(world.R, lqr.R)


def test_without_a_lag_costs_are_those_of_the_world():
    world = worlds.with_lag(MAIN, 0.0)
    for K in (FIRST_GAIN, exact.optimal_gain(MAIN), -20 * FIRST_GAIN):
        wide = observed.widen(world, K)
        close(exact.cost(world, wide, 0.7), exact.cost(MAIN, K, 0.7), rtol=1e-12)


def test_the_exact_cost_is_that_of_rollouts():
    world = worlds.with_lag(MAIN, 0.6)
    K = observed.widen(world, FIRST_GAIN)
    rng = np.random.default_rng(2)
    data = rollout(world, GaussianPolicy(K, 0.5), 4000, 200, rng)
    returns = data.cost @ MAIN.gamma ** np.arange(200)
    z = (returns.mean() - exact.cost(world, K, 0.5)) / (returns.std() / np.sqrt(4000))
    assert abs(z) < 4


@pytest.mark.parametrize("lag", [-0.1, 1.0, np.nan, "0.5", None, [0.5]])
def test_a_lag_outside_zero_to_one_is_refused_by_name(lag):
    with pytest.raises(ValueError, match=r"^lag: expected .+, found .+"):
        worlds.with_lag(MAIN, lag)


def test_a_world_that_is_none_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^lqr: expected LQR"):
        worlds.with_lag(None, 0.5)
