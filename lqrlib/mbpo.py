r"""Model-based policy optimisation (MBPO) in the linear-quadratic world.

After every collection of real trajectories a model, or an ensemble, is fitted to all of
them. Every update draws a batch: a share ``real_ratio`` of real trajectories, the rest
from rollouts of the current policy in the model, branched off real states. One of four
expressions makes a step of it:

- ``"hack"``: the likelihood-ratio gradient of N(Kx, Σ) with a time baseline;
  per-decision weights on real rows, weight 1 on the model's; steps of one length;
- ``"dpg"``: LSTDQ on the batch, then a damped step along Θ̂_uu⁻¹(Θ̂_uu K + Θ̂_ux);
- ``"pathwise"``: LSTDQ on the batch, then the slope of Q̂ at fresh actions in the
  batch's states, as in soft actor-critic; steps of one length;
- ``"model"``: a damped step that is exact on the fitted model: no batch, no real_ratio.

A grid of covariances and ratios is one program whose leading axes are the grid. All
cells of one seed share their noise: they differ by their settings only.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrlib import _grid, _pool, _updates, _validate, exact, observed, worlds
from lqrlib._validate import Array
from lqrlib.critic import feature_count
from lqrlib.descent import moved
from lqrlib.history import History, Status
from lqrlib.problem import LQR

EXPRESSIONS = ("hack", "dpg", "pathwise", "model")
MIXINGS = ("stratified", "bernoulli")
_NORMALISED = ("hack", "pathwise")  # steps of one length; the others are damped


@dataclass(frozen=True)
class MBPOSettings:
    """What MBPO is run with.

    Defaults marked *original* are those of the code of Janner et al. (2019). The others
    are this book's, chosen for the puzzle of its first page.

    Parameters
    ----------
    K0 : array, shape [m, n]
        The gain that collects the first real data, and the first one to be improved.
    expression : str
        ``"hack"``, ``"dpg"``, ``"pathwise"`` or ``"model"``. Default: the book's
        recommendation.
    cov : float or array, shape [m, m]
        Covariance Σ of the policies that make the real data and the model's rows, and
        of the weights; a number σ² means σ²I. Default: 1, the puzzle's.
    real_ratio : float
        Share of real trajectories in a batch, in [0, 1]. Default: .05, original
        (`examples/config/*/0.py`).
    n_trajectories, horizon : int
        N real trajectories of T steps in each collection. Default: 100 of 60, enough
        for planning with the model (`book/index.md`).
    updates : int
        Number of updates after each collection. Default: 60; steps of the default
        length reach K* in 46.
    collections : int
        How often the current policy collects. Default: once, the notes' sanity check;
        the original collects throughout.
    batch_size : int, optional
        Trajectories in a batch. Default: N, so that with one collection and real rows
        only every batch is the data set. (The original: 256 transitions.)
    branch_length : int, optional
        Steps k of a model rollout, a divisor of T: it starts at a real state drawn
        from all of them. Default: T, from the real initial states, since the hack
        weighs whole trajectories. (The original: 1, rising to 15 or 25 in some tasks.)
    members : int
        Models in the ensemble, of which one is drawn for every sample and step. With 1,
        the default, it is one least-squares fit of all rows. (The original: 7.)
    elites : int, optional
        How many of the members are used, by their error on held-out rows. Default: all
        of them. (The original: 5.)
    mixing : str
        ``"stratified"``: int(B · real_ratio) trajectories of every batch are real;
        default, original. ``"bernoulli"``: all of a batch is, with that probability, as
        in mbrl-lib.
    lag : float
        Of the true actuator, in [0, 1), which nobody knows of (`worlds.with_lag`).
        Default: 0, so that the model can be right.
    step_length : float
        |ΔK| of a step of the hack and of pathwise. Default: .05, one forty-sixth of the
        way to K* in the puzzle.
    damping : float
        Share of the full Gauss–Newton step that ``"dpg"`` and ``"model"`` take.
        Default: .5, which halves what an error of the critic does.

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
    collections: int = 1
    batch_size: int | None = None
    branch_length: int | None = None
    members: int = 1
    elites: int | None = None
    mixing: str = "stratified"
    lag: float = 0.0
    step_length: float = 0.05
    damping: float = 0.5

    def __post_init__(self) -> None:
        for name, known in (("expression", EXPRESSIONS), ("mixing", MIXINGS)):
            if getattr(self, name) not in known:
                raise _validate.error(name, f"one of {known}", getattr(self, name))
        for name in ("n_trajectories", "horizon", "updates", "collections", "members"):
            _validate.count(name, getattr(self, name))
        for name in ("step_length", "damping"):
            if not _validate.number(name, getattr(self, name)) > 0.0:
                raise _validate.error(name, "a number above 0", getattr(self, name))
        if not 0.0 <= _validate.number("lag", self.lag) < 1.0:
            raise _validate.error("lag", "a number in [0, 1)", self.lag)
        if self.batch_size is not None:
            _validate.count("batch_size", self.batch_size)
        split_batch(self.sizes.batch_size, self.real_ratio)
        self._check_branches()
        wanted = f"at most {self.members}, the members"
        if self.elites is not None and (
            _validate.count("elites", self.elites) > self.members
        ):
            raise _validate.error("elites", wanted, self.elites)

    def _check_branches(self) -> None:
        k = self.branch_length
        if k is not None and (_validate.count("branch_length", k), self.horizon % k)[1]:
            raise _validate.error("branch_length", f"a divisor of {self.horizon}", k)
        if self.expression == "hack" and k not in (None, self.horizon):
            wanted = f"{self.horizon} for the hack, which weighs whole trajectories"
            raise _validate.error("branch_length", wanted, k)

    @property
    def sizes(self) -> _pool.Sizes:
        """The sizes, with defaults filled in."""
        return _pool.Sizes(
            self.n_trajectories,
            self.horizon,
            self.batch_size or self.n_trajectories,
            self.branch_length or self.horizon,
            self.members,
            self.elites or self.members,
        )


@dataclass(frozen=True, eq=False)
class MBPOHistory(History):
    """A `History`, and what models and batches were like.

    U is the number of all updates, of all collections together.

    Parameters
    ----------
    K, cost, status, within
        As in `History`, over U + 1 gains. The optimum is that of the gains that see
        what the policy sees (`observed.best_gain`): K* unless there is a lag.
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
    _validate.generator("rng", rng)
    cov = _validate.covariance("cov", settings.cov, lqr.m)
    found = _run(lqr, settings, cov[None], (settings.real_ratio,), rng)
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
        If an axis is no setting or has no values, or a setting does not fit. ``K0``,
        ``lag``, ``updates`` and ``collections`` are no axes: they change the problem,
        or the length of a path.
    """
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
    results = []
    for found in (executor.map if executor else map)(_block, jobs):
        results.append(found)
        if progress is not None:
            progress(len(results), len(jobs))
    parts = (plan.arranged(part) for part in zip(*results, strict=True))
    return SweepResult(plan.axes, plan.seeds, _judge(lqr, settings, *parts))


_FIXED = ("lag", "updates", "collections")


def _judge(
    lqr: LQR, settings: MBPOSettings, K: Array, *records: NDArray[Any]
) -> MBPOHistory:
    """The history of gains and records [updates, …] (see `_run`)."""
    world = worlds.with_lag(lqr, settings.lag) if settings.lag else lqr
    judged = History.judge(
        K, exact.cost(world, observed.widen(world, K)), _optimum(lqr, world, settings)
    )
    real_ratio, rank, condition, effective, error = records
    needed = feature_count(lqr)
    short = (rank[-1] > 0) & (rank[-1] < needed) & (judged.status != Status.DIVERGED)
    status = np.where(short, Status.REFUSED, judged.status).astype(np.int8)
    return MBPOHistory(
        judged.K,
        judged.cost,
        status,
        judged.within,
        real_ratio,
        rank,
        condition,
        effective,
        error,
        needed,
    )


def _optimum(lqr: LQR, world: LQR, settings: MBPOSettings) -> float:
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
    return _run(lqr, settings, cov, ratios, np.random.default_rng(seed))


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
    """All cells of one seed: gains [U+1, C, R, m, n], then what `_judge` records."""
    cells, first = _cells(lqr, settings, cov, ratios)
    K = np.broadcast_to(first, (len(cov), len(ratios), lqr.m, lqr.n))
    going = exact.is_stable(cells.world, observed.widen(cells.world, K))
    rate = settings.step_length
    if settings.expression not in _NORMALISED:
        rate = settings.damping
    pool, gains, looks, errors = None, [K], [], []
    for _ in range(settings.collections):
        # A lost path stands still; its place is taken by a gain that costs no overflow.
        acting = np.where(going[..., None, None], K, first)
        pool = _pool.collect(cells, pool, acting, rng)
        models = _pool.learn(cells, pool, rng)
        step = _STEPS[settings.expression](cells, pool, models, rate)
        errors.append(np.broadcast_to(_pool.model_error(lqr, models), going.shape))
        for _ in range(settings.updates):
            change, look = step(np.where(going[..., None, None], K, first), rng)
            K = moved(K, change, going)
            going = going & exact.is_stable(cells.world, observed.widen(cells.world, K))
            gains.append(K)
            looks.append([np.broadcast_to(part, going.shape) for part in look])
    seen = (np.stack(part) for part in zip(*looks, strict=True))
    return np.stack(gains), *seen, np.stack(errors)


def _cells(
    lqr: LQR, settings: MBPOSettings, cov: Array, ratios: Sequence[float]
) -> tuple[_pool.Cells, Array]:
    first = _validate.matrix("K0", settings.K0, (lqr.m, lqr.n))
    if cov.ndim != 3:
        raise _validate.error("cov", "one covariance", f"shape {cov.shape[1:]}")
    sizes, whole = settings.sizes, settings.mixing == "bernoulli"
    real = [r if whole else split_batch(sizes.batch_size, r)[0] for r in ratios]
    world = worlds.with_lag(lqr, settings.lag) if settings.lag else lqr
    cells = _pool.Cells(lqr, world, cov[:, None], np.array(real), whole, sizes)
    return cells, first
