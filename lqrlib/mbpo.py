r"""Model-based policy optimisation (MBPO) in the linear-quadratic world.

After every collection of real trajectories a model, or an ensemble, is fitted to all of
them. Every update draws a batch: a share ``real_ratio`` of real trajectories, the rest
from rollouts of the current policy in the model, branched off real states. One of five
expressions makes a step of it:

- ``"hack"``: the likelihood-ratio gradient of N(Kx, Σ) with a time baseline;
  per-decision weights on real rows, weight 1 on the model's; steps of one length;
- ``"dpg"``: LSTDQ on the batch, then a damped step along Θ̂_uu⁻¹(Θ̂_uu K + Θ̂_ux);
- ``"pathwise"``: LSTDQ on the batch, then the slope of Q̂ at fresh actions in the
  batch's states, as in soft actor-critic; steps of one length;
- ``"soft"``: LSTDQ on the batch, then a damped step towards the best policy for Q̂ and
  a temperature, in gain and covariance: its Σ is no setting but found;
- ``"model"``: a damped step that is exact on the fitted model: no batch, no real_ratio.

A grid of covariances and ratios is one program whose leading axes are the grid. All
cells of one seed share their noise: they differ by their settings only.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _blocks, _grid, _pool, _updates, _validate, exact, observed, worlds
from lqrlib._validate import Array
from lqrlib.critic import feature_count
from lqrlib.descent import moved
from lqrlib.history import History, Status
from lqrlib.mbpo_settings import EXPRESSIONS, MIXINGS, MBPOSettings, split_batch
from lqrlib.model import LinearModel
from lqrlib.problem import LQR

__all__ = [
    "EXPRESSIONS",
    "MIXINGS",
    "MBPOHistory",
    "MBPOSettings",
    "SweepResult",
    "mbpo",
    "split_batch",
    "sweep",
]

_NORMALISED = ("hack", "pathwise")  # steps of one length; the others are damped


@dataclass(frozen=True, eq=False)
class MBPOHistory(History):
    """A `History`, and what models and batches were like.

    U is the number of all updates, of all collections together.

    Parameters
    ----------
    K, cost, status, within
        As in `History`, of u = Kx, over U + 1 gains. The optimum is that of the gains
        that see what the policy sees (`observed.best_gain`): K* unless there is a lag.
    cov : array, shape [U + 1, ..., m, m]
        Covariances Σ of the policies; all equal but for ``"soft"``.
    real_ratio : array, shape [U, ...]
        The effective one: real trajectories of a batch over its size.
    rank : array of int, shape [U, ...]
        Rank of the critic's features at each update; 0 without a critic. While it is
        short the gain stays where it is: the data do not determine the critic.
    condition : array, shape [U, ...]
        Condition number of the features; 1 without a critic, inf at short rank.
    effective_sample_size : array, shape [U, ...]
        Effective number of a batch's real trajectories by the weights of their last
        step, over their number: in (0, 1], and 1 without weights or real rows.
    model_error : array, shape [collections, ...]
        |[Â, B̂] − [A, B]| / |[A, B]| of the model, or of the mean of its members.
    rank_needed : int
        The rank that determines a critic.
    """

    cov: Array
    real_ratio: Array
    rank: NDArray[np.int64]
    condition: Array
    effective_sample_size: Array
    model_error: Array
    rank_needed: int

    @property
    def reason(self) -> NDArray[np.str_]:
        """The status of each path as a sentence, shape [...]; with a rank too short."""
        words, last = super().reason, self.rank[-1]
        short = [
            f"refused: the critic's features have rank {rank} of {self.rank_needed} "
            "in the last batch, which does not determine it"
            for rank in range(self.rank_needed)
        ]
        named = np.array([*short, ""])[np.minimum(last, self.rank_needed)]
        return np.where(self.status == Status.REFUSED, named, words)


class SweepResult(NamedTuple):
    """Histories over a grid.

    Parameters
    ----------
    axes : dict
        Name of each axis and its values, in the order of the leading axes.
    seeds : tuple of int
        The last leading axis.
    history : MBPOHistory
        With leading axes [*axes, seeds].
    """

    axes: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    history: MBPOHistory


def mbpo(lqr: LQR, settings: MBPOSettings, rng: np.random.Generator) -> MBPOHistory:
    """Run MBPO once: `sweep` with a grid of one.

    Parameters
    ----------
    lqr : LQR
        The true world; with ``settings.lag``, without its lag.
    settings : MBPOSettings
    rng : numpy.random.Generator

    Returns
    -------
    MBPOHistory

    Raises
    ------
    ValueError
        If settings do not fit the world, or the hack has no covariance.
    """
    _validate.instance("lqr", lqr, LQR)
    _validate.instance("settings", settings, MBPOSettings)
    _validate.generator("rng", rng)
    cov = _validate.covariance("cov", settings.cov, lqr.m)
    found = _costed(lqr, settings, cov[None], (settings.real_ratio,), rng)
    return _judge(lqr, settings, *(part[:, 0, 0] for part in found))


def sweep(
    lqr: LQR,
    settings: MBPOSettings,
    axes: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    *,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run MBPO for every cell of a grid and every seed.

    Parameters
    ----------
    lqr : LQR
        The true world; with a lag, without it.
    settings : MBPOSettings
        What the axes do not change.
    axes : mapping of str to sequence
        Fields of `MBPOSettings` and their values. ``cov`` and ``real_ratio`` are
        batched: all of their cells are one program. Others are looped over.
    seeds : sequence of int
        Cells of one seed share their noise.
    executor : concurrent.futures.Executor, optional
        Runs the blocks, one a seed and value of the looped axes: a process pool, a Dask
        cluster's ``Client.get_executor()``, mpi4py's ``MPIPoolExecutor``. The result is
        the same bit for bit whoever runs them.
    progress : callable, optional
        Called with (blocks done, blocks in all), as they are done in their order.

    Returns
    -------
    SweepResult
        The path of a cell is that of `mbpo` with its settings and
        ``np.random.default_rng(seed)``, bit for bit.

    Raises
    ------
    ValueError
        If an axis is no setting or has no values, or a setting does not fit. ``K0``,
        ``lag``, ``updates`` and ``collections`` are no axes: they change the problem,
        or the length of a path. Where it shows in a block only, the block is named.
    RuntimeError
        If a block fails otherwise, or a worker dies. It names the first block, in
        their order, without a result, by its values of the looped axes and its seed,
        and is chained to the original error.

    Notes
    -----
    A sweep that ends by an error cancels the blocks that have not begun; those that
    run come to their end, unheard. Finished ones are dropped: there is no history of
    half a grid. Seeds do not depend on each other, so that a long sweep may be called
    for a few of them at a time, and loses no more than these. When a worker dies, a
    process pool cannot tell which of the blocks without a result it was running.
    """
    _validate.instance("lqr", lqr, LQR)
    _validate.instance("settings", settings, MBPOSettings)
    if executor is not None:
        _validate.instance("executor", executor, Executor)
    if progress is not None:
        _validate.function("progress", progress)
    allowed = set(MBPOSettings.__dataclass_fields__) - {"K0", *_FIXED}
    plan = _grid.plan(settings, axes, seeds, allowed)
    for ratio in plan.axes.get("real_ratio", ()):
        split_batch(1, ratio)
    cov = np.stack(
        [
            _validate.covariance("cov", value, lqr.m)
            for value in plan.axes.get("cov", (settings.cov,))
        ]
    )
    ratios = plan.axes.get("real_ratio", (settings.real_ratio,))
    jobs = [
        (lqr, variant, cov, ratios, seed)
        for variant in plan.variants
        for seed in plan.seeds
    ]
    results = _blocks.in_order(_block, jobs, plan.names, executor, progress)
    parts = (plan.arranged(part) for part in zip(*results, strict=True))
    return SweepResult(plan.axes, plan.seeds, _judge(lqr, settings, *parts))


_FIXED = ("lag", "updates", "collections")


def _judge(
    lqr: LQR, settings: MBPOSettings, cost: Array, K: Array, *records: NDArray[Any]
) -> MBPOHistory:
    """The history of costs, gains and records [updates, …] (see `_run`)."""
    judged = History.judge(K, cost, _optimum(lqr, settings))
    cov, real_ratio, rank, condition, effective, error = records
    needed = feature_count(lqr)
    short = (rank[-1] > 0) & (rank[-1] < needed) & (judged.status != Status.DIVERGED)
    status = np.where(short, Status.REFUSED, judged.status).astype(np.int8)
    return MBPOHistory(
        judged.K,
        judged.cost,
        status,
        judged.within,
        cov,
        real_ratio,
        rank,
        condition,
        effective,
        error,
        needed,
    )


def _world(lqr: LQR, settings: MBPOSettings) -> LQR:
    return worlds.with_lag(lqr, settings.lag) if settings.lag else lqr


def _optimum(lqr: LQR, settings: MBPOSettings) -> float:
    world = _world(lqr, settings)
    if not settings.lag:
        return float(exact.cost(lqr, exact.optimal_gain(lqr)))
    first = observed.widen(world, settings.K0)
    if not exact.is_stable(world, first):  # nothing will ever be compared with it
        return np.finfo(np.float64).max
    best = observed.best_gain(world, settings.K0)
    return float(exact.cost(world, observed.widen(world, best)))


def _block(
    job: tuple[LQR, MBPOSettings, Array, tuple[float, ...], int],
) -> tuple[NDArray[Any], ...]:
    lqr, settings, cov, ratios, seed = job
    return _costed(lqr, settings, cov, ratios, np.random.default_rng(seed))


def _costed(
    lqr: LQR,
    settings: MBPOSettings,
    cov: Array,
    ratios: tuple[float, ...],
    rng: np.random.Generator,
) -> tuple[NDArray[Any], ...]:
    """J [U+1, C, R] of all gains, found where they are; then what `_run` returns."""
    found, world = _run(lqr, settings, cov, ratios, rng), _world(lqr, settings)
    return exact.cost(world, observed.widen(world, found[0])), *found


_STEPS = {
    "hack": _updates.hack,
    "dpg": _updates.dpg,
    "pathwise": _updates.pathwise,
    "model": _updates.planned,
}


@np.errstate(over="ignore", invalid="ignore")
def _run(
    lqr: LQR,
    settings: MBPOSettings,
    cov: Array,
    ratios: Sequence[float],
    rng: np.random.Generator,
) -> tuple[NDArray[Any], ...]:
    """All cells of one seed: K and Σ [U+1, C, R, …], then what `_judge` records."""
    cells, first = _cells(lqr, settings, cov, ratios)
    K = np.broadcast_to(first, (len(cov), len(ratios), lqr.m, lqr.n))
    going = exact.is_stable(cells.world, observed.widen(cells.world, K))
    cov, pool = cells.cov, None
    gains, looks, errors = [K], [], []
    covs = [np.broadcast_to(cov, (*going.shape, lqr.m, lqr.m))]
    for _ in range(settings.collections):
        # A lost path stands still; its place is taken by a gain that costs no overflow.
        acting = np.where(going[..., None, None], K, first)
        pool = _pool.collect(cells._replace(cov=cov), pool, acting, rng)
        models = _pool.learn(cells, pool, rng)
        step = _step(settings, cells, pool, models)
        errors.append(np.broadcast_to(_pool.model_error(lqr, models), going.shape))
        for _ in range(settings.updates):
            move = step(np.where(going[..., None, None], K, first), cov, rng)
            K = moved(K, move.change, going)
            cov = np.where(going[..., None, None], move.cov, cov)
            going = going & exact.is_stable(cells.world, observed.widen(cells.world, K))
            gains.append(K)
            covs.append(cov)
            looks.append([np.broadcast_to(part, going.shape) for part in move.look])
    seen = (np.stack(part) for part in zip(*looks, strict=True))
    return np.stack(gains), np.stack(covs), *seen, np.stack(errors)


def _step(
    settings: MBPOSettings,
    cells: _pool.Cells,
    pool: _pool.Pool,
    models: LinearModel,
) -> _updates.Step:
    rate = settings.damping
    if settings.temperature is not None:
        return _updates.soft(cells, pool, models, rate, settings.temperature)
    if settings.expression in _NORMALISED:
        rate = settings.step_length
    return _STEPS[settings.expression](cells, pool, models, rate)


def _cells(
    lqr: LQR, settings: MBPOSettings, cov: Array, ratios: Sequence[float]
) -> tuple[_pool.Cells, Array]:
    first = _validate.matrix("K0", settings.K0, (lqr.m, lqr.n))
    if cov.ndim != 3:
        raise _validate.error("cov", "one covariance", f"shape {cov.shape[1:]}")
    sizes, whole = settings.sizes, settings.mixing == "bernoulli"
    real = [r if whole else split_batch(sizes.batch_size, r)[0] for r in ratios]
    world = _world(lqr, settings)
    cells = _pool.Cells(lqr, world, cov[:, None], np.array(real), whole, sizes)
    return cells, first
