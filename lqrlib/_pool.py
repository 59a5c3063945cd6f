"""What MBPO's updates draw from: the real pool, the models fitted to it, and batches.

Axes are [C, R, …]: covariances, then ratios. Everything random is drawn once, for all
cells, in an order that does not depend on them.
"""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _steps, ensemble, observed
from lqrlib._validate import Array
from lqrlib.model import LinearModel, fit, fit_ensemble
from lqrlib.problem import LQR
from lqrlib.rollout import (
    Transitions,
    draw_noise,
    draw_starts,
    given_noise,
    stage_matrix,
)


class Sizes(NamedTuple):
    """How much is collected, imagined and drawn; from `lqrlib.mbpo.MBPOSettings`."""

    n_trajectories: int
    horizon: int
    batch_size: int
    branch_length: int
    members: int
    elites: int


class Cells(NamedTuple):
    """What all updates of one seed share.

    Parameters
    ----------
    lqr : LQR
        The world as it is seen: sizes, cost, γ, starts, and the noise that is drawn.
    world : LQR
        The true one, which may have states after those of ``lqr`` that nobody sees.
    cov : array, shape [C, 1, m, m]
    real : array, shape [R]
        Trajectories of a batch that are real: their number, or with ``whole`` the
        probability that all of them are.
    whole : bool
    sizes : Sizes
    """

    lqr: LQR
    world: LQR
    cov: Array
    real: Array
    whole: bool
    sizes: Sizes


class Pool(NamedTuple):
    """All real trajectories so far; an axis of length 1 where cells share them.

    Parameters
    ----------
    z : array, shape [C, R, T+1, n+m, P]
    cost : array, shape [C, R, T, P]
    K : array, shape [C, R, m, n, P]
        The gain that made each trajectory.
    """

    z: Array
    cost: Array
    K: Array


class Fresh(NamedTuple):
    """Model rollouts: z [C, R, k+1, n+m, M] and cost [C, R, k, M]."""

    z: Array
    cost: Array


class Batch(NamedTuple):
    """What one update is made from.

    Parameters
    ----------
    real : array, shape [R, P]
        How often each real trajectory is in the batch.
    model : array of int, shape [R]
        How many of the model rollouts are in the batch: the first ones.
    fresh : Fresh or None
        None where no cell has a row for the model: it is not run then, as in the
        original.
    """

    real: Array
    model: NDArray[np.int64]
    fresh: Fresh | None


def collect(
    cells: Cells, pool: Pool | None, K: Array, rng: np.random.Generator
) -> Pool:
    """Real trajectories of N(Kx, Σ), from the same normals for all cells.

    Parameters
    ----------
    cells : Cells
    pool : Pool, optional
        What is there already.
    K : array, shape [C, R, m, n]
    rng : numpy.random.Generator

    Returns
    -------
    Pool
    """
    lqr, world, N = cells.lqr, cells.world, cells.sizes.n_trajectories
    starts = draw_starts(lqr, N, rng)
    noise = draw_noise(N, cells.sizes.horizon, lqr.m + lqr.n, rng)
    if pool is None:  # one gain so far: all ratios share its data
        K = K[:, :1]
    law = _steps.step_matrix(
        world.A,
        world.B,
        _noise_root(lqr, world),
        observed.widen(world, K),
        _steps.root(cells.cov),
    )
    if world.n > lqr.n:  # hidden states start from rest
        hidden = [(0, 0), (0, world.n - lqr.n)]
        starts, noise = np.pad(starts, hidden), np.pad(noise, [(0, 0), *hidden])
    z, cost = _rolled(world, law, starts, noise)
    if world.n > lqr.n:
        z = z[..., np.r_[: lqr.n, world.n : world.n + lqr.m], :]
    made_by = np.broadcast_to(K[..., None], (*K.shape, N))
    found = Pool(
        z, cost, np.broadcast_to(made_by, (*cost.shape[:2], *made_by.shape[2:]))
    )
    return found if pool is None else Pool(*map(_beside, pool, found))


def _noise_root(lqr: LQR, world: LQR) -> Array:
    """L_W of the true world: noise moves the states that are seen, and no others."""
    return np.pad(_steps.root(lqr.W), [(0, world.n - lqr.n)] * 2)


def _beside(old: Array, new: Array) -> Array:
    lead = np.broadcast_shapes(old.shape[:2], new.shape[:2])
    parts = [np.broadcast_to(part, (*lead, *part.shape[2:])) for part in (old, new)]
    return np.concatenate(parts, axis=-1)


def rows(pool: Pool, n: int) -> Transitions:
    """All transitions of the pool.

    Parameters
    ----------
    pool : Pool
    n : int

    Returns
    -------
    Transitions
    """
    z = np.moveaxis(pool.z, -1, -3)  # [C, R, P, T+1, n+m]

    def flat(part: Array) -> Array:
        return part.reshape(*part.shape[:2], -1, part.shape[-1])

    cost = flat(pool.cost.mT[..., None])[..., 0]
    x, u = flat(z[..., :-1, :n]), flat(z[..., :-1, n:])
    return Transitions(x, u, cost, flat(z[..., 1:, :n]))


def learn(cells: Cells, pool: Pool, rng: np.random.Generator) -> LinearModel:
    """The models of the pool: one least-squares fit, or the elites of a bootstrap.

    Parameters
    ----------
    cells : Cells
    pool : Pool
    rng : numpy.random.Generator

    Returns
    -------
    LinearModel
        With axes [E, C, R or 1].
    """
    sizes, data = cells.sizes, rows(pool, cells.lqr.n)
    if sizes.members == 1:
        return ensemble.stack([fit(data)])
    members = fit_ensemble(data, sizes.members, rng, elites=sizes.elites)
    return ensemble.stack(members)


def model_error(lqr: LQR, models: LinearModel) -> Array:
    """|[Â, B̂] − [A, B]| / |[A, B]| of the mean over members, in the Frobenius norm.

    Parameters
    ----------
    lqr : LQR
    models : LinearModel
        With the member as first axis.

    Returns
    -------
    array, shape [C, R or 1]
    """
    truth = np.concatenate([lqr.A, lqr.B], axis=-1)
    found = np.concatenate([models.A.mean(axis=0), models.B.mean(axis=0)], axis=-1)
    return np.linalg.norm(found - truth, axis=(-2, -1)) / np.linalg.norm(truth)


def draw(
    cells: Cells, pool: Pool, models: LinearModel, K: Array, rng: np.random.Generator
) -> Batch:
    """Real trajectories of the pool, and rollouts of the current policy in the model.

    Real ones are drawn without replacement until all have been, then again. Rollouts
    have k steps and start at states drawn from all of the pool's; with k = T, at its
    initial states.

    Parameters
    ----------
    cells : Cells
    pool : Pool
    models : LinearModel
    K : array, shape [C, R, m, n]
    rng : numpy.random.Generator

    Returns
    -------
    Batch
    """
    sizes, P = cells.sizes, pool.cost.shape[-1]
    B, T, k = sizes.batch_size, sizes.horizon, sizes.branch_length
    places = np.stack([rng.permutation(P) + turn for turn in range(0, B, P)])
    wanted = cells.real
    if cells.whole:
        wanted = np.where(rng.random() < cells.real, B, 0)
    real = (places[:, None] < wanted[:, None]).sum(axis=0).astype(float)
    starts = _starts(cells, pool, B * T // k, rng)
    noise = draw_noise(B * T // k, k, cells.lqr.m + cells.lqr.n, rng)
    which = None
    if len(models.A) > 1:  # a member for every sample and step
        which = rng.integers(len(models.A), size=noise.shape[-2::-1])
    model = ((B - wanted) * (T // k)).astype(np.int64)
    if not model.any():
        return Batch(real, model, None)
    law = _steps.step_matrix(
        models.A, models.B, _steps.root(models.W), K, _steps.root(cells.cov)
    )
    return Batch(real, model, Fresh(*_rolled(cells.lqr, law, starts, noise, which)))


def _starts(cells: Cells, pool: Pool, count: int, rng: np.random.Generator) -> Array:
    """Real states to branch from, [C, R or 1, M, n]."""
    n, T, P = cells.lqr.n, cells.sizes.horizon, pool.cost.shape[-1]
    states = np.moveaxis(pool.z[..., :-1, :n, :], -2, -1)  # [C, R, T, P, n]
    if cells.sizes.branch_length < T:
        origin = rng.integers(P * T, size=count)
        return states.reshape(*states.shape[:-3], T * P, n)[..., origin, :]
    first = states[..., 0, :, :]
    return first if count == P else first[..., rng.integers(P, size=count), :]


def _rolled(
    lqr: LQR,
    law: Array,
    starts: Array,
    noise: Array,
    which: NDArray[np.int64] | None = None,
) -> tuple[Array, Array]:
    """Rollouts: z [..., k+1, n+m, M] and cost [..., k, M]; ``law`` may have members."""
    if law.ndim == 5 and which is None:
        law = law[0]
    lead = np.broadcast_shapes(law.shape[-4:-2], starts.shape[:-2])
    return _steps.simulate(
        itertools.repeat(law),
        stage_matrix(lqr),
        np.broadcast_to(starts, (*lead, *starts.shape[-2:])),
        given_noise(noise),
        noise.shape[-2],
        which,
    )
