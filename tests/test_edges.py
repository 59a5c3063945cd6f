"""Near the border of stability, and for costs of all sizes, against 50 digits.

Loops here have entries that are sums of few powers of two, so that A + BK is formed
without rounding and ρ is what the name says. "1e-3", "1e-6" and "1e-9" from the border
are 2⁻¹⁰, 2⁻²⁰ and 2⁻³⁰ for the same reason.
"""

import dataclasses

import extended as ex
import numpy as np
import pytest
from systems import FIRST_GAIN, close

from lqrlib import LQR, ensemble, exact, finite_horizon, lyapunov, rates, soft, worlds
from lqrlib.critic import Critic
from lqrlib.model import LinearModel

EPS = np.finfo(float).eps
MAIN = worlds.double_integrator()
# Where nothing is near a border: some dozen roundings.
FAR = 100 * EPS
# Relative errors near the border, in units of eps/(1 − ρ) for normal loops and for
# triangular ones, and of eps times `extended.condition` for all: the constants are
# about four times the worst that was seen.
NEAR = 3.0
# The same unit for costs and worlds of odd sizes, where differences cancel as well.
ODD = 15.0
# K* comes from SciPy's Riccati solver, which is less careful where costs differ by ten
# orders of magnitude; its cost is flat there, and loses nothing.
BEST, BEST_COST = 1e-6, 1e-13

GAPS = {"1e-3": 2.0**-10, "1e-6": 2.0**-20, "1e-9": 2.0**-30}
EACH_GAP = pytest.mark.parametrize("gap", GAPS.values(), ids=GAPS)
EACH_SIZE = pytest.mark.parametrize("n", [1, 2, 3])


def circulant(n, rho):
    """Normal, with a vector of ones for the mode of size ρ."""
    shares = {1: [1.0], 2: [0.75, 0.25], 3: [0.5, 0.125, 0.375]}[n]
    return rho * np.array([np.roll(shares, i) for i in range(n)])


def jordan(n, rho):
    """One mode only: as far from normal as can be."""
    return rho * np.eye(n) + 0.5 * np.eye(n, k=1)


def turned(n, rho):
    """`jordan` in other coordinates, which no rounding respects."""
    S = np.array([[1.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])[:n, :n]
    return S @ jordan(n, rho) @ np.round(np.linalg.inv(S))


def world_of(loop, gamma=0.25):
    """A world and a gain with √γ (A + BK) = ``loop``, without rounding."""
    n = len(loop)
    m, rng = max(1, n - 1), np.random.default_rng(n)
    B, K = (np.round(8 * rng.standard_normal(s)) / 8 for s in ((n, m), (m, n)))
    A = loop / np.sqrt(gamma) - B @ K
    np.testing.assert_array_equal(np.sqrt(gamma) * (A + B @ K), loop)
    C = rng.standard_normal((n, n))
    Q = C @ C.T + np.eye(n)
    return LQR(A, B, Q, np.eye(m) + 0.1, 0.1 * np.eye(n), Q, gamma), K


def errors(lqr, K):
    """Relative errors of all that has a closed form, by name."""
    cov = 0.3 * np.eye(lqr.m)
    true, every = ex.evaluate(lqr, K, cov), exact.evaluate(lqr, K, cov)
    found = {
        "P": [every.P, exact.value_matrix(lqr, K)],
        "X": [every.X, exact.state_moment(lqr, K, cov)],
        "Theta": [exact.q_matrix(lqr, K)],
        "cost": [every.cost, exact.cost(lqr, K, cov)],
        "E": [every.E, exact.gain_error(lqr, K), exact.natural_gradient(lqr, K) / 2],
        "gradient": [every.gradient, exact.gradient(lqr, K, cov)],
        "step": [exact.gauss_newton(lqr, K)],
    }
    assert every.stable == exact.is_stable(lqr, K)
    return {
        name: max(ex.relative(each, getattr(true, name)) for each in ways)
        for name, ways in found.items()
    }


# The border.


@EACH_GAP
@EACH_SIZE
def test_of_a_normal_loop_everything_is_good_to_rounding_over_the_gap(n, gap):
    found = errors(*world_of(circulant(n, 1.0 - gap)))
    assert max(found.values()) < NEAR * EPS / gap


@EACH_GAP
@EACH_SIZE
def test_so_is_the_average_cost(n, gap):
    lqr, K = world_of(circulant(n, 1.0 - gap), gamma=1.0)
    found = exact.average_cost(lqr, K, 0.3)
    assert ex.relative(found, ex.average_cost(lqr, K, 0.3 * np.eye(lqr.m))) < (
        NEAR * EPS / gap
    )


@EACH_GAP
@EACH_SIZE
def test_so_are_values_and_moments_of_a_triangular_loop_which_has_no_cancellation(
    n, gap
):
    found = errors(*world_of(jordan(n, 1.0 - gap)))
    kept = [found[name] for name in ("P", "X", "Theta", "cost")]
    assert max(kept) < NEAR * EPS / gap


@pytest.mark.parametrize("loop", [jordan, turned])
@EACH_SIZE
def test_of_a_loop_that_is_not_normal_it_is_rounding_times_the_condition(n, loop):
    F = loop(n, 1.0 - GAPS["1e-3"])
    unit = EPS * ex.condition(F)
    assert unit < 0.2
    assert max(errors(*world_of(F)).values()) < NEAR * unit


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_the_solver_is_as_good_for_a_spiral_and_for_many_at_once(gap):
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    D, C = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    loops = (1.0 - gap) * np.stack([turn, -turn, turn @ turn])
    X, P = lyapunov.both(loops, D, C)
    for F, many_X, many_P in zip(loops, X, P, strict=True):
        left = 1 - ex.spectral_radius(F)
        assert left == pytest.approx(gap, rel=1e-5)
        unit = float(EPS / left)
        moments, values = ex.lyapunov(F, D), ex.lyapunov(F.T, C)
        for found in (many_X, lyapunov.forward(F, D)):
            assert ex.relative(found, moments) < NEAR * unit
        for found in (many_P, lyapunov.adjoint(F, C)):
            assert ex.relative(found, values) < NEAR * unit


@EACH_GAP
@EACH_SIZE
def test_the_spectral_radius_is_good_to_the_root_that_a_multiple_mode_allows(n, gap):
    for loop, order in ((circulant, 1), (jordan, 1), (turned, n)):
        found = lyapunov.spectral_radius(loop(n, 1.0 - gap))
        assert abs(found - (1.0 - gap)) < 5 * EPS ** (1 / order)


@pytest.mark.parametrize("beyond", [0.0, *GAPS.values()], ids=["0", *GAPS])
@pytest.mark.parametrize("loop", [circulant, jordan])
@EACH_SIZE
def test_at_the_border_and_beyond_there_is_no_number(loop, n, beyond):
    F = loop(n, 1.0 + beyond)
    if beyond == 0.0 and loop is circulant:  # whose powers would round: 1/3 in the end
        F = np.diag([1.0, 0.5, -0.25][:n])
    lqr, K = world_of(F)
    assert_no_number(lqr, K, F)
    lqr, K = world_of(F, gamma=1.0)
    assert exact.average_cost(lqr, K) == np.inf


@EACH_SIZE
def test_nor_is_there_for_a_loop_that_is_not_normal(n):
    F = turned(n, 1.0 + GAPS["1e-3"])
    assert_no_number(*world_of(F), F)


def assert_no_number(lqr, K, F):
    every = exact.evaluate(lqr, K, 0.3)
    assert not every.stable
    assert not exact.is_stable(lqr, K)
    assert not lyapunov.is_stable(F)
    assert every.cost == exact.cost(lqr, K, 0.3) == np.inf
    for part in (every.gradient, every.P, every.X, every.E):
        assert np.isnan(part).all()
    for function in (exact.q_matrix, exact.gauss_newton, exact.value_matrix):
        assert np.isnan(function(lqr, K)).all()
    for part in lyapunov.both(F, lqr.X0, lqr.Q):
        assert np.isnan(part).all()


def alone(lqr):
    """The world's own law of motion as an ensemble of one."""
    return LinearModel(lqr.A[None], lqr.B[None], lqr.W[None], np.ones(1))


@EACH_GAP
@EACH_SIZE
def test_an_ensemble_of_one_is_as_good_as_the_world(n, gap):
    lqr, K = world_of(circulant(n, 1.0 - gap))
    true = ex.evaluate(lqr, K, np.eye(lqr.m)).P
    found = ensemble.value_matrix(lqr, alone(lqr), K)
    assert ex.relative(found, true) < NEAR * EPS / gap
    for beyond in (gap, 2.0 * gap):
        lqr, K = world_of(circulant(n, 1.0 + beyond))
        assert not ensemble.is_stable(lqr, alone(lqr), K)
        assert np.isnan(ensemble.value_matrix(lqr, alone(lqr), K)).all()


@pytest.mark.parametrize("gamma", [1 - 1e-9, 1 - 1e-12, 1e-3, 1e-12, 1e-300])
def test_a_discount_near_one_or_zero_loses_nothing(gamma):
    lqr = dataclasses.replace(MAIN, gamma=gamma)
    assert max(errors(lqr, FIRST_GAIN).values()) < FAR
    tau, cov = 0.1, np.eye(1)
    entropy = ex.mp.log(2 * ex.mp.pi * ex.mp.e) / 2
    true = ex.evaluate(lqr, FIRST_GAIN, cov).cost - ex.mp.mpf(tau) * entropy / (
        1 - ex.mp.mpf(gamma)
    )
    assert ex.relative(soft.cost(lqr, FIRST_GAIN, 1.0, tau), true) < FAR


# Costs and worlds of odd sizes.


def steep(n, condition, seed=0):
    """A cost of some condition along directions that are no axes."""
    rng = np.random.default_rng([n, seed])
    U, _ = np.linalg.qr(rng.standard_normal((n, n)))
    S = (U * np.geomspace(1.0, 1.0 / condition, n)) @ U.T
    return 0.5 * (S + S.T)


def changed(**parts):
    return dataclasses.replace(MAIN, **parts)


def other(**parts):
    """Three states and two actions."""
    return dataclasses.replace(worlds.random(3, 2, np.random.default_rng(3)), **parts)


def twins(weight):
    """Two actions of one effect: only R tells what each should do."""
    R = weight * np.eye(2)
    return LQR([[1.1]], [[1.0, 1.0]], [[1.0]], R, [[0.1]], [[1.0]], 0.9)


ODD_WORLDS = {
    "Q of condition 1e12": changed(Q=steep(2, 0.9e12)),
    "Q of rank 1": changed(Q=np.diag([1.0, 0.0])),
    "Q nearly of rank 1": changed(Q=np.diag([1e-12, 1.0])),
    "Q and R of condition 1e12 and 1e11": other(Q=steep(3, 0.9e12), R=steep(2, 1e11)),
    "R = 1e-10": changed(R=[[1e-10]]),
    "R = 1e10": changed(R=[[1e10]]),
    "R = 1e-10 twice": other(R=1e-10 * np.eye(2)),
    "R = 1e10 twice": other(R=1e10 * np.eye(2)),
    "R = 1e-9 and 100": other(R=np.diag([1e-9, 100.0])),
    "R = 1e-10 for twins": twins(1e-10),
    "costs of 1e-150": changed(Q=1e-150 * np.eye(2), R=[[1e-150]]),
    "B = 1e-7": changed(B=1e-6 * MAIN.B),
    "B = 1e-6, three states": other(B=1e-6 * other().B),
    "B = 1e-6, not stable without it": LQR(
        [[1.5]], [[1e-6]], [[1.0]], [[1.0]], [[0.1]], [[1.0]], 0.9
    ),
    "B = 1e5": changed(B=1e6 * MAIN.B),
    "W = 0": changed(W=0.0 * MAIN.W),
    "X0 = 0": changed(X0=0.0 * MAIN.X0),
    "X0 of rank 1": changed(X0=np.diag([1.0, 0.0])),
    "discount 1 - 1e-9": changed(gamma=1 - 1e-9),
    "discount 1e-9": changed(gamma=1e-9),
}
EACH_WORLD = pytest.mark.parametrize("lqr", ODD_WORLDS.values(), ids=ODD_WORLDS)


@EACH_WORLD
def test_the_optimal_gain_is_found_and_costs_no_more_than_it_has_to(lqr):
    best, cov = ex.optimal_gain(lqr), np.zeros((lqr.m, lqr.m))
    found = exact.optimal_gain(lqr)
    assert ex.relative(found, best) < BEST
    least = ex.evaluate(lqr, best, cov).cost
    assert 0 <= ex.evaluate(lqr, found, cov).cost / least - 1 < BEST_COST
    assert ex.relative(exact.cost(lqr, found), least) < BEST_COST


@EACH_WORLD
def test_beside_the_optimum_all_is_good_to_rounding_times_the_conditions(lqr):
    K = 0.97 * exact.optimal_gain(lqr)
    unit = EPS * ex.condition(ex.loop(lqr, K))
    found, curvature = errors(lqr, K), rates.curvature(lqr, K)
    assert found.pop("step") < ODD * unit * np.linalg.cond(curvature)
    # E_K is the difference of two terms, of which some 3 % is left.
    differences = max(found.pop("E"), found.pop("gradient"))
    assert differences < 6 * ODD * unit
    assert max(found.values()) < ODD * unit


@pytest.mark.parametrize("name", ["Q", "R"])
def test_a_cost_beyond_the_tolerance_of_definiteness_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"^{name}: expected a positive .*eigenvalue"):
        other(**{name: np.diag([1e-10, 1e2, -1e-9][: 2 + (name == "Q")])})


def test_the_covariance_of_the_soft_optimum_is_that_of_the_curvature():
    for lqr in (changed(R=[[1e-10]]), changed(R=[[1e10]]), twins(1e-10)):
        true = ex.evaluate(lqr, ex.optimal_gain(lqr), np.zeros((lqr.m, lqr.m)))
        C = true.Theta[lqr.n :, lqr.n :]
        wanted = ex.solve(C, ex.eye(lqr.m)) * ex.mp.mpf(0.1) / 2
        unit = EPS * np.linalg.cond(C.astype(float))
        found = soft.optimal_policy(lqr, 0.1).cov
        assert ex.relative(found, wanted) < FAR + ODD * unit


def at_the_border(weight=1e-10):
    """Twins, a usual gain and one whose P is so large that R is lost beside it."""
    edge = (1.0 - 1e-10) / np.sqrt(0.9) - 1.1
    return twins(weight), np.array([[[-0.5], [-0.4]], [[edge], [0.0]]])


def test_a_curvature_that_floats_cannot_invert_is_nan_for_its_own_gain_only():
    lqr, gains = at_the_border()
    assert exact.is_stable(lqr, gains).all()
    for found, alone in (
        (exact.gauss_newton(lqr, gains), exact.gauss_newton(lqr, gains[0])),
        (
            soft.best_covariance(lqr, gains, 0.1),
            soft.best_covariance(lqr, gains[0], 0.1),
        ),
    ):
        close(found[0], alone, rtol=1e-12)
        assert np.isnan(found[1]).all()
    bounds = rates.domination(lqr, gains)
    assert np.isfinite(bounds.by_improvement[0])
    assert np.isnan(bounds.by_improvement[1])
    assert np.isnan(exact.gauss_newton(lqr, gains[1])).all()


def test_where_r_is_lost_beside_the_value_of_the_state_no_optimum_is_made_up():
    lqr = twins(1e-17)
    with pytest.raises(ValueError, match=r"^lqr: expected R large enough beside"):
        finite_horizon.optimal_gains(lqr, 3)
    with pytest.raises(ValueError, match=r"^lqr: .* no stabilising solution in floats"):
        exact.optimal_gain(lqr)
    assert np.isnan(ensemble.optimal_gain(lqr, alone(lqr)).K).all()


def test_a_critics_step_does_not_depend_on_the_unit_of_cost():
    Theta = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.5, 1.0, 2.0]])
    K, one = np.array([[-0.3], [0.2]]), np.ones(())
    usual, small = (
        Critic(unit * Theta, 0.0 * one, one.astype(int), one).gauss_newton(K)
        for unit in (1.0, 2.0**-600)
    )
    np.testing.assert_array_equal(usual, small)


def test_the_bounds_of_a_world_with_a_singular_start():
    K, cov = FIRST_GAIN, np.zeros((1, 1))
    for lqr in (changed(X0=np.diag([1.0, 0.0])), changed(X0=0.0 * MAIN.X0)):
        best, here = (ex.evaluate(lqr, gain, cov) for gain in (ex.optimal_gain(lqr), K))
        found = rates.domination(lqr, K)
        assert ex.relative(found.excess, here.cost - best.cost) < FAR
        improvement = np.trace(best.X @ here.E.T @ here.step)
        assert ex.relative(found.by_improvement, improvement) < FAR
        assert found.by_improvement < found.by_gradient < np.inf  # W moves every state
    silent = dataclasses.replace(lqr, W=0.0 * MAIN.W)
    assert rates.domination(silent, K).excess == 0.0
    assert rates.domination(silent, K).by_gradient == np.inf
    assert rates.contraction(silent, K, "gauss_newton", 1.0) == 1.0


def test_without_start_and_noise_no_step_along_the_gradient_is_too_long():
    silent = changed(X0=0.0 * MAIN.X0, W=0.0 * MAIN.W)
    assert rates.step_limit(silent, "gradient") == np.inf
    assert rates.step_limit(silent, "natural_gradient") == pytest.approx(
        rates.step_limit(MAIN, "natural_gradient"), rel=1e-13
    )


# A few stages.


@pytest.mark.parametrize("T", [1, 2, 20])
@EACH_WORLD
def test_a_few_stages_cost_what_their_moments_say(lqr, T):
    rng = np.random.default_rng(T)
    K = exact.optimal_gain(lqr) * rng.uniform(0.8, 1.2, (T, lqr.m, lqr.n))
    cov, last = 0.3 * np.eye(lqr.m), np.eye(lqr.n)
    found = finite_horizon.cost(lqr, K, cov, terminal=last)
    assert ex.relative(found, ex.stage_cost(lqr, K, cov, last)) < FAR


@EACH_WORLD
def test_the_best_gain_of_one_stage_pays_for_the_last_state_only(lqr):
    np.testing.assert_array_equal(finite_horizon.optimal_gains(lqr, 1), 0.0)
    last = np.eye(lqr.n)
    A, B, _, R, *_, gamma = ex.World.of(lqr)
    C = R + gamma * B.T @ B
    found = finite_horizon.optimal_gains(lqr, 1, terminal=last)[0]
    unit = EPS * np.linalg.cond(C.astype(float))
    assert ex.relative(found, -ex.solve(C, gamma * B.T @ A)) < ODD * unit
