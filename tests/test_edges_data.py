"""The smallest and the worst data: right to 50 digits, or said to be useless."""

import dataclasses
import itertools

import extended as ex
import numpy as np
import pytest
from systems import FIRST_GAIN, gaussian_data

from lqrlib import LQR, GaussianPolicy, LinearPolicy, MBPOSettings, exact, worlds
from lqrlib.critic import exact_critic, feature_count, lstdq
from lqrlib.descent import backtracking, descend
from lqrlib.diagnose import diagnose
from lqrlib.envs import STATE_LIMIT, LQREnv, LQRVectorEnv
from lqrlib.forecast import critic_law, effective_rows, identifiable, model_law
from lqrlib.gradients import (
    dpg,
    gauss_newton_dpg,
    natural_dpg,
    trajectory_is,
    zeroth_order,
)
from lqrlib.history import Status
from lqrlib.mbpo import mbpo
from lqrlib.model import fit, fit_ensemble
from lqrlib.rollout import Transitions, rollout, transitions

EPS = np.finfo(float).eps
MAIN, SCALAR = worlds.double_integrator(), worlds.scalar()
ONE = np.eye(1)
# Least squares by orthogonal factors: in units of eps times the data's condition.
FIT = 5.0
# LSTDQ by a Gram matrix: in units of eps times the features' condition squared.
CRITIC = 5.0
# Products and sums in which nothing cancels.
PLAIN = 100 * EPS


def rows(n_trajectories=20, horizon=30, *, deviation, gain=FIRST_GAIN, lqr=MAIN):
    data = gaussian_data(lqr, gain, deviation**2, n_trajectories, horizon, seed=1)
    return transitions(data)


# The model.


def fit_by_hand(data):
    """[A, B] and W from the normal equations, which 50 digits can afford."""
    z, after = ex.long(np.hstack([data.x, data.u])), ex.long(data.x_next)
    AB = ex.solve(z.T @ z, z.T @ after).T
    residual = after - z @ AB.T
    return AB, residual.T @ residual / (len(z) - z.shape[1])


@pytest.mark.parametrize("deviation", [1.0, 1e-3, 1e-6, 1e-9, 1e-12])
def test_a_fit_is_good_to_rounding_times_the_condition_that_it_reports(deviation):
    data = rows(deviation=deviation)
    found, (AB, W) = fit(data), fit_by_hand(data)
    assert 0.5 < found.condition * deviation < 10.0
    unit = EPS * found.condition
    assert ex.relative(np.hstack([found.A, found.B]), AB) < FIT * unit
    assert ex.relative(found.W, W) < FIT * unit
    # What the data show, the closed loop, is hardly touched.
    loop = AB[:, :2] + AB[:, 2:] @ ex.long(FIRST_GAIN)
    assert ex.relative(found.A + found.B @ FIRST_GAIN, loop) < FIT * unit


@pytest.mark.parametrize("deviation", [1e-15, 0.0])
def test_data_of_one_plane_up_to_rounding_are_reported_as_such(deviation):
    data = rows(deviation=deviation) if deviation else deterministic_rows()
    found = fit(data)
    assert found.condition == np.inf
    assert (
        np.abs(found.A).max() < 2.0
    )  # the least-norm fit, not a quotient of roundings
    assert all(np.isinf(one.condition) for one in ensembled(data))


def deterministic_rows():
    rng = np.random.default_rng(1)
    return transitions(rollout(MAIN, LinearPolicy(FIRST_GAIN), 20, 30, rng))


def ensembled(data):
    return fit_ensemble(data, 3, np.random.default_rng(0))


@pytest.mark.parametrize("lqr", [SCALAR, MAIN], ids=["one state", "two states"])
def test_with_as_many_rows_as_unknowns_nothing_is_left_for_the_noise(lqr):
    gain, d = np.zeros((1, lqr.n)) - 0.5, lqr.n + 1
    few = rows(1, d, deviation=1.0, gain=gain, lqr=lqr)
    found = fit(few)
    z = ex.long(np.hstack([few.x, few.u]))
    AB = ex.solve(z, ex.long(few.x_next)).T
    unit = EPS * found.condition
    assert ex.relative(np.hstack([found.A, found.B]), AB) < FIT * unit
    assert np.abs(found.W).max() < 100 * unit
    fewer = fit(Transitions(*(part[: d - 1] for part in few)))
    assert fewer.condition == np.inf
    assert np.abs(fewer.W).max() < 100 * unit


# The critic.


def lstdq_by_hand(lqr, data, K):
    """Θ from the normal equations of LSTDQ."""
    pairs = list(itertools.combinations_with_replacement(range(lqr.n + lqr.m), 2))

    def features(z):
        terms = [z[:, i] * z[:, j] * (1 + (i < j)) for i, j in pairs]
        return np.array([*terms, 0 * z[:, 0] + 1], dtype=object).T

    x, u, cost, after = map(ex.long, data)
    phi = features(np.hstack([x, u]))
    ahead = features(np.hstack([after, after @ ex.long(K).T]))
    gamma = ex.long(lqr.gamma)
    theta = ex.solve(phi.T @ (phi - gamma * ahead), phi.T @ cost)
    Theta = np.empty((lqr.n + lqr.m,) * 2, dtype=object)
    for (i, j), value in zip(pairs, theta, strict=False):
        Theta[i, j] = Theta[j, i] = value
    return Theta


@pytest.mark.parametrize("deviation", [1.0, 1e-1, 1e-2, 1e-3])
def test_a_critic_is_good_to_rounding_times_its_condition_squared(deviation):
    data = rows(10, 20, deviation=deviation)
    found = lstdq(MAIN, data, FIRST_GAIN)
    assert found.determined
    error = ex.relative(found.Theta, lstdq_by_hand(MAIN, data, FIRST_GAIN))
    assert error < CRITIC * EPS * found.condition**2


@pytest.mark.parametrize("deviation", [1e-6, 1e-9, 1e-12])
def test_nearly_dependent_features_are_reported_as_undetermined(deviation):
    found = lstdq(MAIN, rows(deviation=deviation), FIRST_GAIN)
    assert not found.determined
    assert not found.plausible
    assert found.condition == np.inf
    data = gaussian_data(MAIN, FIRST_GAIN, deviation**2, 20, 30)
    with pytest.raises(ValueError, match=r"^data: expected features of rank 7"):
        natural_dpg(MAIN, data, FIRST_GAIN)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("n", [1, 2])
def test_without_noise_a_critic_is_plausible_on_the_stable_side_only(n, gap):
    # √γ = 1/2, and the loop is diagonal: its first entry is 2(1 ∓ gap).
    A, B, eye = np.diag([1.5, 0.5])[:n, :n], np.eye(2, 1)[:n], np.eye(n)
    lqr = LQR(A, B, eye, ONE, 0.0 * eye, eye, 0.25)
    data = transitions(gaussian_data(lqr, -0.5 * np.eye(1, n), 1.0, 20, 4))
    for side in (1.0, -1.0):
        K = (0.5 - 2.0 * side * gap) * np.eye(1, n)
        found = lstdq(lqr, data, K)
        assert found.determined
        assert found.plausible == (side > 0) == exact.is_stable(lqr, K)
        # The one solution of the equation, which means something on one side only.
        F = ex.loop(lqr, K)
        P = ex.lyapunov(F.T, eye + ex.long(K).T @ ex.long(K))
        AB = ex.long(np.hstack([A, B]))
        Theta = ex.long(np.eye(n + 1)) + AB.T @ P @ AB / 4
        unit = EPS * found.condition**2
        assert ex.relative(found.Theta, Theta) < CRITIC * unit / gap


# Gradients.


@pytest.mark.parametrize("expression", [dpg, natural_dpg, gauss_newton_dpg])
def test_the_error_of_one_trajectory_is_infinite_with_a_critic_too(expression):
    data = gaussian_data(MAIN, FIRST_GAIN, 1.0, 1, 60)
    found = expression(MAIN, data, FIRST_GAIN)
    assert np.isfinite(found.gradient).all()
    assert np.isinf(found.standard_error).all()
    two = expression(MAIN, gaussian_data(MAIN, FIRST_GAIN, 1.0, 2, 60), FIRST_GAIN)
    assert (two.standard_error > 1e-3).all()
    assert np.isfinite(two.standard_error).all()


def test_a_known_critic_needs_no_trajectories_where_the_states_do_not_enter():
    data, critic = (
        gaussian_data(MAIN, FIRST_GAIN, 1.0, 1, 5),
        exact_critic(MAIN, FIRST_GAIN),
    )
    for expression in (natural_dpg, gauss_newton_dpg):
        found = expression(MAIN, data, FIRST_GAIN, critic=critic)
        assert (found.standard_error == 0.0).all()
    assert np.isinf(dpg(MAIN, data, FIRST_GAIN, critic=critic).standard_error).all()


def test_one_step_of_one_trajectory_is_one_product():
    data = gaussian_data(SCALAR, [[-0.6]], 0.3, 1, 1)
    x, u, k, var = map(ex.mp.mpf, (data.x[0, 0, 0], data.u[0, 0, 0], -0.5, 0.3))
    k_b = ex.mp.mpf(-0.6)
    w = ex.mp.exp(((u - k_b * x) ** 2 - (u - k * x) ** 2) / (2 * var))
    cost = ex.mp.mpf(SCALAR.Q[0, 0]) * x**2 + ex.mp.mpf(SCALAR.R[0, 0]) * u**2
    found = trajectory_is(SCALAR, data, [[-0.5]], cov=0.3)
    assert ex.relative(found.gradient, w * cost * (u - k * x) * x / var) < PLAIN
    assert np.isinf(found.standard_error)
    asked = {"radius": 0.1, "n_trajectories": 1, "horizon": 1}
    queried = zeroth_order(SCALAR, [[-0.6]], **asked, rng=np.random.default_rng(0))
    assert np.isinf(queried.standard_error)


# Rollouts.


def test_a_trajectory_that_leaves_the_floats_is_right_until_it_does():
    steps, x0 = 700, 1.0
    lqr = dataclasses.replace(SCALAR, A=[[1.5]], W=0.0 * ONE)
    policy, start = LinearPolicy([[1.5]]), np.full((1, 1), x0)  # a + bk = 3
    found = rollout(lqr, policy, 1, steps, np.random.default_rng(0), x0=start)
    true = [ex.mp.mpf(x0) * 3**t for t in range(steps + 1)]
    largest = ex.mp.mpf(np.finfo(float).max)
    kept = sum(value < largest for value in true)
    ratios = ex.long(found.x[0, :kept, 0]) / np.array(true[:kept])
    assert np.abs(ratios - 1).max() < steps * EPS
    assert (found.x[0, kept:] == np.inf).all()
    stage = [
        value**2 * (ex.mp.mpf(SCALAR.Q[0, 0]) + ex.mp.mpf(SCALAR.R[0, 0]) * 9 / 4)
        for value in true[:-1]
    ]
    paid = sum(value < largest for value in stage)
    for t in (0, 1, paid // 2, paid - 1):
        assert ex.relative(found.cost[0, t], stage[t]) < steps * EPS
    assert (found.cost[0, paid:] == np.inf).all()
    assert found.diverged.all()
    assert not rollout(
        lqr, policy, 1, paid - 1, np.random.default_rng(0), x0=start
    ).diverged.any()


@pytest.mark.parametrize("lqr", [SCALAR, MAIN], ids=["one state", "two states"])
def test_one_step_of_one_trajectory_obeys_the_law_of_motion(lqr):
    K = np.full((1, lqr.n), -0.5)
    noise, x0 = np.ones((1, 1, 1 + lqr.n)), np.ones((1, lqr.n))
    policy, rng = GaussianPolicy(K, 0.25), np.random.default_rng(0)
    found = rollout(lqr, policy, 1, 1, rng, noise=noise, x0=x0)
    assert found.x.shape == (1, 2, lqr.n)
    A, B, Q, R, W, *_ = ex.World.of(lqr)
    x = ex.long(x0[0])
    u = ex.long(K) @ x + ex.mp.mpf(0.5)
    assert ex.relative(found.u[0, 0], u) < PLAIN
    # The roots of a diagonal W may come in any order and with any sign.
    pushed = np.abs(ex.long(found.x[0, 1]) - A @ x - B @ u)
    assert ex.relative(pushed.astype(float), ex.root(W).sum(axis=1)) < PLAIN
    assert ex.relative(found.cost[0, 0], x @ Q @ x + u @ R @ u) < PLAIN


# Descents, and the loop.


def bordering(gap):
    """A world and a gain with √γ (a + bk) = 1 − gap."""
    lqr = dataclasses.replace(SCALAR, A=[[2.0]], B=ONE, gamma=0.25)
    return lqr, np.array([[-2.0 * gap]])


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_from_the_very_border_policy_iteration_arrives(gap):
    lqr, K = bordering(gap)
    found = descend(lqr, K, lambda k: exact.gauss_newton(lqr, k), 1.0, updates=8)
    assert found.status == Status.CONVERGED
    assert ex.relative(found.K[-1], ex.optimal_gain(lqr)) < 1e-12


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 0.0, -1e-9])
def test_a_search_along_the_gradient_ends_lower_or_says_that_it_did_not(gap):
    lqr, K = bordering(gap)
    found = descend(
        lqr, K, lambda k: exact.gradient(lqr, k), backtracking(lqr), updates=60
    )
    # From 1e-9 the slope is 1e17, and 60 halvings of a step do not make up for it.
    expected = {1e-9: Status.STALLED, 0.0: Status.DIVERGED, -1e-9: Status.DIVERGED}
    assert found.status == expected.get(gap, Status.CONVERGED)
    assert np.isinf(found.cost).all() == (gap <= 0.0)
    assert not (found.cost[1:] > found.cost[:-1]).any()


@pytest.mark.parametrize("expression", ["hack", "dpg", "pathwise", "soft", "model"])
@pytest.mark.parametrize("real_ratio", [0.0, 1.0])
def test_the_smallest_loop_goes_nowhere_that_it_does_not_report(expression, real_ratio):
    settings = MBPOSettings(
        K0=[[-0.6]],
        expression=expression,
        real_ratio=real_ratio,
        n_trajectories=1,
        horizon=1,
        updates=1,
        temperature=0.1 if expression == "soft" else None,
    )
    found = mbpo(SCALAR, settings, np.random.default_rng(0))
    costs = [ex.evaluate(SCALAR, K, 0.0 * ONE).cost for K in found.K]
    assert ex.relative(found.cost, np.array(costs)) < PLAIN
    if expression in ("dpg", "pathwise", "soft"):
        assert found.status == Status.REFUSED
        assert f"rank 1 of {feature_count(SCALAR)}" in str(found.reason)
    if expression != "model":  # one trajectory's baseline leaves the hack no gradient
        np.testing.assert_array_equal(found.K[-1], settings.K0)
    else:  # one row tells half of the model: it is off by as much as it is said to be
        assert found.model_error > 0.1


# What is foretold.


@pytest.mark.parametrize("horizon", [1, 5])
def test_one_policy_without_noise_or_start_foretells_nothing_and_says_so(horizon):
    flat = dataclasses.replace(MAIN, X0=np.diag([1.0, 0.0]))
    cases = [(MAIN, 0.0), (flat, 1.0)] if horizon == 1 else [(MAIN, 0.0)]
    for lqr, cov in cases:
        given = lqr, FIRST_GAIN, cov, horizon
        assert not identifiable(*given)
        assert effective_rows(*given) == 0.0
        assert np.isinf(model_law(*given)).all()
        assert np.isinf(critic_law(*given).gain).all()


def test_one_row_of_one_state_is_worth_one_row():
    given = SCALAR, np.array([[-0.6]]), 0.3, 1
    assert identifiable(*given)
    assert effective_rows(*given) == pytest.approx(1.0, rel=1e-14)
    # W (S⁻¹)_ab, moved into K* by its slope in A and B, from differences.
    S = ex.long(np.array([[1.0, -0.6], [-0.6, 0.66]]))
    S[0, 1] = S[1, 0] = ex.mp.mpf(-0.6)
    S[1, 1] = ex.mp.mpf(-0.6) ** 2 + ex.mp.mpf(0.3)
    A, B, Q, R, W, X0, gamma = ex.World.of(SCALAR)

    def best(a, b):  # the positive root of the scalar Riccati equation
        g, q, r = gamma, Q[0, 0], R[0, 0]
        c1, c2 = r - g * a**2 * r - g * b**2 * q, g * b**2
        p = (-c1 + ex.mp.sqrt(c1**2 + 4 * c2 * q * r)) / (2 * c2)
        return -g * b * p * a / (r + g * b**2 * p)

    assert float(X0[0, 0]) == 1.0
    a, b, h = A[0, 0], B[0, 0], ex.mp.mpf(10) ** -15
    slope = np.array(
        [
            (best(a + h, b) - best(a - h, b)) / (2 * h),
            (best(a, b + h) - best(a, b - h)) / (2 * h),
        ]
    )
    true = W[0, 0] * (slope @ ex.solve(S, slope))
    assert ex.relative(model_law(*given), true) < 1e-12


def test_a_diagnosis_of_the_smallest_data_recommends_nothing():
    for lqr, K in ((SCALAR, [[-0.6]]), (MAIN, FIRST_GAIN)):
        words = str(diagnose(lqr, K, 0.3, 1, 1))
        assert "too few" in words
        assert "recommended: none yet" in words
    assert "no density" in str(diagnose(MAIN, FIRST_GAIN, 0.0, 1, 1))
    lqr, K = bordering(0.0)
    with pytest.raises(ValueError, match=r"^K: expected a gain with √γ"):
        diagnose(lqr, K, 0.3, 1, 1)


# Environments.


@pytest.mark.parametrize("limit", [5e-324, 1.0, 1e150])
def test_an_action_at_its_bound_is_carried_out_and_the_next_float_is_clipped(limit):
    env, beyond = LQREnv(SCALAR, action_limit=limit), np.nextafter(limit, np.inf)
    for action, clipped in ((limit, 0.0), (-limit, 0.0), (beyond, 1.0), (-beyond, 1.0)):
        env.reset(seed=0, options={"x0": [1.0]})
        x, reward, _, _, info = env.step([action])
        assert info["clipped"] == clipped
        env.reset(seed=0, options={"x0": [1.0]})
        same, as_much, *_ = env.step([np.clip(action, -limit, limit)])
        np.testing.assert_array_equal(x, same)
        assert reward == as_much
        u = ex.mp.mpf(limit)
        cost = ex.mp.mpf(SCALAR.Q[0, 0]) + ex.mp.mpf(SCALAR.R[0, 0]) * u**2
        assert ex.relative(-reward, cost) < PLAIN


def test_a_state_at_its_limit_goes_on_and_beyond_it_the_episode_ends():
    lqr = dataclasses.replace(SCALAR, A=ONE, W=0.0 * ONE)
    push = np.spacing(STATE_LIMIT)
    for env, shape in ((LQREnv(lqr), (1,)), (LQRVectorEnv(1, lqr), (1, 1))):
        for action, ends in ((0.0, False), (push, True), (1e200, True)):
            env.reset(seed=0, options={"x0": [STATE_LIMIT]})
            x, _, terminated, truncated, info = env.step(np.full(shape, action))
            assert not np.any(terminated)
            assert np.all(truncated) == np.all(info["diverged"]) == ends
            np.testing.assert_array_equal(x, np.full(shape, STATE_LIMIT))
        with pytest.raises(ValueError, match=r"^x0: expected entries within"):
            env.reset(options={"x0": [np.nextafter(STATE_LIMIT, np.inf)]})
