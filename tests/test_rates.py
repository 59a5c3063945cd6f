"""Steps and what they do to the cost: identity, bounds and rates, on many systems."""

import dataclasses
import functools

import numpy as np
import pytest
from systems import (
    FIRST_GAIN,
    SYSTEMS,
    close,
    discounted_source,
    radius,
    spd,
    stabilised,
    system,
)

from lqrlib import exact, rates, worlds
from lqrlib.rates import METHODS

MAIN = worlds.double_integrator()
PHI = (1 + np.sqrt(5)) / 2
every_method = pytest.mark.parametrize("method", METHODS)
GUARANTEED = METHODS[1:]  # the two whose steps have a bound for any excess


def near_border(lqr, rng):
    """A stable gain whose loop is all but unstable, in a random direction from K*."""
    best, D = exact.optimal_gain(lqr), rng.standard_normal((lqr.m, lqr.n))
    inside, outside = 0.0, 1.0
    while radius(lqr, best + outside * D) < 1.0:
        inside, outside = outside, 2.0 * outside
    while not 0.999 < radius(lqr, best + inside * D) < 1.0:
        middle = 0.5 * (inside + outside)
        stable = radius(lqr, best + middle * D) < 1.0
        inside, outside = (middle, outside) if stable else (inside, middle)
    return best + inside * D


@functools.cache
def drawn(seeds=10):
    """160 settings: a world, a stable gain (every second near the border), a Σ."""
    sizes = [(1, 1), (2, 1), (3, 1), (5, 1), (2, 2), (3, 2), (2, 3), (5, 3)]
    found = []
    for n, m in sizes:
        for seed in range(seeds):
            lqr, K, rng = stabilised(n, m, seed)
            found.append((lqr, K, spd(m, rng), rng))
            found.append((lqr, near_border(lqr, rng), spd(m, rng), rng))
    return found


def longest(lqr, K, method):
    """The step below which `contraction` has something to say at K."""
    if method == "gauss_newton":
        return 2.0
    return 1.0 / np.linalg.eigvalsh(rates.curvature(lqr, K))[-1]


def excess(lqr, K, cov=0.0):
    """J − J* without a difference of two large numbers."""
    return rates.cost_change(lqr, exact.optimal_gain(lqr), K, cov)


# The identity.


def test_the_settings_are_many_and_reach_the_border():
    assert len(drawn()) >= 100
    radii = [radius(lqr, K) for lqr, K, *_ in drawn()]
    assert max(radii) > 0.999
    assert min(radii) < 0.7


def test_a_change_of_cost_is_the_difference_of_the_costs():
    for (lqr, K, cov, _), (_, other, *_) in zip(
        drawn()[::2], drawn()[1::2], strict=True
    ):
        for pair in (np.stack([K, other]), np.stack([other, K])):
            J = exact.cost(lqr, pair, cov)
            found = rates.cost_change(lqr, *pair, cov)
            assert found == pytest.approx(J[1] - J[0], rel=1e-9, abs=1e-9 * J.max())


def test_a_change_of_cost_is_the_difference_of_long_sums():
    # Independent of every solver: T stages until nothing is left.
    lqr, K, cov = system(3, 2)
    other = 0.9 * K
    J = []
    for gain in (K, other):
        F, X, total = lqr.A + lqr.B @ gain, lqr.X0, 0.0
        for t in range(2000):
            total += lqr.gamma**t * np.trace((lqr.Q + gain.T @ lqr.R @ gain) @ X)
            X = F @ X @ F.T + lqr.W + lqr.B @ cov @ lqr.B.T
        J.append(total)
    assert rates.cost_change(lqr, K, other, cov) == pytest.approx(J[1] - J[0], rel=1e-9)


def test_no_change_costs_nothing_and_the_way_back_costs_the_opposite():
    lqr, K, cov = system(3, 2)
    other = exact.optimal_gain(lqr)
    assert rates.cost_change(lqr, K, K, cov) == 0.0
    there, back = (
        rates.cost_change(lqr, *pair, cov) for pair in ((K, other), (other, K))
    )
    assert there < 0 < back
    assert there == pytest.approx(-back, rel=1e-10)


@SYSTEMS
def test_curvature_is_half_the_second_difference_of_the_action_value(n, m):
    lqr, K, _ = system(n, m)
    P = exact.value_matrix(lqr, K)

    def action_value(u):
        x = np.arange(n) + lqr.B @ u
        return u @ lqr.R @ u + lqr.gamma * x @ P @ x

    u = np.eye(m)
    C = [
        [
            (
                action_value(a + b)
                - action_value(a)
                - action_value(b)
                + action_value(0 * a)
            )
            for b in u
        ]
        for a in u
    ]
    close(2.0 * rates.curvature(lqr, K), C, rtol=1e-9, atol=1e-9)


# Domination.


def test_the_excess_is_below_both_bounds_in_their_order():
    for lqr, K, cov, _ in drawn():
        found = rates.domination(lqr, K, cov)
        assert found.excess == pytest.approx(excess(lqr, K, cov), rel=1e-7)
        assert 0 < found.excess <= found.by_improvement * (1 + 1e-9)
        assert found.by_improvement <= found.by_gradient * (1 + 1e-9)
        assert np.isfinite(found.by_gradient)


def test_at_the_optimum_excess_and_bounds_vanish():
    for lqr, _, cov, _ in drawn()[::8]:
        best = exact.optimal_gain(lqr)
        found = rates.domination(lqr, best, cov)
        J = exact.cost(lqr, best, cov)
        assert found.excess == 0.0
        assert 0 <= found.by_improvement < 1e-12 * J


def test_the_improvement_is_what_a_full_gauss_newton_step_offers():
    lqr, K, cov = system(3, 2)
    change = -exact.gauss_newton(lqr, K)
    E, C = exact.gain_error(lqr, K), rates.curvature(lqr, K)
    offered = -(2 * change.T @ E + change.T @ C @ change)
    X = exact.state_moment(lqr, exact.optimal_gain(lqr), cov)
    found = rates.domination(lqr, K, cov).by_improvement
    assert found == pytest.approx(np.trace(offered @ X), rel=1e-12)


@SYSTEMS
def test_the_bound_by_the_gradient_is_its_formula_in_singular_values(n, m):
    lqr, K, cov = system(n, m)
    S, best = discounted_source(lqr, cov), exact.optimal_gain(lqr)
    X, gradient = exact.state_moment(lqr, best, cov), exact.gradient(lqr, K, cov)
    lowest = [np.linalg.svd(M, compute_uv=False)[-1] for M in (S, lqr.R)]
    constant = np.linalg.norm(X, 2) / (4 * lowest[0] ** 2 * lowest[1])
    found = rates.domination(lqr, K, cov).by_gradient
    assert found == pytest.approx(constant * np.linalg.norm(gradient) ** 2, rel=1e-9)


# The scalar case by hand: a = b = q = r = 1, x' = (1 + K)x, P* = φ, C* = φ² = 1 + φ.


def scalar():
    return worlds.scalar(a=1.0, b=1.0, q=1.0, r=1.0, w=0.0, x0=1.0, gamma=1.0)


def test_cost_change_and_domination_of_a_scalar_by_hand():
    lqr, K, best = scalar(), [[-1.0]], [[-1 / PHI]]
    close(exact.optimal_gain(lqr), best, rtol=1e-12)
    # At K = −1: x_1 = 0, so that P = 2, X = 1, C = 3, E = −3 + 2 = −1.
    assert rates.curvature(lqr, K) == pytest.approx(3.0)
    assert rates.cost_change(lqr, K, best) == pytest.approx(PHI - 2.0)
    moment = 1 / (1 - PHI**-4)
    found = rates.domination(lqr, K)
    close(found, [2.0 - PHI, moment / 3.0, moment], rtol=1e-12)


def test_limits_and_rates_of_a_scalar_by_hand():
    lqr, moment = scalar(), 1 / (1 - PHI**-4)
    limits = [1 / (PHI**2 * moment), PHI**-2, 2.0]
    for method, limit in zip(METHODS, limits, strict=True):
        assert rates.step_limit(lqr, method) == pytest.approx(limit, rel=1e-12)
        steps = limit * np.array([0.0, 0.25, 0.5, 1.0, 1.5])
        expected = [1.0, 0.25, 0.0, 1.0, 4.0]
        close(rates.local_rate(lqr, method, steps), expected, rtol=1e-12, atol=1e-24)


def test_contraction_of_a_scalar_by_hand():
    # With C = 3, η = 1/6 is a full step: κ = 1. Half of it: κ = ½·3/2.
    lqr, K = scalar(), [[-1.0]]
    for kappa, step in ((1.0, 1.0), (0.75, 0.5), (0.75, 1.5), (0.0, 2.0), (0.0, 2.1)):
        expected = 1.0 - kappa * (1 - PHI**-4)
        for method, eta in (("gauss_newton", step), ("natural_gradient", step / 6)):
            found = rates.contraction(lqr, K, method, eta)
            assert found == pytest.approx(expected, rel=1e-12)


# Steps that are guaranteed.


@pytest.mark.parametrize("method", GUARANTEED)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98, "random"])
def test_a_step_below_the_limit_contracts_the_excess_from_anywhere(method, share):
    for lqr, K, cov, rng in drawn():
        part = rng.uniform(0.0, 1.0) if share == "random" else share
        eta = part * longest(lqr, K, method)
        factor = rates.contraction(lqr, K, method, eta, cov)
        stepped = K - eta * rates.direction(lqr, method)(K)
        assert 0 <= factor < 1
        assert exact.is_stable(lqr, stepped)
        assert rates.cost_change(lqr, K, stepped, cov) < 0
        assert excess(lqr, stepped, cov) <= factor * excess(lqr, K, cov) * (1 + 1e-7)


@pytest.mark.parametrize("method", GUARANTEED)
def test_a_step_that_is_too_long_or_uphill_has_no_guarantee(method):
    for lqr, K, cov, _ in drawn()[::8]:
        limit = longest(lqr, K, method)
        for eta in (0.0, -0.1 * limit, 1.01 * limit, 1e9 * limit):
            assert rates.contraction(lqr, K, method, eta, cov) == 1.0


def test_the_best_step_of_gauss_newton_is_the_full_one():
    lqr, K, cov = system(3, 2)
    steps = np.linspace(0.1, 1.9, 19)
    factors = [rates.contraction(lqr, K, "gauss_newton", s, cov) for s in steps]
    assert steps[np.argmin(factors)] == pytest.approx(1.0)


def worse(lqr, K, cov, share):
    """Whether a natural step of so many limits raises the cost, or leaves."""
    eta = share * longest(lqr, K, "natural_gradient")
    stepped = K - eta * exact.natural_gradient(lqr, K)
    return bool(rates.cost_change(lqr, K, stepped, cov) > 0)


@pytest.mark.parametrize("share", [1.0001, 1.05, 1.5, 10.0])
def test_with_one_action_every_natural_step_beyond_the_limit_does_harm(share):
    settings = [s for s in drawn(30) if s[0].m == 1]
    assert len(settings) >= 100
    assert all(worse(lqr, K, cov, share) for lqr, K, cov, _ in settings)


def test_with_more_actions_a_natural_step_beyond_the_limit_may_help():
    settings = [s for s in drawn(30) if s[0].m > 1]
    share = np.mean([worse(lqr, K, cov, 1.05) for lqr, K, cov, _ in settings])
    assert len(settings) >= 100
    assert 0.0 < share < 0.9


# Rates near the optimum.


def modes(lqr, method, cov):
    """Curvatures c of a method at K*, and the change of gain that belongs to each."""
    best = exact.optimal_gain(lqr)
    of_action, U = np.linalg.eigh(rates.curvature(lqr, best))
    of_state, V = np.linalg.eigh(exact.state_moment(lqr, best, cov))
    c = {
        "gradient": 2.0 * np.multiply.outer(of_action, of_state),
        "natural_gradient": 2.0 * np.multiply.outer(of_action, np.ones(lqr.n)),
        "gauss_newton": np.ones((lqr.m, lqr.n)),
    }[method]
    return c.ravel(), np.einsum("ia,jb->abij", U, V).reshape(-1, lqr.m, lqr.n)


@every_method
@SYSTEMS
@pytest.mark.parametrize("share", [0.3, 0.8, 1.2])
def test_the_local_rate_is_the_factor_measured_along_the_slowest_mode(
    method, n, m, share
):
    lqr, _, cov = system(n, m)
    eta = share * rates.step_limit(lqr, method, cov)
    c, D = modes(lqr, method, cov)
    slowest = D[np.argmax(np.abs(1.0 - eta * c))]
    K = exact.optimal_gain(lqr) + 1e-6 * slowest
    stepped = K - eta * rates.direction(lqr, method, cov)(K)
    measured = excess(lqr, stepped, cov) / excess(lqr, K, cov)
    rate = rates.local_rate(lqr, method, eta, cov)
    assert measured == pytest.approx(rate, rel=1e-3)
    others = 1e-6 * D + exact.optimal_gain(lqr)
    after = others - eta * rates.direction(lqr, method, cov)(others)
    factors = excess(lqr, after, cov) / excess(lqr, others, cov)
    assert (factors <= rate * (1 + 1e-3)).all()


@every_method
@SYSTEMS
def test_just_below_the_limit_k_star_attracts_and_just_above_it_does_not(method, n, m):
    lqr, _, cov = system(n, m)
    best, limit = exact.optimal_gain(lqr), rates.step_limit(lqr, method, cov)
    c, D = modes(lqr, method, cov)
    direction = rates.direction(lqr, method, cov)
    start = best + 1e-7 * D[np.argmax(c)]
    for share, grows in ((0.99, False), (1.01, True)):
        K = start
        for _ in range(60):
            K = K - share * limit * direction(K)
        distance = np.linalg.norm(K - best) / np.linalg.norm(start - best)
        assert (distance > 2.0) == grows
        assert (distance < 0.5) != grows


@every_method
def test_many_steps_have_the_rates_of_each(method):
    lqr, _, cov = system(3, 2)
    steps = np.array([[0.01, 0.1], [0.2, 3.0]])
    together = rates.local_rate(lqr, method, steps, cov)
    alone = [[rates.local_rate(lqr, method, s, cov) for s in row] for row in steps]
    np.testing.assert_array_equal(together, alone)
    at_limit = rates.local_rate(lqr, method, rates.step_limit(lqr, method, cov), cov)
    assert at_limit == pytest.approx(1.0)


def test_exploration_shortens_the_gradients_step_and_no_others():
    limits = [
        [rates.step_limit(MAIN, method, cov) for cov in (0.0, 1.0)]
        for method in METHODS
    ]
    assert limits[0][1] < limits[0][0]
    assert limits[1][1] == limits[1][0]
    assert limits[2] == [2.0, 2.0]


# Directions and leading axes.


def test_a_direction_is_the_one_of_its_name():
    lqr, K, cov = system(3, 2)
    for method, expected in {
        "gradient": exact.gradient(lqr, K, cov),
        "natural_gradient": exact.natural_gradient(lqr, K),
        "gauss_newton": exact.gauss_newton(lqr, K),
    }.items():
        np.testing.assert_array_equal(rates.direction(lqr, method, cov)(K), expected)


@pytest.mark.parametrize(
    ("gain_lead", "cov_lead"),
    [((5,), ()), ((), (5,)), ((2, 3), (3,)), ((4, 1), (3,))],
    ids=str,
)
def test_many_gains_and_covariances_equal_a_loop(gain_lead, cov_lead):
    lqr, K, _ = system(3, 2)
    rng = np.random.default_rng(0)
    gains = K + 0.05 * rng.standard_normal((*gain_lead, 2, 3))
    others = K + 0.05 * rng.standard_normal((*gain_lead, 2, 3))
    covs = np.array([spd(2, rng) for _ in np.ndindex(cov_lead)])
    covs = covs.reshape(*cov_lead, 2, 2)
    lead = np.broadcast_shapes(gain_lead, cov_lead)

    def everything(K, other, cov):
        return [
            rates.cost_change(lqr, K, other, cov),
            *rates.domination(lqr, K, cov),
            rates.contraction(lqr, K, "natural_gradient", 0.02, cov),
            rates.contraction(lqr, K, "gauss_newton", 0.5, cov),
        ]

    together = everything(gains, others, covs)
    gains, others = (np.broadcast_to(M, (*lead, 2, 3)) for M in (gains, others))
    covs = np.broadcast_to(covs, (*lead, 2, 2))
    for have in together:
        assert have.shape == lead
    for i in np.ndindex(lead):
        alone = everything(gains[i], others[i], covs[i])
        for have, want in zip(together, alone, strict=True):
            assert have[i] == pytest.approx(want, rel=1e-9)


def test_one_gain_is_compared_with_many():
    lqr, K, cov = system(3, 2)
    others = K + 0.05 * np.random.default_rng(0).standard_normal((4, 2, 3))
    there, back = (
        rates.cost_change(lqr, *pair, cov) for pair in ((K, others), (others, K))
    )
    assert there.shape == back.shape == (4,)
    close(there, -back, rtol=1e-9)


# Unstable gains, singular sources, no optimum.

UNSTABLE = np.array([[1.0, 1.0]])


def test_unstable_gains_have_nan_or_inf_where_it_is_said_and_do_not_warn():
    assert np.isnan(rates.curvature(MAIN, UNSTABLE)).all()
    assert rates.cost_change(MAIN, FIRST_GAIN, UNSTABLE) == np.inf
    assert np.isnan(rates.cost_change(MAIN, UNSTABLE, FIRST_GAIN))
    assert np.isnan(rates.cost_change(MAIN, UNSTABLE, UNSTABLE))
    found = rates.domination(MAIN, UNSTABLE)
    assert found.excess == np.inf
    assert np.isnan(found[1:]).all()
    for method, step in (("natural_gradient", 0.1), ("gauss_newton", 1.0)):
        for eta in (step, 1e3 * step):
            assert np.isnan(rates.contraction(MAIN, UNSTABLE, method, eta))
    for method in METHODS:
        assert np.isnan(rates.direction(MAIN, method)(UNSTABLE)).all()


def test_an_unstable_gain_in_a_batch_stays_alone():
    pair = np.stack([FIRST_GAIN, UNSTABLE])
    found = [
        rates.cost_change(MAIN, pair, FIRST_GAIN),
        rates.domination(MAIN, pair).by_gradient,
        rates.contraction(MAIN, pair, "gauss_newton", 1.0),
    ]
    for values in found:
        np.testing.assert_array_equal(np.isnan(values), [False, True])


@pytest.mark.parametrize("huge", [1e160, 1e308])
def test_a_stable_gain_whose_cost_leaves_the_floats_costs_inf_more(huge):
    lqr = worlds.scalar(a=0.5, b=0.0)
    assert exact.is_stable(lqr, [[huge]])
    assert rates.cost_change(lqr, [[0.0]], [[huge]]) == np.inf
    assert rates.cost_change(lqr, [[-huge]], [[0.0]]) != np.inf


def singular_worlds():
    """Worlds into which nothing enters in some direction, but for rounding."""
    lqr, K, _ = system(3, 2)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        M = rng.standard_normal((3, seed % 3))
        X0, W = rng.uniform(1.0, 2.0, (2, 1, 1)) * (M @ M.T)
        yield dataclasses.replace(lqr, X0=X0, W=W), K


def test_where_nothing_enters_in_some_direction_no_bound_is_promised():
    for lqr, K in singular_worlds():
        found = rates.domination(lqr, K)
        assert found.by_gradient == np.inf
        assert found.excess <= found.by_improvement * (1 + 1e-9) + 1e-12
        assert rates.domination(lqr, exact.optimal_gain(lqr)).by_gradient == np.inf
        for method, step in (("natural_gradient", 0.01), ("gauss_newton", 1.0)):
            assert rates.contraction(lqr, K, method, step) == 1.0
        assert np.isnan(rates.domination(lqr, K + 100.0).by_gradient)


@pytest.mark.parametrize(
    "call",
    [
        lambda lqr: rates.domination(lqr, [[0.0]]),
        lambda lqr: rates.step_limit(lqr, "gradient"),
        lambda lqr: rates.local_rate(lqr, "natural_gradient", 0.1),
        lambda lqr: rates.contraction(lqr, [[0.0]], "gauss_newton", 1.0),
    ],
)
def test_a_world_without_an_optimum_is_refused(call):
    with pytest.raises(ValueError, match=r"^lqr: expected .+, found .+"):
        call(worlds.scalar(a=4.0, b=0.0))


# What is refused (bad arrays: `arguments.py`).


@pytest.mark.parametrize(
    "method", ["newton", "", None, 1, exact.gradient, ["gradient"]]
)
def test_an_unknown_method_is_refused_by_name(method):
    for call in (
        lambda: rates.direction(MAIN, method),
        lambda: rates.step_limit(MAIN, method),
        lambda: rates.local_rate(MAIN, method, 0.1),
        lambda: rates.contraction(MAIN, FIRST_GAIN, method, 0.1),
    ):
        with pytest.raises(ValueError, match=r"^method: expected .+, found .+"):
            call()


def test_the_gradient_has_no_contraction_to_ask_for():
    with pytest.raises(ValueError, match=r"^method: expected natural.* found gradient"):
        rates.contraction(MAIN, FIRST_GAIN, "gradient", 0.1)


@pytest.mark.parametrize("step", ["1", None, True, np.nan, np.inf, [1.0], 1j])
def test_a_step_that_is_no_number_is_refused_by_name(step):
    with pytest.raises(ValueError, match=r"^step: expected .+, found .+"):
        rates.contraction(MAIN, FIRST_GAIN, "gauss_newton", step)


TWO, THREE = np.stack([FIRST_GAIN] * 2), np.stack([FIRST_GAIN] * 3)
THREE_COVS = np.ones((3, 1, 1))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("K_new", lambda: rates.cost_change(MAIN, TWO, THREE)),
        ("cov", lambda: rates.cost_change(MAIN, TWO, FIRST_GAIN, THREE_COVS)),
        ("cov", lambda: rates.cost_change(MAIN, FIRST_GAIN, TWO, THREE_COVS)),
        ("cov", lambda: rates.domination(MAIN, TWO, THREE_COVS)),
        ("cov", lambda: rates.contraction(MAIN, TWO, "gauss_newton", 1, THREE_COVS)),
    ],
)
def test_leading_axes_that_do_not_fit_are_refused_by_name(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected leading axes .* found"):
        call()


@every_method
def test_a_limit_is_that_of_one_covariance(method):
    for call in (
        lambda: rates.step_limit(MAIN, method, THREE_COVS),
        lambda: rates.local_rate(MAIN, method, 0.1, THREE_COVS),
    ):
        with pytest.raises(ValueError, match=r"^cov: expected one covariance"):
            call()


def test_without_a_discount_noise_is_refused():
    lqr = worlds.recht_double_integrator()
    K = np.array([[-0.3, -1.0]])
    for call in (
        lambda: rates.cost_change(lqr, K, K),
        lambda: rates.domination(lqr, K),
        lambda: rates.step_limit(lqr, "gradient"),
        lambda: rates.contraction(lqr, K, "gauss_newton", 1.0),
    ):
        with pytest.raises(ValueError, match=r"^gamma: expected below 1"):
            call()
