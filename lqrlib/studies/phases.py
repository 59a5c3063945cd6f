"""Where MBPO ends over the plane of covariance and real_ratio, in four loops."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.mbpo import EXPRESSIONS, MBPOSettings, sweep
from lqrlib.studies.setting import Setting, checked

_SMALL = (0.001, 0.0026, 0.0068, 0.018, 0.046, 0.12, 0.32)
COVARIANCES = (*_SMALL, 0.83, 2.2, 5.6, 15.0, 38.0, 100.0)
RATIOS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
_POINTS = 16  # of a learning curve


class Loop(NamedTuple):
    """How real data are collected, and by which actuator.

    Parameters
    ----------
    name : str
        In a few words.
    collections, updates : int
        Updates after each collection.
    lag : float
    cov, real_ratio : tuple of float
        The grid.
    """

    name: str
    collections: int
    updates: int
    lag: float
    cov: tuple[float, ...]
    real_ratio: tuple[float, ...]


LOOPS = {
    "fixed": Loop("collected once", 1, 60, 0.0, COVARIANCES, RATIOS),
    "collecting": Loop("collects 20 times", 20, 6, 0.0, COVARIANCES, RATIOS),
    "mild": Loop("mild lag (.5)", 20, 6, 0.5, COVARIANCES[::2], RATIOS[::2]),
    "strong": Loop("strong lag (.8)", 20, 6, 0.8, COVARIANCES[::2], RATIOS[::2]),
}


def loop_settings(setting: Setting, loop: str, expression: str) -> MBPOSettings:
    """What a loop is run with: 100 real trajectories in all, batches of 100.

    Model rollouts have 5 steps in a loop that collects, as in MBPO, and all T in the
    sanity check; for the hack they always have, since it weighs whole trajectories.

    Parameters
    ----------
    setting : Setting
    loop : str
        One of `LOOPS`.
    expression : str

    Returns
    -------
    MBPOSettings

    Raises
    ------
    ValueError
        If there is no such loop or expression.
    """
    setting, loop = checked(setting), _validate.choice("loop", loop, LOOPS)
    expression = _validate.choice("expression", expression, EXPRESSIONS)
    how, T = LOOPS[loop], setting.horizon
    branched = how.collections > 1 and expression != "hack"
    return MBPOSettings(
        setting.K0,
        expression,
        n_trajectories=100 // how.collections,
        horizon=T,
        updates=how.updates,
        collections=how.collections,
        batch_size=100,
        branch_length=5 if branched else T,
        lag=how.lag,
    )


def plane(
    setting: Setting, loop: str, expression: str, seed: int
) -> NDArray[np.float32]:
    """Exact costs along the paths of all cells of one loop's grid.

    Parameters
    ----------
    setting : Setting
    loop : str
        One of `LOOPS`.
    expression : str
    seed : int

    Returns
    -------
    array of float32, shape [16, covariances, ratios]
        At equal distances from the first gain to the last; inf where a path has left
        the stable set.

    Raises
    ------
    ValueError
        If there is no such loop or expression.
    """
    settings, how = loop_settings(setting, loop, expression), LOOPS[loop]
    axes = {"cov": how.cov, "real_ratio": how.real_ratio}
    found = sweep(setting.lqr, settings, axes, [_validate.seed("seed", seed)])
    return found.history.cost[points(settings)][..., 0].astype(np.float32)


def variant(
    setting: Setting,
    expression: str,
    lag: float,
    branch_length: int,
    members: int,
    seed: int,
) -> Array:
    """Where the loop that collects ends with other rollouts, or more models.

    Covariance 1; five sevenths of the members are elites, as in the original's 5 of 7.

    Parameters
    ----------
    setting : Setting
    expression : str
        ``"dpg"`` or ``"pathwise"``, whose rollouts may have any length.
    lag : float
    branch_length, members : int
    seed : int

    Returns
    -------
    array, shape [3]
        Exact cost of the last gain with 0, 5 and 50 per cent real rows.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    members = _validate.count("members", members)
    settings = replace(
        loop_settings(setting, "collecting", expression),
        lag=lag,
        branch_length=branch_length,
        members=members,
        elites=max(1, 5 * members // 7),
    )
    axes, seeds = {"real_ratio": (0.0, 0.05, 0.5)}, [_validate.seed("seed", seed)]
    found = sweep(setting.lqr, settings, axes, seeds)
    return found.history.cost[-1, :, 0]


def points(settings: MBPOSettings) -> NDArray[np.int64]:
    """Numbers of updates at which `plane` keeps the cost.

    Parameters
    ----------
    settings : MBPOSettings

    Returns
    -------
    array of int, shape [16]

    Raises
    ------
    ValueError
        If ``settings`` are none.
    """
    _validate.instance("settings", settings, MBPOSettings)
    return np.linspace(0, settings.updates * settings.collections, _POINTS).astype(int)
