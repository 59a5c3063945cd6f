"""The hack on fixed data, Gaussian or deterministic: the data, and descents on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, importance
from lqrlib._validate import Array
from lqrlib._weighted import (
    Account,
    Payments,
    discounts,
    normalised,
    overflow_is_data,
    weighted_mean,
)
from lqrlib.descent import descend, of_length
from lqrlib.estimate import GradientEstimate
from lqrlib.policy import GaussianPolicy, LinearPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, rollout
from lqrlib.studies.setting import Setting
from lqrlib.weights import (
    add_up,
    effective_sample_size,
    few_steps,
    log_weights,
    of_steps,
)

DATA = {
    "Gaussian": "Gaussian, one policy",
    "deterministic": "deterministic, a gain for each trajectory",
}
COVS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
COUNTS = (30, 100, 300, 1000)
_BLOCK = 8000  # trajectories in one computation, whose steps then stay in cache


@dataclass(frozen=True)
class HackSettings:
    """What the descents of a study have in common.

    Parameters
    ----------
    horizon : int
        T, steps of each trajectory.
    updates : int
        Steps of each descent.
    length : float
        Of each step: only the direction of a gradient counts.
    spread : float
        Of the gains that make deterministic data: its square is the variance of each
        entry around K₀.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    horizon: int = 60
    updates: int = 60
    length: float = 0.05
    spread: float = 0.3

    def __post_init__(self) -> None:
        _validate.count("horizon", self.horizon)
        _validate.count("updates", self.updates)
        _validate.above_zero("length", self.length)
        _validate.above_zero("spread", self.spread)


class HackPath(NamedTuple):
    """Where the hack goes on one data set, or on several, one a leading axis.

    Parameters
    ----------
    K : array, shape [updates + 1, ..., m, n]
        A path that leaves the stable set stays where it left.
    cost : array, shape [updates + 1, ...]
        Exact cost of each gain; inf where it is unstable.
    effective_sample_size : array, shape [updates + 1, ...]
        Of the weights of whole trajectories, at each gain.
    """

    K: Array
    cost: Array
    effective_sample_size: Array


SETTINGS = HackSettings()


class Block(NamedTuple):
    """Runs of one kind and size, each with a covariance and a seed of its own.

    Parameters
    ----------
    data : str
        One of `DATA`.
    size : int
        N.
    runs : sequence of tuple
        σ² and seed of each.
    """

    data: str
    size: int
    runs: Sequence[tuple[float, int]]


def hack_path(
    lqr: LQR,
    K0: ArrayLike,
    *,
    cov: float,
    n_trajectories: float,
    data: str,
    seed: int = 0,
    settings: HackSettings = SETTINGS,
) -> HackPath:
    """Descend with the hack from K₀ on one fixed data set.

    Gaussian data are N trajectories of N(K₀x, σ²I), with a weight for each cost and a
    time baseline. Deterministic data are N trajectories of u = K_i x, each with its own
    stable gain, K₀ plus normals; the hack lends each of them the density N(K_i x, σ²I),
    and the weights are self-normalised, again with a time baseline.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
        A stable gain.
    cov : float
        σ², above 0.
    n_trajectories : float
        N, rounded.
    data : str
        "Gaussian" or "deterministic".
    seed : int
        Of the data. With the same seed and N, starts and noise are the same for every
        covariance.
    settings : HackSettings

    Returns
    -------
    HackPath

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, K0 is not one stable gain, or
        there is no such data.
    """
    _validate.instance("lqr", lqr, LQR)
    data = _validate.choice("data", data, DATA)
    seed = _validate.seed("seed", seed)
    _validate.instance("settings", settings, HackSettings)
    count = round(_validate.above_zero("n_trajectories", n_trajectories))
    run = _validate.above_zero("cov", cov), seed
    block = Block(data, _validate.count("n_trajectories", count), [run])
    path = descents(lqr, stable_gain(lqr, K0), settings, block)
    return HackPath(*(part[:, 0] for part in path))


def hack_paths(setting: Setting, data: str, cov: float, size: int, seed: int) -> Array:
    """`hack_path` from the setting's gain, with `SETTINGS`, as one array.

    Parameters
    ----------
    setting : Setting
    data : str
        One of `DATA`.
    cov : float
        σ².
    size : int
        N.
    seed : int

    Returns
    -------
    array, shape [updates + 1, m n + 2]
        Entries of each gain, its cost and its effective sample size.

    Raises
    ------
    ValueError
        If an argument has a wrong type or entry, or there is no such data.
    """
    path = hack_path(
        setting.lqr, setting.K0, cov=cov, n_trajectories=size, data=data, seed=seed
    )
    gains = path.K.reshape(len(path.K), -1)
    return np.column_stack([gains, path.cost, path.effective_sample_size])


def stable_gain(lqr: LQR, K0: ArrayLike) -> Array:
    """A checked gain.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]

    Returns
    -------
    array, shape [m, n]

    Raises
    ------
    ValueError
        If it is not one stable gain.
    """
    K = _validate.stack("K0", K0, (lqr.m, lqr.n))
    if K.ndim > 2 or not exact.is_stable(lqr, K):
        raise _validate.error("K0", "one stable gain", K0)
    return K


def blocks_of(data: str, size: int, runs: list[tuple[float, int]]) -> Iterator[Block]:
    """Runs in blocks that do not depend on who computes.

    Parameters
    ----------
    data : str
    size : int
    runs : list of tuple

    Returns
    -------
    iterator of Block
    """
    count = max(1, _BLOCK // size)
    return (Block(data, size, runs[i : i + count]) for i in range(0, len(runs), count))


def descents(lqr: LQR, K0: Array, settings: HackSettings, block: Block) -> HackPath:
    """The descents of all runs of a block at once.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
    settings : HackSettings
    block : Block

    Returns
    -------
    HackPath
        Of arrays [updates + 1, runs, ...].

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry.
    """
    covs = np.array([cov for cov, _ in block.runs])[:, None, None] * np.eye(lqr.m)
    data, sizes = _data(lqr, K0, settings, block, covs), list[Array]()
    estimate = _per_decision if block.data == "Gaussian" else _self_normalised

    def gradient(K: Array) -> GradientEstimate:
        found = estimate(lqr, data, GaussianPolicy(K, covs))
        sizes.append(found.effective_sample_size)
        return found

    first = np.broadcast_to(K0, (len(block.runs), *K0.shape))
    step = of_length(settings.length)
    path = descend(lqr, first, gradient, step, updates=settings.updates)
    last = log_weights(data, GaussianPolicy(path.K[-1], covs))[..., -1]
    # No gradient is asked for once all have left: nothing moves any more.
    sizes += (len(path.K) - len(sizes)) * [effective_sample_size(last)]
    return HackPath(path.K, path.cost, np.stack(sizes))


def _data(
    lqr: LQR, K0: Array, settings: HackSettings, block: Block, covs: Array
) -> Trajectories:
    """A data set for each run, [runs, N, ...], in memory ordered [T, n, runs, N]."""
    make = _gaussian if block.data == "Gaussian" else _deterministic
    sets = []
    for cov, seed in block.runs:
        rng = np.random.default_rng([seed, block.size])
        sets.append(make(lqr, K0, settings, cov, block.size, rng))

    def joined(name: str) -> Array:
        rows = [np.moveaxis(getattr(each, name), 0, -1) for each in sets]
        return np.moveaxis(np.stack(rows, axis=-2), (-2, -1), (0, 1))

    gains = [np.asarray(each.policy.K) for each in sets]
    K = K0 if gains[0].ndim == 2 else np.stack(gains)
    x, u, cost, diverged = map(joined, ("x", "u", "cost", "diverged"))
    policy = GaussianPolicy(K, covs[:, None])
    return Trajectories(x, u, cost, diverged.astype(bool), policy)


def _gaussian(
    lqr: LQR,
    K0: Array,
    settings: HackSettings,
    cov: float,
    size: int,
    rng: np.random.Generator,
) -> Trajectories:
    policy = GaussianPolicy(K0, cov)
    return rollout(lqr, policy, size, settings.horizon, rng)


def _deterministic(
    lqr: LQR,
    K0: Array,
    settings: HackSettings,
    cov: float,
    size: int,
    rng: np.random.Generator,
) -> Trajectories:
    """Each trajectory by a gain of its own; the density that they are lent."""
    K = np.empty((size, *K0.shape))
    wanted = np.ones(size, dtype=bool)
    while wanted.any():
        normals = rng.standard_normal((wanted.sum(), *K0.shape))
        K[wanted] = K0 + settings.spread * normals
        wanted = ~exact.is_stable(lqr, K)
    made = rollout(lqr, LinearPolicy(K), 1, settings.horizon, rng)
    lent = GaussianPolicy(K, cov)
    first = made.x[:, 0], made.u[:, 0], made.cost[:, 0], made.diverged[:, 0]
    return Trajectories(*first, lent)


def _per_decision(
    lqr: LQR, data: Trajectories, policy: GaussianPolicy
) -> GradientEstimate:
    return importance.per_decision_is(
        lqr, data, policy.K, cov=policy.cov, time_baseline=True
    )


@overflow_is_data
def _self_normalised(
    lqr: LQR, data: Trajectories, policy: GaussianPolicy
) -> GradientEstimate:
    """`importance.self_normalised_is` with a time baseline, without its error.

    The density that is lent to u = K_i x is the same at every step: as a ratio it
    would cost as much as it changes, a constant.
    """
    account, cost = Account(data, policy), data.cost.mT
    discount: Array = discounts(lqr, data)[:, None]
    before: Array = np.zeros(1)
    minus = -0.5 * np.linalg.inv(policy.cov)
    for at in few_steps(data, policy):
        x, u = of_steps(data, at)
        error = u - policy.K[..., None, :, :] @ x
        whitened = np.einsum("...lm,...tmi->...tli", minus, error)
        log_w = add_up(np.einsum("...tli,...tli->...ti", whitened, error), before)
        before = log_w[..., -1, :]
        paid = Payments(discount[at] * cost[..., at, :], log_w, x, error)
        account.add(paid)
        w = normalised(log_w)
        account.pay(w * (paid.cost - weighted_mean(paid.cost, w)))
    return account.estimate(before)
