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

from lqrlib import _steps, _validate, critic, exact, lyapunov
from lqrlib._validate import Array
from lqrlib.critic import Moments
from lqrlib.descent import moved, of_length
from lqrlib.gradients import Weighted, mean_cost, score_terms
from lqrlib.history import History, Status
from lqrlib.model import LinearModel, fit
from lqrlib.policy import LinearPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import blocks_of, draw_noise, packed, stage_matrix, transitions
from lqrlib.weights import log_density, running_sum

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


class _Batch(NamedTuple):
    """What one update draws, for all cells alike."""

    real: Array  # [R, N], 1 for the real trajectories of each ratio
    model: Array  # [R, N T / k], 1 for its model rollouts
    starts: Array  # [C, 1, N T / k, n]
    noise: Array  # [N T / k, k, m+n]


class _Run(NamedTuple):
    """What all updates of one seed share: C covariances (and R ratios) at once."""

    lqr: LQR
    settings: MBPOSettings
    cov: Array  # [C, 1, m, m]
    n_real: NDArray[np.int64]  # [R]
    z: Array  # [C, 1, T+1, n+m, N], the real data
    cost: Array  # [C, 1, T, N]
    model: LinearModel  # leading axes [C, 1]


# From gains [C, R, m, n] to changes, and ranks of the critic that broadcast to [C, R].
_Step = Callable[[Array, np.random.Generator], tuple[Array, NDArray[np.int64]]]


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
    grid = {name: tuple(values) for name, values in axes.items()}
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
    short = ((rank > 0) & (rank < critic.feature_count(lqr))).any(axis=0)
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
    run = _collected(lqr, settings, cov, ratios, rng)
    step = _STEPS[settings.expression](run)
    first = lqr.gain(settings.K0)
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


def _collected(
    lqr: LQR,
    settings: MBPOSettings,
    cov: Array,
    ratios: Sequence[float],
    rng: np.random.Generator,
) -> _Run:
    """Real data of every covariance from the same normals, and the models fitted."""
    N, T = settings.n_trajectories, settings.horizon
    starts = rng.standard_normal((N, lqr.n)) @ _steps.root(lqr.X0).T
    noise = draw_noise(N, T, lqr.m + lqr.n, rng)
    cov, K = cov[:, None], lqr.gain(settings.K0)
    world = LinearModel(lqr.A, lqr.B, lqr.W, np.array(1.0))
    z, cost = _rolled(lqr, world, K, cov, starts, noise)
    real = packed(z, cost, lqr.n, LinearPolicy(K))
    n_real = np.array([split_batch(N, ratio)[0] for ratio in ratios])
    return _Run(lqr, settings, cov, n_real, z, cost, fit(transitions(real)))


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
    return _steps.simulate(step, stage, starts, blocks, noise.shape[-2])


def _drawn(run: _Run, rng: np.random.Generator) -> _Batch:
    """Which real trajectories, and where and how the model's rollouts go."""
    settings, n = run.settings, run.lqr.n
    N, T = settings.n_trajectories, settings.horizon
    k = settings.branch_length or T
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


def _branched(run: _Run, K: Array, batch: _Batch) -> tuple[Array, Array] | None:
    """Rollouts of the current policy in the model, branched off real states.

    None where no cell has a row for the model: it is not run then, as in the original.
    """
    if not batch.model.any():
        return None
    return _rolled(run.lqr, run.model, K, run.cov, batch.starts, batch.noise)


def _hack(run: _Run) -> _Step:
    lqr, cov, n = run.lqr, run.cov, run.lqr.n
    _validate.covariance("cov", cov, lqr.m, strict=True)
    discounts = lqr.gamma ** np.arange(run.settings.horizon)[:, None]
    x, u = run.z[..., :-1, :n, :], run.z[..., :-1, n:, :]
    collected = log_density(lqr.gain(run.settings.K0)[..., None], cov[..., None], x, u)
    rule = of_length(run.settings.step_length)

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
        return rule(np.stack(found)), np.array(0)

    return step


def _dpg(run: _Run) -> _Step:
    lqr, n = run.lqr, run.lqr.n
    z = np.moveaxis(run.z, -1, -3)  # [C, 1, N, T+1, n+m]
    cost, every = np.moveaxis(run.cost, -1, -2), np.ones(run.settings.horizon)
    real = critic.moments(z[..., :-1, :].mT, cost, z[..., 1:, :n].mT, every)

    def step(K: Array, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        batch = _drawn(run, rng)
        sums, fresh = _chosen(real, batch.real), _branched(run, K, batch)
        if fresh is not None:
            model = _model_moments(*fresh, batch.model, n)
            sums = Moments(*map(np.add, sums, model))
        found = critic.solve(lqr, sums, K)
        change = run.settings.damping * found.gauss_newton(K)
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


def _model(run: _Run) -> _Step:
    lqr, (A, B, *_) = run.lqr, run.model

    def step(K: Array, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:  # noqa: ARG001
        P = lyapunov.adjoint(np.sqrt(lqr.gamma) * (A + B @ K), lqr.Q + K.mT @ lqr.R @ K)
        curvature = lqr.R + lqr.gamma * B.mT @ P @ B
        E = curvature @ K + lqr.gamma * B.mT @ P @ A
        return run.settings.damping * np.linalg.solve(curvature, E), np.array(0)

    return step


_STEPS: Mapping[str, Callable[[_Run], _Step]] = {
    "hack": _hack,
    "dpg": _dpg,
    "model": _model,
}
