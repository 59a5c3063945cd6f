"""What one update of MBPO does to all cells of a grid: a step from a batch.

Axes are [C, R, …]: covariances, then ratios, as in `lqrlib._pool`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _steps, _validate, critic, ensemble
from lqrlib._pool import Batch, Cells, Fresh, Pool, draw
from lqrlib._validate import Array
from lqrlib._weighted import Weighted, mean_cost, to_go
from lqrlib.critic import Critic, Moments
from lqrlib.descent import of_length
from lqrlib.model import LinearModel
from lqrlib.weights import log_density, running_sum

# Of the largest eigenvalue of Θ̂_uu: what is below is rounding.
_NEGLIGIBLE = 1e-12
# Bytes of states that are worked on at a time: their products take three times as much.
_CACHED = 1 << 17


class Look(NamedTuple):
    """What a step saw of its batch; each broadcasts to [C, R].

    Parameters
    ----------
    real : array
        Share of the batch that was real.
    rank, condition : array
        Of the critic's features; 0 and 1 without a critic.
    effective : array
        Effective number of the real trajectories over their number, by the weights of
        their last step; 1 without weights.
    """

    real: Array
    rank: NDArray[np.int64]
    condition: Array
    effective: Array


class Move(NamedTuple):
    """What a step does to the policies N(Kx, Σ) of all cells.

    Parameters
    ----------
    change : array, shape [C, R, m, n]
        To be subtracted from K; nan where there is no step.
    cov : array, shape [C, R or 1, m, m]
        The next Σ.
    look : Look
    """

    change: Array
    cov: Array
    look: Look


# From gains [C, R, m, n] and covariances to the next ones.
Step = Callable[[Array, Array, np.random.Generator], Move]


def _look(
    batch: Batch,
    size: int,
    *,
    found: Critic | None = None,
    effective: Array | float = 1.0,
) -> Look:
    rank = np.array(0) if found is None else found.rank
    condition = np.array(1.0) if found is None else found.condition
    share = batch.real.sum(axis=-1) / size
    return Look(share, rank, condition, np.asarray(effective))


def hack(cells: Cells, pool: Pool, models: LinearModel, length: float) -> Step:
    """The likelihood-ratio gradient with a time baseline, in steps of one length.

    Parameters
    ----------
    cells : Cells
    pool : Pool
    models : LinearModel
    length : float

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If a covariance is not positive definite.
    """
    lqr, cov, n = cells.lqr, cells.cov, cells.lqr.n
    _validate.covariance("cov", cov, lqr.m, strict=True)
    discounts = lqr.gamma ** np.arange(cells.sizes.horizon)[:, None]
    x, u = pool.z[..., :-1, :n, :], pool.z[..., :-1, n:, :]
    collected = log_density(pool.K, cov[..., None], x, u)
    rule = of_length(length)

    def part_of(z: Array, cost: Array, w: Array) -> Weighted:
        states, actions = z[..., :-1, :n, :], z[..., :-1, n:, :]
        return Weighted(states, actions, cost * discounts, w)

    def real_part(
        r: int, K: Array, Sigma: Array, counts: Array
    ) -> tuple[Weighted, Array]:
        own = min(r, pool.z.shape[1] - 1)  # cells may share their data
        used = np.flatnonzero(counts)
        cost = pool.cost[:, own][..., used]
        part = part_of(pool.z[:, own][..., used], cost, cost)
        here = log_density(K[..., None], Sigma[..., None], part.x, part.u)
        log_w = running_sum(here - collected[:, own][..., used])
        weighted = part._replace(w=np.exp(log_w) * counts[used])
        return weighted, _effective(log_w[..., -1, :], counts[used])

    def model_part(r: int, fresh: Fresh, count: int) -> Weighted:
        cost = fresh.cost[:, r, :, :count]
        return part_of(fresh.z[:, r, ..., :count], cost, np.ones_like(cost))

    def gradient(parts: Sequence[Weighted], K: Array, Sigma: Array) -> Array:
        baseline, total = mean_cost(parts), np.zeros_like(K)
        for part in parts:  # each score is paid for by every credit from its step on
            credit = to_go(part.w * (part.cost - baseline))[..., None, :]
            error = part.u - K[:, None] @ part.x
            total += ((credit * error) @ part.x.mT).sum(axis=-3)
        return np.linalg.inv(Sigma) @ total

    def step(K: Array, cov: Array, rng: np.random.Generator) -> Move:
        batch = draw(cells, pool, models, K, rng)
        found, effective = np.empty_like(K), np.ones(K.shape[:2])
        for r, counts in enumerate(batch.real):  # cells of one ratio have equal sizes
            Sigma, parts = cov[:, 0], []
            if counts.any():
                part, effective[:, r] = real_part(r, K[:, r], Sigma, counts)
                parts.append(part)
            if batch.fresh is not None and batch.model[r]:
                parts.append(model_part(r, batch.fresh, int(batch.model[r])))
            found[:, r] = gradient(parts, K[:, r], Sigma)
        seen = _look(batch, cells.sizes.batch_size, effective=effective)
        return Move(rule(found, K), cov, seen)

    return step


def _effective(log_w: Array, counts: Array) -> Array:
    """(Σw)²/Σw² over the number of trajectories, [C]; each counts so often, [P]."""
    highest = log_w.max(axis=-1, keepdims=True)
    w = np.exp(log_w - np.where(np.isfinite(highest), highest, 0.0))
    total, squares = (counts * w).sum(axis=-1), (counts * w * w).sum(axis=-1)
    share = np.square(total) / np.where(squares > 0.0, counts.sum() * squares, 1.0)
    return np.where(squares > 0.0, share, 1.0)


def dpg(cells: Cells, pool: Pool, models: LinearModel, damping: float) -> Step:
    """LSTDQ on the batch, and a share of the full Gauss–Newton step.

    Parameters
    ----------
    cells : Cells
    pool : Pool
    models : LinearModel
    damping : float

    Returns
    -------
    callable
    """
    real = _moments_of(cells, pool)

    def step(K: Array, cov: Array, rng: np.random.Generator) -> Move:
        batch = draw(cells, pool, models, K, rng)
        found = critic.solve(cells.lqr, _in_batch(cells, real, batch), K)
        change = damping * found.gauss_newton(K)
        seen = _look(batch, cells.sizes.batch_size, found=found)
        return Move(_where_known(found, change), cov, seen)

    return step


def pathwise(cells: Cells, pool: Pool, models: LinearModel, length: float) -> Step:
    """The slope of LSTDQ's Q̂ at actions drawn afresh in the batch's states.

    Σ ∇_K Q̂(x, Kx + e) = 2 Σ (Θ̂_uu (Kx + e) + Θ̂_ux x) x' with e ~ N(0, Σ), as soft
    actor-critic differentiates through its actions; in steps of one length.

    Parameters
    ----------
    cells : Cells
    pool : Pool
    models : LinearModel
    length : float

    Returns
    -------
    callable
    """
    n, m, rule = cells.lqr.n, cells.lqr.m, of_length(length)
    T, k = cells.sizes.horizon, cells.sizes.branch_length
    real, root = _moments_of(cells, pool), _steps.root(cells.cov)
    real_x = pool.z[..., :-1, :n, :]

    def step(K: Array, cov: Array, rng: np.random.Generator) -> Move:
        batch = draw(cells, pool, models, K, rng)
        sums = _in_batch(cells, real, batch)
        found = critic.solve(cells.lqr, sums, K)
        drawn = rng.standard_normal((T, m, batch.real.shape[-1]))
        crossed = _crossed(real_x, drawn * batch.real[:, None, None, :])
        # Drawn whether they are used or not: no cell's draws depend on the others.
        drawn = rng.standard_normal((k, m, cells.sizes.batch_size * T // k))
        if batch.fresh is not None:
            x = batch.fresh.z[..., :-1, :n, :]
            for r, count in enumerate(batch.model):
                crossed[:, r] += _crossed(x[:, r, ..., :count], drawn[..., :count])
        curvature = found.Theta[..., n:, n:]
        noise = curvature @ root @ crossed
        slope = found.gain_error(K) @ _states(sums, cells) + noise
        seen = _look(batch, cells.sizes.batch_size, found=found)
        return Move(_where_known(found, rule(slope, K)), cov, seen)

    return step


def soft(
    cells: Cells, pool: Pool, models: LinearModel, damping: float, temperature: float
) -> Step:
    """LSTDQ on the batch, and the policy that is best for its Q̂ and the temperature.

    That policy, ∝ exp(−Q̂(x, u)/τ), is N(K₊x, (τ/2)Θ̂_uu⁻¹) with the full Gauss–Newton
    step for K₊: Σ goes there, K a share of the way. Both stay where Θ̂_uu is not
    positive definite, since there is no such policy then.

    Parameters
    ----------
    cells : Cells
    pool : Pool
    models : LinearModel
    damping : float
    temperature : float
        τ.

    Returns
    -------
    callable
    """
    real, n, m = _moments_of(cells, pool), cells.lqr.n, cells.lqr.m

    def step(K: Array, cov: Array, rng: np.random.Generator) -> Move:
        batch = draw(cells._replace(cov=cov), pool, models, K, rng)
        found = critic.solve(cells.lqr, _in_batch(cells, real, batch), K)
        curvature = found.Theta[..., n:, n:]
        usable = np.asarray(found.determined & _definite(curvature))[..., None, None]
        inverse = np.linalg.inv(np.where(usable, curvature, np.eye(m)))
        wanted = 0.25 * temperature * (inverse + inverse.mT)
        change = np.where(usable, damping * found.gauss_newton(K), np.nan)
        seen = _look(batch, cells.sizes.batch_size, found=found)
        return Move(change, np.where(usable, wanted, cov), seen)

    return step


def _definite(curvature: Array) -> NDArray[np.bool_]:
    """Whether symmetric matrices are positive definite, and not only by rounding."""
    finite = np.isfinite(curvature).all(axis=(-2, -1), keepdims=True)
    values = np.linalg.eigvalsh(np.where(finite, curvature, 0.0))
    return np.asarray(values[..., 0] > _NEGLIGIBLE * np.abs(values[..., -1]))


def planned(cells: Cells, pool: Pool, models: LinearModel, damping: float) -> Step:  # noqa: ARG001
    """A share of the full Gauss–Newton step, exact on the fitted models.

    Parameters
    ----------
    cells : Cells
    pool : Pool
    models : LinearModel
    damping : float

    Returns
    -------
    callable
    """
    lqr, n = cells.lqr, cells.lqr.n
    share = cells.real if cells.whole else cells.real / cells.sizes.batch_size
    no_batch = Look(share, np.array(0), np.array(1.0), np.array(1.0))

    def step(K: Array, cov: Array, rng: np.random.Generator) -> Move:  # noqa: ARG001
        P = ensemble.value_matrix(lqr, models, K)
        Theta = ensemble.q_matrix(lqr, models, P)
        curvature = Theta[..., n:, n:]
        E = curvature @ K + Theta[..., n:, :n]
        return Move(damping * _steps.solved(curvature, E), cov, no_batch)

    return step


def _where_known(found: Critic, change: Array) -> Array:
    """The change, nan where the batch does not determine the critic."""
    return np.where(found.determined[..., None, None], change, np.nan)


def _moments_of(cells: Cells, pool: Pool) -> Moments:
    """What each real trajectory contributes to LSTDQ, [C, R or 1, P, …]."""
    n = cells.lqr.n
    z, cost = np.moveaxis(pool.z, -1, -3), np.moveaxis(pool.cost, -1, -2)
    every = np.ones(cost.shape[-1])
    return critic.moments(z[..., :-1, :].mT, cost, z[..., 1:, :n].mT, every)


def _in_batch(cells: Cells, real: Moments, batch: Batch) -> Moments:
    """Sums over all rows of the batch, [C, R, …]."""
    chosen = _chosen(real, batch.real)
    if batch.fresh is None:
        return chosen
    fresh = _model_moments(batch.fresh, batch.model, cells.lqr.n)
    return Moments(*map(np.add, chosen, fresh))


def _chosen(each: Moments, counts: Array) -> Moments:
    """Sums over trajectories, as often as counted [R, P], of moments [C, R or 1, P]."""
    parts = []
    for part in each:
        flat = part.reshape(*part.shape[:3], -1)
        total = (counts[:, None, :] @ flat)[..., 0, :]
        parts.append(total.reshape(*total.shape[:-1], *part.shape[3:]))
    return Moments(*parts)


def _model_moments(fresh: Fresh, counts: NDArray[np.int64], n: int) -> Moments:
    """Sums over the first rollouts of each cell, as many cells as fit into a cache."""
    found, C = [], len(fresh.z)
    for r, count in enumerate(counts):  # cells of one ratio have equal sizes
        z, cost = fresh.z[:, r, ..., :count], fresh.cost[:, r, :, :count]
        size = max(_CACHED * C // max(z.nbytes, 1), 1)
        blocks = [slice(c, c + size) for c in range(0, C, size)]
        parts = [critic.path_moments(z[here], cost[here], n) for here in blocks]
        found.append([np.concatenate(part) for part in zip(*parts, strict=True)])
    return Moments(*(np.stack(part, axis=1) for part in zip(*found, strict=True)))


def _states(sums: Moments, cells: Cells) -> Array:
    """Σ xx' over the rows of the batch: the last features are constant."""
    width, n = cells.lqr.n + cells.lqr.m, cells.lqr.n
    i, j = np.triu_indices(width)
    products = sums.G[..., -1, :-1] * np.where(i == j, 1.0, 0.5)
    Z = np.empty((*products.shape[:-1], width, width))
    Z[..., i, j] = Z[..., j, i] = products
    return Z[..., :n, :n]


def _crossed(x: Array, normals: Array) -> Array:
    """Σ ξ x' over steps and rows, [..., m, n], of x [..., T, n, M] and ξ [T, m, M]."""
    return (normals @ x.mT).sum(axis=-3)
