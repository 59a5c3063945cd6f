"""One descent on data: on one frozen batch, or in a loop that collects more."""

from collections.abc import Callable
from functools import partial

import numpy as np

from lqrlib import _validate, exact
from lqrlib._validate import Array
from lqrlib.descent import Rule, descend
from lqrlib.estimate import GradientEstimate
from lqrlib.policy import GaussianPolicy
from lqrlib.rollout import Trajectories, concatenate, rollout
from lqrlib.rollout import checked as checked_trajectories
from lqrlib.studies.setting import Setting, checked

# Data and gains → a gradient or a direction.
OnData = Callable[[Trajectories, Array], GradientEstimate | Array]


def batch(setting: Setting, cov: float, size: int, seed: int) -> Trajectories:
    """The data set of a seed: N trajectories of N(K₀x, σ²I).

    Parameters
    ----------
    setting : Setting
    cov : float
        σ².
    size : int
        N.
    seed : int

    Returns
    -------
    Trajectories

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    setting, N = checked(setting), _validate.count("size", size)
    rng = np.random.default_rng([_validate.seed("seed", seed), N])
    policy = GaussianPolicy(setting.K0, cov)
    return rollout(setting.lqr, policy, N, setting.horizon, rng)


def frozen(
    setting: Setting,
    data: Trajectories,
    gradient: OnData,
    step: float | Rule,
    *,
    updates: int = 100,
) -> Array:
    """Exact costs along a descent from K₀ on one data set.

    Parameters
    ----------
    setting : Setting
    data : Trajectories
    gradient : callable
    step : float or callable
        As for `lqrlib.descent.descend`.
    updates : int

    Returns
    -------
    array, shape [updates + 1]
        inf from where the gain left the stable set on.

    Raises
    ------
    ValueError
        As `lqrlib.descent.descend`, or as the gradient does.
    """
    setting = checked(setting)
    data = checked_trajectories("data", data, setting.lqr)
    _validate.function("gradient", gradient)
    here = partial(gradient, data)
    return descend(setting.lqr, setting.K0, here, step, updates=updates).cost


def collecting(
    setting: Setting,
    cov: float,
    size: int,
    gradient: OnData,
    step: float | Rule,
    rng: np.random.Generator,
    *,
    collections: int = 20,
    updates: int = 100,
) -> Array:
    """The same in a loop: the current policy adds N / collections trajectories a time.

    Parameters
    ----------
    setting : Setting
    cov : float
    size : int
        N, of all collections together.
    gradient : callable
        Is given all trajectories so far, each with the policy that made it.
    step : float or callable
    rng : numpy.random.Generator
    collections, updates : int
        Updates are spread evenly over the collections.

    Returns
    -------
    array, shape [updates + 1]

    Raises
    ------
    ValueError
        As `frozen`.
    """
    setting, share = checked(setting), _share("size", size, collections)
    each = _share("updates", updates, collections)
    _validate.function("gradient", gradient)
    lqr, K = setting.lqr, setting.K0
    parts: list[Trajectories] = []
    costs = [np.atleast_1d(exact.cost(lqr, K))]
    for _ in range(collections):
        policy = GaussianPolicy(K, cov)
        parts.append(rollout(lqr, policy, share, setting.horizon, rng))
        here = partial(gradient, concatenate(parts))
        path = descend(lqr, K, here, step, updates=each)
        K = path.K[-1]
        costs.append(path.cost[1:])
        if not np.isfinite(path.cost[-1]):
            break
    found = np.concatenate(costs)
    return np.pad(found, (0, updates + 1 - len(found)), constant_values=np.inf)


def _share(name: str, number: int, collections: int) -> int:
    """Of each collection."""
    share = _validate.count(name, number) // _validate.count("collections", collections)
    if not share:
        raise _validate.error(name, f"at least {collections}, the collections", number)
    return share
