"""The doubling solver against the equation, by hand, SciPy and a long sum."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from systems import spd

from lqrlib import lyapunov

EPS = np.finfo(float).eps


def contraction(n, rho, rng):
    F = rng.standard_normal((n, n))
    return F * rho / np.abs(np.linalg.eigvals(F)).max()


def case(n, rho=0.9, seed=0):
    rng = np.random.default_rng([n, seed])
    return contraction(n, rho, rng), spd(n, rng), spd(n, rng)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_solutions_put_back_leave_no_residual(n):
    F, D, C = case(n)
    X, P = lyapunov.forward(F, D), lyapunov.adjoint(F, C)
    np.testing.assert_allclose(D + F @ X @ F.T, X, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(C + F.T @ P @ F, P, rtol=1e-12, atol=1e-12)


def test_scalar_case_by_hand():
    # x = d + f² x, so x = d / (1 − f²) = 3 / (1 − .25) = 4.
    assert lyapunov.forward(np.array([[0.5]]), np.array([[3.0]])) == 4.0
    assert lyapunov.adjoint(np.array([[-0.5]]), np.array([[3.0]])) == 4.0


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_scipy_agrees_and_solves_the_adjoint_as_the_transpose(n):
    F, D, C = case(n)
    peer_x, peer_p = solve_discrete_lyapunov(F, D), solve_discrete_lyapunov(F.T, C)
    np.testing.assert_allclose(lyapunov.forward(F, D), peer_x, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(lyapunov.adjoint(F, C), peer_p, rtol=1e-11, atol=1e-11)


def test_a_long_sum_agrees():
    F, D, _ = case(3)
    total, term = np.zeros((3, 3)), D
    for _ in range(400):  # .9^800 is below rounding
        total, term = total + term, F @ term @ F.T
    np.testing.assert_allclose(lyapunov.forward(F, D), total, rtol=1e-12)


def test_both_is_forward_and_adjoint():
    F, D, C = case(4)
    X, P = lyapunov.both(F, D, C)
    np.testing.assert_array_equal(X, lyapunov.forward(F, D))
    np.testing.assert_array_equal(P, lyapunov.adjoint(F, C))


def test_solutions_are_exactly_symmetric():
    F, D, C = case(5, rho=0.999)
    for solution in lyapunov.both(F, D, C):
        np.testing.assert_array_equal(solution, solution.T)


def test_only_the_symmetric_part_of_the_constant_counts():
    F, D, _ = case(3)
    skew = np.array([[0.0, 1.0, 2.0], [-1.0, 0.0, 3.0], [-2.0, -3.0, 0.0]])
    np.testing.assert_allclose(
        lyapunov.forward(F, D + skew), lyapunov.forward(F, D), rtol=1e-12
    )


@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-8, 1e-11, 1e-14])
def test_near_the_border_the_error_is_rounding_over_the_gap(gap):
    f = 1.0 - gap
    solved = lyapunov.forward(np.array([[f]]), np.array([[1.0]]))[0, 0]
    distance = (1.0 - f) * (1.0 + f)  # 1 − f² without cancellation
    assert solved * distance == pytest.approx(1.0, rel=50 * EPS / gap)


@pytest.mark.parametrize("f", [1.0, -1.0, np.nextafter(1.0, 2.0), 1.5, 1e200, np.inf])
def test_an_unstable_system_has_no_sum(f):
    F, D = np.array([[f]]), np.array([[1.0]])
    assert np.isnan(lyapunov.both(F, D, D)).all()


def test_just_inside_the_border_there_is_a_sum():
    f = np.nextafter(1.0, 0.0)
    assert np.isfinite(lyapunov.forward(np.array([[f]]), np.array([[1.0]]))).all()


def test_a_rotation_has_radius_one_although_its_entries_are_smaller():
    c = np.cos(0.3)
    s = np.sin(0.3)
    F = np.array([[c, -s], [s, c]])
    assert lyapunov.spectral_radius(F) == pytest.approx(1.0, abs=4 * EPS)
    assert lyapunov.spectral_radius(0.5 * F) == pytest.approx(0.5, abs=4 * EPS)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_matrix_with_a_lost_entry_counts_as_infinite(bad):
    assert lyapunov.spectral_radius(np.array([[0.5, bad], [0.0, 0.5]])) == np.inf


@pytest.mark.parametrize(
    ("F", "D"),
    [
        ([[0.5]], [[1.7e308]]),
        ([[0.5, 1e200], [0.0, 0.5]], np.eye(2)),
        (np.diag([0.5, 0.9]), np.diag([1.0, 1.7e308])),
    ],
    ids=["constant", "coupling", "one of two states"],
)
def test_a_sum_too_large_for_a_float_is_nan_as_a_whole(F, D):
    assert np.isnan(lyapunov.forward(np.array(F), np.array(D))).all()


def test_batches_equal_a_loop_with_unstable_systems_among_them():
    rng = np.random.default_rng(5)
    F = np.array(
        [[contraction(3, rho, rng) for rho in (0.1, 0.999, 1.2)] for _ in "ab"]
    )
    D, C = spd(3, rng), np.array([spd(3, rng) for _ in range(3)])
    X, P = lyapunov.both(F, D, C)
    assert X.shape == P.shape == (2, 3, 3, 3)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(X[i, j], lyapunov.forward(F[i, j], D), rtol=1e-13)
        np.testing.assert_allclose(P[i, j], lyapunov.adjoint(F[i, j], C[j]), rtol=1e-13)
    assert np.isnan(X[:, 2]).all()
    assert np.isfinite(X[:, :2]).all()


def test_one_system_serves_many_constants():
    F, D, C = case(3)
    X = lyapunov.forward(F, np.stack([D, C]))
    np.testing.assert_allclose(X[1], lyapunov.forward(F, C), rtol=1e-13)


def test_a_batch_of_unstable_systems_alone_is_nan():
    assert np.isnan(lyapunov.forward(np.full((4, 2, 2), 3.0), np.eye(2))).all()


def test_a_system_alone_is_solved_as_in_a_batch():
    rng = np.random.default_rng(6)
    F = np.array([contraction(4, rho, rng) for rho in (0.2, 0.9, 0.99999, 1.01)])
    D, C = spd(4, rng), spd(4, rng)
    together = lyapunov.both(F, D, C)
    for i in range(4):
        for one, many in zip(lyapunov.both(F[i], D, C), together, strict=True):
            np.testing.assert_allclose(one, many[i], rtol=1e-13)


def test_more_systems_than_are_worked_on_at_a_time():
    rng = np.random.default_rng(7)
    F = np.array([contraction(3, rho, rng) for rho in np.linspace(0.5, 1.5, 3001)])
    assert F.nbytes > 3 * lyapunov._CACHED
    X = lyapunov.forward(F, np.eye(3))
    for i in range(0, 3001, 97):
        np.testing.assert_allclose(X[i], lyapunov.forward(F[i], np.eye(3)), rtol=1e-13)
    stable = np.arange(3001) < 1500  # ρ = 1 in the middle, where rounding decides
    known = np.isfinite(X).all(axis=(-2, -1))
    np.testing.assert_array_equal(np.delete(known, 1500), np.delete(stable, 1500))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_system_is_stable_if_its_radius_is_below_one_and_its_sums_exist(n):
    rng = np.random.default_rng(8)
    rho = np.array([0.0, 0.5, 1 - 1e-6, 1 - 1e-9, 1 + 1e-9, 1 + 1e-6, 1.5, 1e200])
    F = np.array([contraction(n, r, rng) for r in rho])
    stable = lyapunov.is_stable(F)
    np.testing.assert_array_equal(stable, rho < 1)
    np.testing.assert_array_equal(stable, lyapunov.spectral_radius(F) < 1)
    alone = [lyapunov.is_stable(one) for one in F]
    np.testing.assert_array_equal(stable, alone)
    sums = lyapunov.forward(F, np.eye(n))
    np.testing.assert_array_equal(stable, np.isfinite(sums).all(axis=(-2, -1)))


def test_powers_that_grow_at_first_are_no_sign_of_instability():
    F = np.array([[0.5, 1e200], [0.0, 0.5]])
    assert lyapunov.is_stable(F)
    assert lyapunov.is_stable(np.stack([F, F])).all()
    assert not lyapunov.is_stable(np.array([[0.5, np.inf], [0.0, 0.5]]))
    assert not lyapunov.is_stable(np.array([[1.0, 1.0], [0.0, 1.0]]))
