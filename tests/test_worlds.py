"""The named worlds are those of their sources, and each has an optimum."""

import numpy as np
import pytest
from systems import NAMED

from lqrlib import exact, lyapunov, worlds


@pytest.mark.parametrize("name", NAMED)
def test_each_world_has_a_stabilising_optimum(name):
    lqr = NAMED[name]()
    K = exact.optimal_gain(lqr)
    assert K.shape == (lqr.m, lqr.n)
    assert exact.is_stable(lqr, K)
    assert np.abs(exact.gain_error(lqr, K)).max() < 1e-10


@pytest.mark.parametrize("name", NAMED)
def test_each_call_builds_a_fresh_world(name):
    first, second = NAMED[name](), NAMED[name]()
    assert first is not second
    assert not np.shares_memory(first.A, second.A)
    np.testing.assert_array_equal(first.A, second.A)


def test_double_integrator_is_the_main_world_of_the_book():
    lqr = worlds.double_integrator()
    np.testing.assert_array_equal(lqr.A, [[1.0, 0.1], [0.0, 1.0]])
    np.testing.assert_array_equal(lqr.B, [[0.0], [0.1]])
    np.testing.assert_array_equal(lqr.Q, np.eye(2))
    np.testing.assert_array_equal(lqr.R, [[0.1]])
    np.testing.assert_array_equal(lqr.W, 0.01 * np.eye(2))
    np.testing.assert_array_equal(lqr.X0, np.eye(2))
    assert lqr.gamma == 0.95


def test_scalar_puts_each_number_in_its_place():
    lqr = worlds.scalar(a=1, b=2, q=3, r=4, w=5, x0=6, gamma=0.7)
    stored = [lqr.A, lqr.B, lqr.Q, lqr.R, lqr.W, lqr.X0, lqr.gamma]
    assert [float(np.squeeze(value)) for value in stored] == [1, 2, 3, 4, 5, 6, 0.7]


def test_laplacian_is_slightly_unstable():
    lqr = worlds.laplacian()
    # The chain of three has Laplacian eigenvalues √2, 0, −√2 beside the diagonal.
    radius = 1.01 + 0.01 * np.sqrt(2.0)
    assert lyapunov.spectral_radius(lqr.A) == pytest.approx(radius, rel=1e-14)
    np.testing.assert_array_equal(lqr.B, np.eye(3))
    np.testing.assert_array_equal(lqr.Q, 1e-3 * np.eye(3))
    np.testing.assert_array_equal(lqr.W, np.eye(3))


def test_three_rooms_pass_heat_on_and_lose_five_per_cent_a_step():
    lqr = worlds.three_rooms()
    np.testing.assert_allclose(lqr.A.sum(axis=1), 0.95)
    np.testing.assert_array_equal(lqr.A, lqr.A.T)
    np.testing.assert_array_equal(lqr.B, [[0.5, 0.0], [0.0, 0.0], [0.0, 0.5]])
    assert lyapunov.spectral_radius(lqr.A) == pytest.approx(0.95, rel=1e-12)


def test_recht_starts_at_minus_one_and_is_undiscounted():
    lqr = worlds.recht_double_integrator()
    start = np.array([-1.0, 0.0])
    np.testing.assert_array_equal(lqr.X0, np.outer(start, start))
    np.testing.assert_array_equal(lqr.A, [[1.0, 1.0], [0.0, 1.0]])
    assert (lqr.gamma, lqr.W[0, 0]) == (1.0, 0.01**2)


def test_hambly_has_a_symmetric_cost_and_a_start_far_from_zero():
    lqr = worlds.hambly()
    np.testing.assert_allclose(lqr.R, [[0.4, -0.25], [-0.25, 0.7]], rtol=1e-15)
    assert lqr.Q[1, 0] == lqr.Q[0, 1] == -0.05
    np.testing.assert_allclose(np.diag(lqr.X0), [25.1, 4.3, 65.0, 25.5], rtol=1e-15)
    assert lqr.X0[0, 2] == 40.0
    assert (lqr.n, lqr.m, lqr.gamma) == (4, 2, 1.0)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (2, 4), (6, 3)])
def test_random_worlds_have_the_promised_sizes_and_decay(n, m):
    lqr = worlds.random(n, m, np.random.default_rng(1))
    assert (lqr.n, lqr.m) == (n, m)
    assert lyapunov.spectral_radius(lqr.A) == pytest.approx(0.9, rel=1e-12)
    assert np.linalg.eigvalsh(lqr.R).min() >= 0.1
    assert exact.is_stable(lqr, np.zeros((m, n)))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (6, 8)])
def test_worlds_in_fazels_setting_have_neither_noise_nor_discount(n, m):
    lqr = worlds.fazel(n, m, np.random.default_rng(1))
    assert (lqr.n, lqr.m, lqr.gamma) == (n, m, 1.0)
    assert lyapunov.spectral_radius(lqr.A) == pytest.approx(0.95, rel=1e-12)
    assert not lqr.W.any()
    for M in (lqr.Q, lqr.R, lqr.X0):
        np.testing.assert_array_equal(M, np.eye(len(M)))


def test_random_worlds_repeat_with_the_seed_and_differ_without():
    seeds = (3, 3, 4)
    A = [worlds.random(3, 2, np.random.default_rng(seed)).A for seed in seeds]
    np.testing.assert_array_equal(A[0], A[1])
    assert (A[0] != A[2]).all()
