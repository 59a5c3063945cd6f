"""Worlds handed to other texts and programs, by the rules of `book/notation.md`.

Each test writes out or calls the other side in its own convention, with SciPy where it
needs a solver, and comes back.
"""

import dataclasses

import control
import numpy as np
import pytest
import quantecon
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov
from systems import SYSTEMS, close, discounted_source, plain_world, system

from lqrlib import LinearPolicy, exact, finite_horizon, weights, worlds
from lqrlib.rollout import rollout

TIGHT = {"rtol": 1e-10, "atol": 1e-10}
STAGES = 6


def shrunken(lqr, cov):
    """The undiscounted world without noise of equation (equivalence)."""
    root = np.sqrt(lqr.gamma)
    return dataclasses.replace(
        lqr,
        A=root * lqr.A,
        B=root * lqr.B,
        W=0.0 * lqr.W,
        X0=discounted_source(lqr, cov),
        gamma=1.0,
    )


def slopes(function, K, step=1e-6):
    """Central differences of a function of a gain, entry by entry."""
    units = step * np.eye(K.size).reshape(K.size, *K.shape)
    pairs = [function(K + unit) - function(K - unit) for unit in units]
    return np.reshape(pairs, K.shape) / (2 * step)


def symmetric(S):
    """python-control refuses a matrix that rounding has made asymmetric."""
    return (S + S.T) / 2


def normal_factor(S):
    """A matrix C with CC' = S that is neither S nor its symmetric root."""
    return np.linalg.cholesky(S)


# python-control: u = −Kx, no discount.


@SYSTEMS
def test_python_control_dlqr_gives_minus_the_optimal_gain(n, m):
    lqr, _, cov = system(n, m)
    twin, optimum = shrunken(lqr, cov), exact.optimal_gain(lqr)
    k, S, poles = control.dlqr(twin.A, twin.B, lqr.Q, lqr.R)
    close(-k, optimum, **TIGHT)
    close(S, exact.value_matrix(lqr, optimum), **TIGHT)
    radius = np.sqrt(lqr.gamma) * np.linalg.eigvals(lqr.closed_loop(optimum))
    close(np.sort(np.abs(poles)), np.sort(np.abs(radius)), **TIGHT)


@SYSTEMS
def test_python_control_dlyap_gives_value_and_moment(n, m):
    lqr, K, cov = system(n, m)
    F = np.sqrt(lqr.gamma) * lqr.closed_loop(K)
    P = control.dlyap(F.T, symmetric(lqr.Q + K.T @ lqr.R @ K))
    X = control.dlyap(F, symmetric(discounted_source(lqr, cov)))
    close(P, exact.value_matrix(lqr, K), **TIGHT)
    close(X, exact.state_moment(lqr, K, cov), **TIGHT)


# QuantEcon: u = −Fx, Q and R swapped, discount β, noise Cw with E ww' = I.


def economists(lqr, **more):
    factor = normal_factor(lqr.W)
    return quantecon.LQ(lqr.R, lqr.Q, lqr.A, lqr.B, C=factor, beta=lqr.gamma, **more)


@SYSTEMS
@pytest.mark.parametrize("method", ["doubling", "qz"])
def test_quantecon_stationary_values(n, m, method):
    lqr, _, _ = system(n, m)
    P, F, d = economists(lqr).stationary_values(method=method)
    optimum = exact.optimal_gain(lqr)
    close(-F, optimum, **TIGHT)
    close(P, exact.value_matrix(lqr, optimum), **TIGHT)
    no_start = dataclasses.replace(lqr, X0=0.0 * lqr.X0)
    assert d == pytest.approx(exact.cost(no_start, optimum), rel=1e-10)
    x0 = np.arange(1.0, n + 1)
    from_x0 = dataclasses.replace(lqr, X0=np.outer(x0, x0))
    assert x0 @ P @ x0 + d == pytest.approx(exact.cost(from_x0, optimum), rel=1e-10)


@SYSTEMS
def test_quantecon_finite_horizon(n, m):
    lqr, _, _ = system(n, m)
    end = 2.0 * lqr.Q + np.eye(n)
    theirs = economists(lqr, T=STAGES, Rf=end)
    gains = np.empty((STAGES, m, n))
    for t in reversed(range(STAGES)):
        theirs.update_values()
        gains[t] = -theirs.F
    close(gains, finite_horizon.optimal_gains(lqr, STAGES, terminal=end), **TIGHT)
    value = np.trace(theirs.P @ lqr.X0) + theirs.d
    ours = finite_horizon.cost(lqr, gains, terminal=end)
    assert value == pytest.approx(ours, rel=1e-10)


# gym-lqr 0.0.2: the reward is x'Qx + u'Ru with negative Q and R, noise G z.


def gym_steps(A, B, Q, R, G, start, act, normals):
    """Rewards and states of its `step`: the reward counts the state before the move."""
    states, rewards = [start], []
    for z in normals:
        x, u = states[-1], act(states[-1])
        rewards.append(x @ Q @ x + u @ R @ u)
        states.append(A @ x + B @ u + G @ z)
    return np.array(states), np.array(rewards)


@SYSTEMS
def test_gym_lqr_pays_minus_our_cost(n, m):
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng(0)
    start, noise = rng.standard_normal((1, n)), rng.standard_normal((1, 9, n + m))
    ours = rollout(lqr, LinearPolicy(K), 1, 9, rng, x0=start, noise=noise)
    residue = ours.x[0, 1:] - ours.x[0, :-1] @ lqr.closed_loop(K).T
    G = normal_factor(lqr.W)
    normals = np.linalg.solve(G, residue.T).T  # the same disturbances, in their unit
    states, rewards = gym_steps(
        lqr.A, lqr.B, -lqr.Q, -lqr.R, G, start[0], lambda x: K @ x, normals
    )
    close(states, ours.x[0], **TIGHT)
    close(rewards, -ours.cost[0], **TIGHT)


@SYSTEMS
def test_negative_q_and_r_turn_the_value_and_keep_the_gain(n, m):
    lqr, _, cov = system(n, m)
    twin, optimum = shrunken(lqr, cov), exact.optimal_gain(lqr)
    P = solve_discrete_are(twin.A, twin.B, -lqr.Q, -lqr.R)
    close(-P, exact.value_matrix(lqr, optimum), **TIGHT)
    curvature = -lqr.R + twin.B.T @ P @ twin.B
    close(-np.linalg.solve(curvature, twin.B.T @ P @ twin.A), optimum, **TIGHT)


# Fazel et al. (2018): u = −Kx, no discount, no noise.


def fazel(A, B, Q, R, Sigma0, k):
    """C(K), Σ_K and E_K as they define them, for u = −kx."""
    F = A - B @ k
    P = solve_discrete_lyapunov(F.T, Q + k.T @ R @ k)
    E = (R + B.T @ P @ B) @ k - B.T @ P @ A
    return np.trace(P @ Sigma0), solve_discrete_lyapunov(F, Sigma0), E


@SYSTEMS
def test_fazel(n, m):
    lqr, K, cov = system(n, m)
    twin = shrunken(lqr, cov)
    world = twin.A, twin.B, twin.Q, twin.R, twin.X0
    C, Sigma_K, E_K = fazel(*world, -K)
    exploring = np.trace(lqr.R @ cov) / (1 - lqr.gamma)
    assert C + exploring == pytest.approx(exact.cost(lqr, K, cov), rel=1e-10)
    close(Sigma_K, exact.state_moment(lqr, K, cov), **TIGHT)
    close(-E_K, exact.gain_error(lqr, K), **TIGHT)
    close(-2 * E_K @ Sigma_K, exact.gradient(lqr, K, cov), **TIGHT)
    theirs = slopes(lambda k: fazel(*world, k)[0], -K)
    close(theirs, -exact.gradient(lqr, K, cov), rtol=1e-5, atol=1e-5)


@SYSTEMS
def test_the_natural_gradient_is_twice_the_gain_error(n, m):
    lqr, K, cov = system(n, m)
    X = exact.state_moment(lqr, K, cov)
    whitened = np.linalg.solve(X, exact.gradient(lqr, K, cov).T).T
    close(whitened, exact.natural_gradient(lqr, K), rtol=1e-8, atol=1e-8)
    close(whitened, 2 * exact.gain_error(lqr, K), rtol=1e-8, atol=1e-8)


@SYSTEMS
def test_twice_the_step_of_policy_iteration_changes_no_value(n, m):
    lqr, K, _ = system(n, m)
    other = K - 2 * exact.gauss_newton(lqr, K)
    assert np.abs(other - K).max() > 1e-3
    close(exact.value_matrix(lqr, other), exact.value_matrix(lqr, K), rtol=1e-8)
    close(other - 2 * exact.gauss_newton(lqr, other), K, rtol=1e-7, atol=1e-8)


# Hambly, Xu & Yang (2021): u = −K_t x, T stages, no discount.


def hambly_values(A, B, Q, R, k):
    """P_t by their (3.9) and E_t by their (3.11), for u = −k_t x; Q ends with Q_T."""
    P, E = [Q[-1]], []
    for t in reversed(range(len(k))):
        F, ahead = A - B @ k[t], P[0]
        E.insert(0, (R[t] + B.T @ ahead @ B) @ k[t] - B.T @ ahead @ A)
        P.insert(0, Q[t] + k[t].T @ R[t] @ k[t] + F.T @ ahead @ F)
    return np.array(P), np.array(E)


def plain_moments(A, B, W, X0, k):
    """E[x_t x_t'] for u = −k_t x, t < T, without discount."""
    Sigma = [X0]
    for gain in k[:-1]:
        F = A - B @ gain
        Sigma.append(F @ Sigma[-1] @ F.T + W)
    return np.array(Sigma)


@SYSTEMS
def test_hambly_stages_carry_the_discount(n, m):
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng([n, m])
    gains = K + 0.1 * rng.standard_normal((STAGES, m, n))
    end = 2.0 * lqr.Q + np.eye(n)
    discount = lqr.gamma ** np.arange(STAGES + 1)[:, None, None]
    Q, R = discount * lqr.Q, discount[:-1] * lqr.R
    Q[-1] = discount[-1] * end
    P, E = hambly_values(lqr.A, lqr.B, Q, R, -gains)
    Sigma = plain_moments(lqr.A, lqr.B, lqr.W, lqr.X0, -gains)
    ours = finite_horizon.evaluate(lqr, gains, terminal=end)
    close(P, discount * ours.P, **TIGHT)
    close(E, -discount[:-1] * ours.E, **TIGHT)
    close(Sigma, ours.X[:-1] / discount[:-1], **TIGHT)
    close(2 * E @ Sigma, -ours.gradient, **TIGHT)
    noise = np.einsum("tij,ij->", P[1:], lqr.W)
    assert np.trace(P[0] @ lqr.X0) + noise == pytest.approx(ours.cost, rel=1e-10)


@SYSTEMS
def test_hambly_equations_at_a_constant_stage(n, m):
    lqr, K, cov = system(n, m)
    twin, P = shrunken(lqr, cov), exact.value_matrix(lqr, K)
    before, E = hambly_values(twin.A, twin.B, [lqr.Q, P], [lqr.R], [-K])
    close(before[0], P, **TIGHT)
    close(E[0], -exact.gain_error(lqr, K), **TIGHT)


# Malik et al. (2020): discounted; random start or noise, not both.


@SYSTEMS
def test_malik_start_and_noise_differ_by_the_discount(n, m):
    lqr, K, _ = system(n, m)
    nothing = 0.0 * lqr.W
    start = exact.cost(dataclasses.replace(lqr, X0=lqr.W, W=nothing), K)
    noise = exact.cost(dataclasses.replace(lqr, X0=nothing), K)
    assert noise == pytest.approx(lqr.gamma / (1 - lqr.gamma) * start, rel=1e-10)


# Silver et al. (2014) and Janner et al. (2019): rewards, maximised.


def reward_ahead(lqr, K, s, a):
    """Q^μ(s, a) of the reward −(s'Qs + a'Ra), without its constant."""
    after, F = lqr.A @ s + lqr.B @ a, lqr.closed_loop(K)
    total, weight = -(s @ lqr.Q @ s + a @ lqr.R @ a), lqr.gamma
    for _ in range(600):
        u = K @ after
        total -= weight * (after @ lqr.Q @ after + u @ lqr.R @ u)
        after, weight = F @ after, lqr.gamma * weight
    return total


@SYSTEMS
def test_silver_action_value_is_minus_ours(n, m):
    lqr, K, _ = system(n, m)
    rng = np.random.default_rng([n, m])
    s, a = rng.standard_normal(n), rng.standard_normal(m)
    z = np.concatenate([s, a])
    ours = z @ exact.q_matrix(lqr, K) @ z
    assert reward_ahead(lqr, K, s, a) == pytest.approx(-ours, rel=1e-10)
    slope = slopes(lambda u: reward_ahead(lqr, K, s, u), K @ s)
    close(slope, -2 * exact.gain_error(lqr, K) @ s, rtol=1e-6, atol=1e-6)


@SYSTEMS
def test_silver_theorem_1_is_minus_our_gradient(n, m):
    lqr, K, _ = system(n, m)
    # States whose sum of ss' is X_K stand for the discounted state distribution.
    states = normal_factor(exact.state_moment(lqr, K)).T
    actions = [slopes(lambda u, s=s: reward_ahead(lqr, K, s, u), K @ s) for s in states]
    close(np.transpose(actions) @ states, -exact.gradient(lqr, K), rtol=1e-6, atol=1e-6)


def summed_rewards(lqr, K, cov):
    """E of the sum of γᵗ r_t under N(Kx, Σ), term by term."""
    F, stage = lqr.closed_loop(K), lqr.Q + K.T @ lqr.R @ K
    moment, total, weight = lqr.X0, 0.0, 1.0
    for _ in range(3000):
        total -= weight * (np.trace(stage @ moment) + np.trace(lqr.R @ cov))
        moment = F @ moment @ F.T + lqr.W + lqr.B @ cov @ lqr.B.T
        weight *= lqr.gamma
    return total


@SYSTEMS
def test_janner_return_and_its_gradient_are_minus_ours(n, m):
    lqr, K, cov = system(n, m)
    eta = summed_rewards(lqr, K, cov)
    assert eta == pytest.approx(-exact.cost(lqr, K, cov), rel=1e-10)
    without = summed_rewards(lqr, K, 0.0 * cov)
    assert without == pytest.approx(-exact.cost(lqr, K), rel=1e-10)
    uphill = slopes(lambda gain: summed_rewards(lqr, gain, cov), K)
    close(uphill, -exact.gradient(lqr, K, cov), rtol=1e-5, atol=1e-5)


# Recht (2019): a factor ½ in the text, two signs and tr P in the code.


@SYSTEMS
def test_a_factor_of_half_moves_no_gain(n, m):
    lqr, K, _ = system(n, m)
    half = dataclasses.replace(lqr, Q=lqr.Q / 2, R=lqr.R / 2)
    for name in ("value_matrix", "gain_error", "cost", "gradient"):
        function = getattr(exact, name)
        close(function(half, K), function(lqr, K) / 2, rtol=1e-12)
    close(exact.gauss_newton(half, K), exact.gauss_newton(lqr, K), **TIGHT)
    close(exact.optimal_gain(half), exact.optimal_gain(lqr), **TIGHT)


def test_recht_published_cost_is_the_trace_of_p():
    lqr = worlds.recht_double_integrator()
    M = solve_discrete_are(lqr.A, lqr.B, lqr.Q, lqr.R)
    gain = np.linalg.solve(lqr.B.T @ M @ lqr.B + lqr.R, lqr.B.T @ M @ lqr.A)
    close(-gain, exact.optimal_gain(lqr), **TIGHT)  # theirs is for u = −Kx
    unit = dataclasses.replace(lqr, X0=np.eye(2), W=np.zeros((2, 2)))
    assert exact.cost(unit, -gain) == pytest.approx(np.trace(M), rel=1e-10)
    assert np.trace(M) == pytest.approx(5.931125, abs=5e-7)


def test_recht_counts_the_state_after_the_move():
    lqr, K = plain_world(W=np.zeros((3, 3)), gamma=1.0), np.full((2, 3), -0.1)
    x, total = np.array([1.0, -2.0, 3.0]), 0.0
    first = np.outer(x, x)
    for _ in range(STAGES):
        u = K @ x
        x = lqr.A @ x + lqr.B @ u
        total += x @ lqr.Q @ x + u @ lqr.R @ u
    start = dataclasses.replace(lqr, X0=first)
    gains = finite_horizon.constant(lqr, K, STAGES)
    ours = finite_horizon.cost(start, gains, terminal=lqr.Q)
    assert total == pytest.approx(ours - np.trace(lqr.Q @ first), rel=1e-12)


# Discounted to undiscounted: cost, value and moment carry over, weights do not.


@SYSTEMS
def test_the_shrunken_world_has_the_same_cost_but_other_weights(n, m):
    lqr, K, cov = system(n, m)
    twin = shrunken(lqr, cov)
    exploring = np.trace(lqr.R @ cov) / (1 - lqr.gamma)
    cost = exact.cost(twin, K) + exploring
    assert cost == pytest.approx(exact.cost(lqr, K, cov), rel=1e-10)
    close(exact.gradient(twin, K), exact.gradient(lqr, K, cov), **TIGHT)
    near = 0.999 * K
    here, there = (weights.second_moment(w, near, K, cov, 20) for w in (lqr, twin))
    assert 1 < here < np.inf
    assert abs((there - 1) / (here - 1) - 1) > 0.01
