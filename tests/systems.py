"""Systems that many tests share: named worlds and random ones with stable gains."""

import dataclasses

import numpy as np
import pytest
from hypothesis import strategies as st

from lqrlib import LQR, GaussianPolicy, exact, lyapunov, worlds
from lqrlib.rollout import rollout

NAMED = {
    "double_integrator": worlds.double_integrator,
    "scalar": worlds.scalar,
    "laplacian": worlds.laplacian,
    "three_rooms": worlds.three_rooms,
    "recht_double_integrator": worlds.recht_double_integrator,
    "hambly": worlds.hambly,
}
SYSTEMS = pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (3, 2), (5, 3), (2, 3)])
close = np.testing.assert_allclose
# Where the book starts from in its three worlds.
FIRST_GAINS = {
    "double_integrator": np.array([[-1.0, -1.0]]),
    "three_rooms": np.zeros((2, 3)),
    "laplacian": -0.1 * np.eye(3),
}
FIRST_GAIN = FIRST_GAINS["double_integrator"]  # K₀ of the double integrator
MOST = 4.0  # standard errors; a seeded mean beyond it points to a bug, not to luck


def spd(size, rng):
    """A random covariance, clearly positive definite."""
    M = rng.standard_normal((size, size))
    return M @ M.T / size + 0.1 * np.eye(size)


def random_world(n, m, rng):
    """A random world of which no matrix is a multiple of the identity."""
    return dataclasses.replace(
        worlds.random(n, m, rng),
        W=spd(n, rng),
        X0=spd(n, rng),
        gamma=rng.uniform(0.6, 0.99),
    )


def radius(lqr, K):
    """√γ ρ(A + BK): below 1 where K is stable."""
    return np.sqrt(lqr.gamma) * lyapunov.spectral_radius(lqr.closed_loop(K))


def stable_gain(lqr, rng, *, reach=1.0):
    """A gain around 0 or K*, drawn back until it is stable with room to spare."""
    centre = exact.optimal_gain(lqr)
    if rng.random() < 0.5 and radius(lqr, 0.0 * centre) < 0.97:
        centre = 0.0 * centre
    step = reach * rng.standard_normal((lqr.m, lqr.n))
    while radius(lqr, centre + step) >= 0.97:
        step *= 0.7
    return centre + step


def stabilised(n, m, seed):
    """A random world, a stable gain of it, and the generator for more."""
    rng = np.random.default_rng([n, m, seed])
    lqr = random_world(n, m, rng)
    return lqr, stable_gain(lqr, rng), rng


def system(n, m):
    """A random world, a stable gain of it and a policy covariance, always the same."""
    lqr, K, rng = stabilised(n, m, seed=7)
    return lqr, K, spd(m, rng)


def discounted_source(lqr, cov):
    """X₀ + γ/(1−γ)(W + BΣB'), written out once more."""
    return lqr.X0 + lqr.gamma / (1 - lqr.gamma) * (lqr.W + lqr.B @ cov @ lqr.B.T)


def regular(size, rng):
    """A matrix far from singular, so that rounding is not what a test measures."""
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return turn * rng.uniform(0.5, 2.0, size)


def in_bases(lqr, S, U=None):
    """The world whose states are Sx and whose actions are Uu."""
    back, undo = np.linalg.inv(S), np.linalg.inv(np.eye(lqr.m) if U is None else U)
    return dataclasses.replace(
        lqr,
        A=S @ lqr.A @ back,
        B=S @ lqr.B @ undo,
        Q=back.T @ lqr.Q @ back,
        R=undo.T @ lqr.R @ undo,
        X0=S @ lqr.X0 @ S.T,
        W=S @ lqr.W @ S.T,
    )


def stabilised_systems():
    """Hypothesis strategy for `stabilised`, with n from 1 to 5 and m from 1 to 3."""
    return st.builds(
        stabilised, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1)
    )


def plain_world(**changes):
    """Three states and two actions in whole numbers, with some arguments changed."""
    arguments = {
        "A": [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
        "B": [[1, 0], [0, 1], [0, 0]],
        "Q": [[2, 1, 0], [1, 2, 0], [0, 0, 1]],
        "R": [[2, 1], [1, 2]],
        "W": [[1, 0, 0], [0, 2, 1], [0, 1, 3]],
        "X0": [[3, 0, 1], [0, 2, 0], [1, 0, 1]],
        "gamma": 0.9,
    }
    return LQR(**(arguments | changes))


def plain_policy():
    """A gain that calms `plain_world`, and a covariance: its data leave no doubt."""
    K = np.array([[0.0, -0.5, 0.1], [0.2, 0.0, -0.5]])
    return K, np.array([[1.0, 0.3], [0.3, 2.0]])


def gaussian_data(lqr, K, cov, n_trajectories, horizon, seed=0):
    """Trajectories of N(Kx, cov), always the same for a seed."""
    rng = np.random.default_rng(seed)
    return rollout(lqr, GaussianPolicy(K, cov), n_trajectories, horizon, rng)


def z_scores(samples, truth):
    """Distance of each sample mean from the truth, in standard errors."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return (samples.mean(axis=0) - truth) / error


def steps_of(data):
    """For each step of one set of trajectories, in order: x, u, cost, x'."""
    for i, path in enumerate(data.u):
        for t, u in enumerate(path):
            yield data.x[i, t], u, data.cost[i, t], data.x[i, t + 1]
