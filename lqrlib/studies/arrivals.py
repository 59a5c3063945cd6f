"""Where the deterministic gradient arrives, beside the hack and the fitted model."""

from collections.abc import Callable

import numpy as np

from lqrlib import _validate, critic, exact, model
from lqrlib._validate import Array
from lqrlib.descent import descend
from lqrlib.rollout import Trajectories, transitions
from lqrlib.rollout import checked as checked_trajectories
from lqrlib.studies.hack import MODES, law
from lqrlib.studies.runs import batch, collecting
from lqrlib.studies.setting import Setting, checked

EXPRESSIONS = ("hack", "dpg", "model")
_DAMPING, _UPDATES = 0.5, 40


def policy_iteration(setting: Setting, data: Trajectories) -> Callable[[Array], Array]:
    """Θ̂_uu⁻¹ (Θ̂_uu K + Θ̂_ux) with LSTDQ on the data, as a function of the gain.

    Parameters
    ----------
    setting : Setting
    data : Trajectories

    Returns
    -------
    callable
        Gains [..., m, n] → steps; nan where the data do not determine Θ.

    Raises
    ------
    ValueError
        If the data are of another size than the world.
    """
    lqr = checked(setting).lqr
    rows = transitions(checked_trajectories("data", data, lqr))
    sums = critic.sums(lqr, rows)  # the same for every gain

    def step(K: Array) -> Array:
        found = critic.solve(lqr, sums, K)
        known = found.determined[..., None, None]
        return np.where(known, found.gauss_newton(K), np.nan)

    return step


def passes(setting: Setting, cov: float, size: int, seed: int) -> Array:
    """Where damped policy iteration ends in the hack's sanity check, on the same data.

    Frozen: 40 half Gauss–Newton steps on the batch of the seed. Collecting: five at
    each of twenty collections.

    Parameters
    ----------
    setting : Setting
    cov : float
        σ² of the data.
    size : int
        N trajectories, in all.
    seed : int

    Returns
    -------
    array, shape [modes]
        Exact cost of the last gain; inf where the path left the stable set.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    last = _descent(setting, batch(setting, cov, size, seed))
    rng = np.random.default_rng([seed, size, 1])

    def gradient(data: Trajectories, K: Array) -> Array:
        return policy_iteration(setting, data)(K)

    growing = collecting(setting, cov, size, gradient, _DAMPING, rng)
    ends = {"frozen": last, "collecting": float(growing[-1])}
    return np.array([ends[mode] for mode in MODES])


def arrival(
    setting: Setting, expression: str, cov: float, size: int, seed: int
) -> Array:
    """Where one expression ends on the data set of a seed.

    Parameters
    ----------
    setting : Setting
    expression : str
        One of `EXPRESSIONS`: the hack at its best (`lqrlib.studies.law`), 40 half
        Gauss–Newton steps with LSTDQ, or the optimal gain of the fitted model.
    cov : float
        σ² of the data.
    size : int
        N trajectories.
    seed : int

    Returns
    -------
    array, shape []
        Exact cost of the last gain; inf if it is not stable.

    Raises
    ------
    ValueError
        If there is no such expression, or an argument is out of its range.
    """
    expression = _validate.choice("expression", expression, EXPRESSIONS)
    if expression == "hack":
        return law(setting, cov, size, seed)
    data = batch(setting, cov, size, seed)
    if expression == "dpg":
        return np.array(_descent(setting, data))
    fitted = model.fit(transitions(data)).problem(setting.lqr)
    return np.asarray(exact.cost(setting.lqr, exact.optimal_gain(fitted)))


def _descent(setting: Setting, data: Trajectories) -> float:
    step = policy_iteration(setting, data)
    path = descend(setting.lqr, setting.K0, step, _DAMPING, updates=_UPDATES)
    return float(path.cost[-1])
