r"""Model-based policy optimisation (MBPO) in the linear-quadratic world.

Real trajectories are collected once, from N(K₀x, Σ), and a model (A, B, W) is fitted to
them once. Every update draws a batch: a share ``real_ratio`` of real trajectories, the
rest from rollouts of the current policy in the model, branched off real states. One of
three expressions makes a step of it:

- ``"hack"``: the likelihood-ratio gradient of N(Kx, Σ) with a time baseline;
  per-decision weights on real rows, weight 1 on the model's; steps of one length;
- ``"dpg"``: LSTDQ on the batch, then a damped step along Θ̂_uu⁻¹(Θ̂_uu K + Θ̂_ux);
- ``"model"``: the same step, exact on the fitted model: no batch, no real_ratio.

A grid of covariances and ratios is one program whose leading axes are the grid. All
cells of one seed share their noise: they differ by their settings only.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrlib import _updates, _validate, exact
from lqrlib._validate import Array
from lqrlib.critic import feature_count
from lqrlib.descent import moved
from lqrlib.history import History, Status
from lqrlib.problem import LQR

EXPRESSIONS = ("hack", "dpg", "model")
# Axes of a sweep that change no shape: they become leading axes of one program.
BATCHED = ("cov", "real_ratio")


@dataclass(frozen=True)
class MBPOSettings:
    """What MBPO is run with.

    Parameters
    ----------
    K0 : array, shape [m, n]
        The gain that collects the real data, and the first one to be improved.
    expression : str
        ``"hack"``, ``"dpg"`` or ``"model"``.
    cov : float or array, shape [m, m]
        Covariance Σ of the policies that make the real data and the model's rows, and
        of the weights; a number σ² means σ²I.
    real_ratio : float
        Share of real trajectories in a batch, in [0, 1]. Default: the original's.
    n_trajectories, horizon : int
        N real trajectories of T steps; a batch has as many rows.
    updates : int
        Number of updates.
    branch_length : int, optional
        Steps k of a model rollout, a divisor of T: it starts at a real state drawn
        from all of them. By default T, from the real initial states.
    step_length : float
        |ΔK| of a step of the hack.
    damping : float
        Share of the full Gauss–Newton step that ``"dpg"`` and ``"model"`` take.

    Raises
    ------
    ValueError
        If a setting is out of its range, by name.
    """

    K0: ArrayLike
    expression: str = "dpg"
    cov: ArrayLike = 1.0
    real_ratio: float = 0.05
    n_trajectories: int = 100
    horizon: int = 60
    updates: int = 60
    branch_length: int | None = None
    step_length: float = 0.05
    damping: float = 0.5

    def __post_init__(self) -> None:
        if self.expression not in EXPRESSIONS:
            raise _validate.error(
                "expression", f"one of {EXPRESSIONS}", self.expression
            )
        for name in ("n_trajectories", "horizon", "updates"):
            _validate.count(name, getattr(self, name))
        for name in ("step_length", "damping"):
            if not _validate.number(name, getattr(self, name)) > 0.0:
                raise _validate.error(name, "a number above 0", getattr(self, name))
        split_batch(self.n_trajectories, self.real_ratio)
        k = self.branch_length
        if k is not None and (_validate.count("branch_length", k), self.horizon % k)[1]:
            raise _validate.error("branch_length", f"a divisor of {self.horizon}", k)
        if self.expression == "hack" and k not in (None, self.horizon):
            wanted = f"{self.horizon} for the hack, which weighs whole trajectories"
            raise _validate.error("branch_length", wanted, k)


@dataclass(frozen=True, eq=False)
class MBPOHistory(History):
    """A `History`, and what the batches were like.

    Parameters
    ----------
    K, cost, status, within
        As in `History`.
    real_ratio : array, shape [...]
        The effective one: real trajectories of a batch over N.
    rank : array of int, shape [updates, ...]
        Rank of the critic's features at each update; 0 without a critic. A path whose
        rank is short stays where it is: the data do not determine its critic.
    """

    real_ratio: Array
    rank: NDArray[np.int64]


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


def split_batch(batch_size: int, real_ratio: float) -> tuple[int, int]:
    """How many rows of a batch are real, and how many are the model's.

    int(batch_size × real_ratio), as in the original: the share is rounded down.

    Parameters
    ----------
    batch_size : int
    real_ratio : float
        In [0, 1].

    Returns
    -------
    n_real, n_model : int

    Raises
    ------
    ValueError
        If ``batch_size`` is no whole number above 0, or ``real_ratio`` not in [0, 1].

    Examples
    --------
    >>> split_batch(256, 0.05)
    (12, 244)

    Notes
    -----
    Janner et al. (2019), `mbpo/algorithms/mbpo.py`, lines 426 and 427.
    """
    size, ratio = _validate.count("batch_size", batch_size), real_ratio
    if not 0.0 <= _validate.number("real_ratio", ratio) <= 1.0:
        raise _validate.error("real_ratio", "a number in [0, 1]", ratio)
    n_real = int(size * ratio)
    return n_real, size - n_real


def mbpo(lqr: LQR, settings: MBPOSettings, rng: np.random.Generator) -> MBPOHistory:
    """Run MBPO once: `sweep` with a grid of one.

    Parameters
    ----------
    lqr : LQR
        The true world.
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
    _validate.generator("rng", rng)
    cov = _validate.covariance("cov", settings.cov, lqr.m)
    K, rank = _run(lqr, settings, cov[None], (settings.real_ratio,), rng)
    ratio = np.array(_effective(settings, settings.real_ratio))
    return _judge(lqr, K[:, 0, 0], rank[:, 0, 0], ratio)


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
        The true world.
    settings : MBPOSettings
        What the axes do not change.
    axes : mapping of str to sequence
        Fields of `MBPOSettings` and their values. ``cov`` (numbers) and ``real_ratio``
        are batched: all of their cells are one program. Others are looped over.
    seeds : sequence of int
        Cells of one seed share their noise.
    executor : concurrent.futures.Executor, optional
        Runs the blocks, one a seed and value of the looped axes. The result is the same
        bit for bit whoever runs them.
    progress : callable, optional
        Called with (blocks done, blocks in all).

    Returns
    -------
    SweepResult
        The path of a cell is that of `mbpo` with its settings and
        ``np.random.default_rng(seed)``, bit for bit.

    Raises
    ------
    ValueError
        If an axis is no setting or has no values, or a setting does not fit.
    """
    grid = {name: _listed(f"axes[{name!r}]", axes[name]) for name in axes}
    seeds = _listed("seeds", seeds)
    _check_grid(grid, seeds)
    looped = [name for name in grid if name not in BATCHED]
    variants = [
        replace(settings, **dict(zip(looped, values, strict=True)))
        for values in itertools.product(*(grid[name] for name in looped))
    ]
    cov = np.stack(
        [
            _validate.covariance("cov", v, lqr.m)
            for v in grid.get("cov", (settings.cov,))
        ]
    )
    ratios = grid.get("real_ratio", (settings.real_ratio,))
    jobs = [(lqr, v, cov, ratios, seed) for v in variants for seed in seeds]
    results = []
    for found in (executor.map if executor else map)(_block, jobs):
        results.append(found)
        if progress is not None:
            progress(len(results), len(jobs))
    sizes = [len(grid[name]) for name in looped]
    K, rank, ratio = (
        _arranged(np.stack(part).reshape(*sizes, len(seeds), *part[0].shape), grid)
        for part in zip(*results, strict=True)
    )
    return SweepResult(grid, tuple(seeds), _judge(lqr, K, rank, ratio[0]))


def _check_grid(grid: Mapping[str, tuple[Any, ...]], seeds: Sequence[int]) -> None:
    fields = set(MBPOSettings.__dataclass_fields__) - {"updates", "K0"}
    for name, values in grid.items():
        if name not in fields:
            raise _validate.error("axes", f"names among {sorted(fields)}", name)
        if not values:
            raise _validate.error(f"axes[{name!r}]", "at least one value", "none")
    for ratio in grid.get("real_ratio", ()):
        split_batch(1, ratio)
    if not len(seeds):
        raise _validate.error("seeds", "at least one", "none")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise _validate.error("seeds", "whole numbers from 0 on", seed)


def _listed(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError as single:
        raise _validate.error(name, "a sequence", values) from single


def _arranged(results: Array, grid: Mapping[str, tuple[Any, ...]]) -> Array:
    """Axes [looped…, seed, update, cov, ratio, …] as [update, grid…, seed, …]."""
    names = [*(name for name in grid if name not in BATCHED), "seed", "update"]
    for name in BATCHED:
        if name in grid:
            names.append(name)
        else:
            results = np.take(results, 0, axis=len(names))
    order = [names.index(name) for name in ("update", *grid, "seed")]
    return results.transpose(*order, *range(len(names), results.ndim))


def _judge(lqr: LQR, K: Array, rank: NDArray[Any], ratio: Array) -> MBPOHistory:
    optimum = float(exact.cost(lqr, exact.optimal_gain(lqr)))
    judged = History.judge(K, exact.cost(lqr, K), optimum)
    short = ((rank > 0) & (rank < feature_count(lqr))).any(axis=0)
    short &= judged.status != Status.DIVERGED
    status = np.where(short, Status.REFUSED, judged.status).astype(np.int8)
    return MBPOHistory(judged.K, judged.cost, status, judged.within, ratio, rank)


def _block(
    job: tuple[LQR, MBPOSettings, Array, tuple[float, ...], int],
) -> tuple[Array, NDArray[np.int64], Array]:
    """One seed: gains [U+1, C, R, m, n], ranks [U, C, R], effective ratios."""
    lqr, settings, cov, ratios, seed = job
    K, rank = _run(lqr, settings, cov, ratios, np.random.default_rng(seed))
    effective = [_effective(settings, ratio) for ratio in ratios]
    return K, rank, np.broadcast_to(effective, (1, *rank.shape[1:]))


def _effective(settings: MBPOSettings, real_ratio: float) -> float:
    n_real, n_model = split_batch(settings.n_trajectories, real_ratio)
    return n_real / (n_real + n_model)


@np.errstate(over="ignore", invalid="ignore")
def _run(
    lqr: LQR,
    settings: MBPOSettings,
    cov: Array,
    ratios: Sequence[float],
    rng: np.random.Generator,
) -> tuple[Array, NDArray[np.int64]]:
    """All cells of one seed at once: gains [U+1, C, R, m, n] and ranks [U, C, R]."""
    first = _validate.matrix("K0", settings.K0, (lqr.m, lqr.n))
    if cov.ndim != 3:
        raise _validate.error("cov", "one covariance", f"shape {cov.shape[1:]}")
    N, T = settings.n_trajectories, settings.horizon
    n_real = np.array([split_batch(N, ratio)[0] for ratio in ratios])
    k = settings.branch_length or T
    run = _updates.collect(lqr, first, cov, n_real, N, T, k, rng)
    step = _step(run, settings)
    K = np.broadcast_to(first, (len(cov), len(ratios), lqr.m, lqr.n))
    going = exact.is_stable(lqr, K)
    gains, ranks = [K], []
    for _ in range(settings.updates):
        # A lost path stands still; its place is taken by a gain that costs no overflow.
        change, rank = step(np.where(going[..., None, None], K, first), rng)
        K = moved(K, change, going)
        going = going & exact.is_stable(lqr, K)
        gains.append(K)
        ranks.append(np.broadcast_to(rank, going.shape))
    return np.stack(gains), np.stack(ranks)


def _step(run: _updates.Run, settings: MBPOSettings) -> _updates.Step:
    if settings.expression == "hack":
        return _updates.hack(run, settings.step_length)
    kind = {"dpg": _updates.dpg, "model": _updates.planned}[settings.expression]
    return kind(run, settings.damping)
