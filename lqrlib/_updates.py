"""What one update of MBPO does to all cells of a grid: batches, and steps from them.

Axes are [C, R, …]: covariances, then ratios. Everything random is drawn once, for all
cells, in an order that does not depend on them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _steps, _validate, critic, lyapunov
from lqrlib._validate import Array
from lqrlib.critic import Moments
from lqrlib.descent import of_length
from lqrlib.importance import Weighted, mean_cost, score_terms
from lqrlib.model import LinearModel, fit
from lqrlib.policy import LinearPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import (
    blocks_of,
    draw_noise,
    draw_starts,
    packed,
    stage_matrix,
    transitions,
)
from lqrlib.weights import log_density, running_sum


class _Batch(NamedTuple):
    """What one update draws, for all cells alike."""

    real: Array  # [R, N], 1 for the real trajectories of each ratio
    model: Array  # [R, N T / k], 1 for its model rollouts
    starts: Array  # [C, 1, N T / k, n]
    noise: Array  # [N T / k, k, m+n]


class Run(NamedTuple):
    """What all updates of one seed share: C covariances and R ratios at once.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
    cov : array, shape [C, 1, m, m]
    n_real : array of int, shape [R]
        Real trajectories of a batch.
    branch_length : int
        Steps of a model rollout; T: from the real initial states.
    z : array, shape [C, 1, T+1, n+m, N]
        The real data.
    cost : array, shape [C, 1, T, N]
    model : LinearModel
        With leading axes [C, 1].
    """

    lqr: LQR
    K0: Array
    cov: Array
    n_real: NDArray[np.int64]
    branch_length: int
    z: Array
    cost: Array
    model: LinearModel


# From gains [C, R, m, n] to changes, and ranks of the critic that broadcast to [C, R].
Step = Callable[[Array, np.random.Generator], tuple[Array, NDArray[np.int64]]]


def collect(
    lqr: LQR,
    K0: Array,
    cov: Array,
    n_real: NDArray[np.int64],
    n_trajectories: int,
    horizon: int,
    branch_length: int,
    rng: np.random.Generator,
) -> Run:
    """Real data of every covariance from the same normals, and the models fitted.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
    cov : array, shape [C, m, m]
    n_real : array of int, shape [R]
    n_trajectories, horizon, branch_length : int
    rng : numpy.random.Generator

    Returns
    -------
    Run
    """
    starts = draw_starts(lqr, n_trajectories, rng)
    noise = draw_noise(n_trajectories, horizon, lqr.m + lqr.n, rng)
    world = LinearModel(lqr.A, lqr.B, lqr.W, np.array(1.0))
    cov = cov[:, None]
    z, cost = _rolled(lqr, world, K0, cov, starts, noise)
    real = packed(z, cost, lqr.n, LinearPolicy(K0))
    model = fit(transitions(real))
    return Run(lqr, K0, cov, n_real, branch_length, z, cost, model)


def _rolled(
    lqr: LQR, model: LinearModel, K: Array, cov: Array, starts: Array, noise: Array
) -> tuple[Array, Array]:
    """Rollouts of N(Kx, Σ): z [..., k+1, n+m, M] and cost [..., k, M]."""
    step = _steps.step_matrix(
        model.A, model.B, _steps.root(model.W), K, _steps.root(cov)
    )
    lead = np.broadcast_shapes(step.shape[:-2], starts.shape[:-2])
    starts = np.broadcast_to(starts, (*lead, *starts.shape[-2:]))
    stage, blocks = stage_matrix(lqr), blocks_of(noise)
    return _steps.simulate(
        itertools.repeat(step), stage, starts, blocks, noise.shape[-2]
    )


def _drawn(run: Run, rng: np.random.Generator) -> _Batch:
    """Which real trajectories, and where and how the model's rollouts go."""
    n, k = run.lqr.n, run.branch_length
    T, N = run.cost.shape[-2:]
    M = N * T // k
    place = rng.permutation(N)
    states = np.moveaxis(run.z[..., :-1, :n, :], -2, -1)  # [C, 1, T, N, n]
    if k < T:
        origin = rng.integers(N * T, size=M)
        starts = states.reshape(*states.shape[:-3], T * N, n)[..., origin, :]
    else:
        starts = states[..., 0, :, :]
    noise = draw_noise(M, k, run.lqr.m + n, rng)
    real = place < run.n_real[:, None]
    model = np.arange(M) < (N - run.n_real[:, None]) * (T // k)
    return _Batch(real.astype(float), model.astype(float), starts, noise)


def _branched(run: Run, K: Array, batch: _Batch) -> tuple[Array, Array] | None:
    """Rollouts of the current policy in the model, branched off real states.

    None where no cell has a row for the model: it is not run then, as in the original.
    """
    if not batch.model.any():
        return None
    z, cost = _rolled(run.lqr, run.model, K, run.cov, batch.starts, batch.noise)
    if not np.square(cost.sum()) < np.inf:  # 0 · inf: rows that do not count become 0
        counts = batch.model[:, None, :] > 0.0
        z, cost = np.where(counts[..., None, :], z, 0.0), np.where(counts, cost, 0.0)
    return z, cost


def hack(run: Run, length: float) -> Step:
    """The likelihood-ratio gradient with a time baseline, in steps of one length.

    Parameters
    ----------
    run : Run
    length : float

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If a covariance is not positive definite.
    """
    lqr, cov, n = run.lqr, run.cov, run.lqr.n
    _validate.covariance("cov", cov, lqr.m, strict=True)
    discounts = lqr.gamma ** np.arange(run.cost.shape[-2])[:, None]
    x, u = run.z[..., :-1, :n, :], run.z[..., :-1, n:, :]
    collected = log_density(run.K0[..., None], cov[..., None], x, u)
    rule = of_length(length)

    def real_part(c: int, K: Array, batch: _Batch) -> Weighted:
        log_w = log_density(K[..., None], cov[c, ..., None], x[c], u[c]) - collected[c]
        w = np.exp(running_sum(log_w)) * batch.real[:, None, :]
        return Weighted(x[c], u[c], run.cost[c] * discounts, w)

    def model_part(z: Array, cost: Array, batch: _Batch) -> Weighted:
        w = np.broadcast_to(batch.model[:, None, :], cost.shape)
        return Weighted(z[..., :-1, :n, :], z[..., :-1, n:, :], cost * discounts, w)

    def gradient(parts: Sequence[Weighted], K: Array, Sigma: Array) -> Array:
        baseline = mean_cost(parts)
        terms = (
            score_terms(part, K, Sigma, part.w * (part.cost - baseline))
            for part in parts
        )
        return np.sum([term.sum(axis=-1) for term in terms], axis=0)

    def step(K: Array, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        batch, found = _drawn(run, rng), []
        fresh = _branched(run, K, batch)
        for c in range(len(cov)):  # one covariance fits into the cache
            parts = [real_part(c, K[c], batch)]
            if fresh is not None:
                parts.append(model_part(fresh[0][c], fresh[1][c], batch))
            found.append(gradient(parts, K[c], cov[c]))
        return rule(np.stack(found), K), np.array(0)

    return step


def dpg(run: Run, damping: float) -> Step:
    """LSTDQ on the batch, and a share of the full Gauss–Newton step.

    Parameters
    ----------
    run : Run
    damping : float

    Returns
    -------
    callable
    """
    lqr, n = run.lqr, run.lqr.n
    z = np.moveaxis(run.z, -1, -3)  # [C, 1, N, T+1, n+m]
    cost, every = np.moveaxis(run.cost, -1, -2), np.ones(run.cost.shape[-2])
    real = critic.moments(z[..., :-1, :].mT, cost, z[..., 1:, :n].mT, every)

    def step(K: Array, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        batch = _drawn(run, rng)
        sums, fresh = _chosen(real, batch.real), _branched(run, K, batch)
        if fresh is not None:
            model = _model_moments(*fresh, batch.model, n)
            sums = Moments(*map(np.add, sums, model))
        found = critic.solve(lqr, sums, K)
        change = damping * found.gauss_newton(K)
        known = found.determined[..., None, None]
        return np.where(known, change, np.nan), found.rank

    return step


def _chosen(each: Moments, mask: Array) -> Moments:
    """Sums over the trajectories of a mask [R, N] of moments [C, 1, N, …]."""
    parts = []
    for part in each:
        flat = part.reshape(*part.shape[:3], -1)
        total = (mask[:, None, :] @ flat)[..., 0, :]
        parts.append(total.reshape(*total.shape[:-1], *part.shape[3:]))
    return Moments(*parts)


def _model_moments(z: Array, cost: Array, mask: Array, n: int) -> Moments:
    """Sums over all steps of model rollouts; step by step, to stay in the cache."""
    steps = (
        critic.moments(z[..., t, :, :], cost[..., t, :], z[..., t + 1, :n, :], mask)
        for t in range(cost.shape[-2])
    )
    total = next(steps)
    for here in steps:
        total = Moments(*map(np.add, total, here))
    return total


def planned(run: Run, damping: float) -> Step:
    """A share of the full Gauss–Newton step, exact on the fitted model.

    Parameters
    ----------
    run : Run
    damping : float

    Returns
    -------
    callable
    """
    lqr, (A, B, *_) = run.lqr, run.model

    def step(K: Array, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:  # noqa: ARG001
        P = lyapunov.adjoint(np.sqrt(lqr.gamma) * (A + B @ K), lqr.Q + K.mT @ lqr.R @ K)
        curvature = lqr.R + lqr.gamma * B.mT @ P @ B
        E = curvature @ K + lqr.gamma * B.mT @ P @ A
        return damping * np.linalg.solve(curvature, E), np.array(0)

    return step
