"""The sanity check of the Gaussian hack, and the law of its critical covariance."""

from collections.abc import Callable

import numpy as np

from lqrlib import _validate, importance, rates
from lqrlib._validate import Array
from lqrlib.descent import Rule, of_length
from lqrlib.estimate import GradientEstimate
from lqrlib.rollout import Trajectories
from lqrlib.studies.runs import OnData, batch, collecting, frozen
from lqrlib.studies.setting import Setting, checked

WEIGHTS = ("trajectory", "per-decision", "self-normalised")
STEPS = ("plain", "normalised")
MODES = ("frozen", "collecting")


def expression(setting: Setting, weights: str, cov: float) -> OnData:
    """An estimator of the hack, as a function of data and gains.

    Parameters
    ----------
    setting : Setting
    weights : str
        One of `WEIGHTS`.
    cov : float
        σ² of the policy that the weights speak of.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If there are no such weights.
    """
    estimators: dict[str, Callable[..., GradientEstimate]] = {
        "trajectory": importance.trajectory_is,
        "per-decision": importance.per_decision_is,
        "self-normalised": importance.self_normalised_is,
    }
    estimator = estimators[_validate.choice("weights", weights, estimators)]
    return lambda data, K: estimator(setting.lqr, data, K, cov=cov)


def step_rule(setting: Setting, kind: str, cov: float) -> float | Rule:
    """A factor that suits the exact gradient, or a fixed length.

    Parameters
    ----------
    setting : Setting
    kind : str
        ``"plain"``: a twentieth of the largest factor that is stable at K*;
        ``"normalised"``: a fortieth of the way from K₀ to K*. With both the exact
        gradient arrives.
    cov : float

    Returns
    -------
    float or callable

    Raises
    ------
    ValueError
        If there is no such step.
    """
    setting, kind = checked(setting), _validate.choice("kind", kind, STEPS)
    if kind == "plain":
        return rates.step_limit(setting.lqr, "gradient", cov) / 20
    return of_length(setting.length)


def sanity(setting: Setting, cov: float, size: int, seed: int) -> Array:
    """Where the hack ends, with every kind of weight and step, frozen and collecting.

    Parameters
    ----------
    setting : Setting
    cov : float
        σ², of the data and of the weights.
    size : int
        N trajectories, in all; 100 updates.
    seed : int

    Returns
    -------
    array, shape [modes, weights, steps]
        Exact cost of the last gain; inf where the path left the stable set.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    data = batch(setting, cov, size, seed)
    ends = np.empty((len(MODES), len(WEIGHTS), len(STEPS)))
    for i, weights in enumerate(WEIGHTS):
        gradient = expression(setting, weights, cov)
        for j, kind in enumerate(STEPS):
            step = step_rule(setting, kind, cov)
            rng = np.random.default_rng([seed, size, 1])
            ends[0, i, j] = frozen(setting, data, gradient, step)[-1]
            ends[1, i, j] = collecting(setting, cov, size, gradient, step, rng)[-1]
    return ends


def law(setting: Setting, cov: float, size: int, seed: int) -> Array:
    """Where the hack at its best ends on one data set.

    At its best: a weight for each cost, a time baseline, and 60 steps of one length.

    Parameters
    ----------
    setting : Setting
    cov : float
        σ², of the data and of the weights.
    size : int
        N.
    seed : int

    Returns
    -------
    array, shape []
        Exact cost of the last gain; inf where the path left the stable set.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    def gradient(data: Trajectories, K: Array) -> Array:
        return importance.per_decision_is(
            setting.lqr, data, K, cov=cov, time_baseline=True
        ).gradient

    data = batch(setting, cov, size, seed)
    step = of_length(setting.length)
    return frozen(setting, data, gradient, step, updates=60)[-1]
