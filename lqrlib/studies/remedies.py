"""What a sceptic would try on the hack, each on the same fixed data."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lqrlib import _validate, exact, gradients, importance, model, remedies
from lqrlib._validate import Array
from lqrlib.descent import of_length
from lqrlib.estimate import GradientEstimate
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, transitions
from lqrlib.studies.runs import batch, frozen
from lqrlib.studies.setting import Setting, checked

Estimate = Callable[..., GradientEstimate]


class Remedy(NamedTuple):
    """An estimator, and what it is given instead of N trajectories with covariance σ².

    Parameters
    ----------
    estimate : callable
        (lqr, data, K, cov=σ²) → GradientEstimate.
    data_cov, cov, size : float
        Factors of σ² in the data, of σ² in the weights, and of N.
    """

    estimate: Estimate
    data_cov: float = 1.0
    cov: float = 1.0
    size: int = 1


def _with(estimate: Estimate, **options: object) -> Estimate:
    return lambda lqr, data, K, cov: estimate(lqr, data, K, cov=cov, **options)


_BASELINED = _with(importance.per_decision_is, time_baseline=True)


def _stopped(lqr: LQR, data: Trajectories, K: Array, cov: float) -> GradientEstimate:
    """No step any more, once the weights are worth less than a tenth of the data."""
    found = _BASELINED(lqr, data, K, cov=cov)
    enough = found.effective_sample_size >= data.cost.shape[-2] / 10
    return found._replace(
        gradient=np.where(enough[..., None, None], found.gradient, 0.0)
    )


REMEDIES = {
    "as in the question": Remedy(_with(importance.trajectory_is)),
    "constant baseline": Remedy(_with(importance.trajectory_is, baseline=True)),
    "per-decision": Remedy(_with(importance.per_decision_is)),
    "time baseline": Remedy(_BASELINED),
    "value baseline": Remedy(_with(importance.per_decision_is, value_baseline=True)),
    "self-normalised": Remedy(_with(importance.self_normalised_is, time_baseline=True)),
    "weights clipped at 10": Remedy(_with(importance.clipped_is, limit=10.0)),
    "stop at low ESS": Remedy(_stopped),
    "PPO clipping": Remedy(_with(remedies.ppo_is)),
    "per-step ratio": Remedy(_with(remedies.per_step_is)),
    "doubly robust": Remedy(_with(remedies.doubly_robust_is)),
    "wide data": Remedy(_BASELINED, data_cov=4.0),
    "covariance x 25": Remedy(_BASELINED, data_cov=25.0, cov=25.0),
    "data x 10": Remedy(_BASELINED, size=10),
}
OTHERS = ("deterministic gradient", "planning")


def remedy(setting: Setting, name: str, cov: float, size: int, seed: int) -> Array:
    """Where a remedy ends on one data set, and the best gain that it passed.

    All but the two other methods make 100 steps of one length, as the hack does; the
    deterministic gradient makes 20 half Gauss–Newton steps with LSTDQ, and planning
    solves the fitted model.

    Parameters
    ----------
    setting : Setting
    name : str
        One of `REMEDIES` or of `OTHERS`.
    cov : float
        σ².
    size : int
        N.
    seed : int

    Returns
    -------
    array, shape [2]
        Exact costs; inf at the end where the path left the stable set.

    Raises
    ------
    ValueError
        If there is no such remedy, or another argument is out of its range.
    """
    setting, size = checked(setting), _validate.count("size", size)
    name, lqr = _validate.choice("name", name, (*REMEDIES, *OTHERS)), setting.lqr
    if name == "planning":
        data = batch(setting, cov, size, seed)
        fitted = model.fit(transitions(data)).problem(lqr)
        return np.full(2, exact.cost(lqr, exact.optimal_gain(fitted)))
    if name == "deterministic gradient":
        data = batch(setting, cov, size, seed)
        path = frozen(
            setting,
            data,
            lambda data, K: gradients.gauss_newton_dpg(lqr, data, K),
            0.5,
            updates=20,
        )
    else:
        tried = REMEDIES[name]
        data = batch(setting, tried.data_cov * cov, tried.size * size, seed)
        path = frozen(
            setting,
            data,
            lambda data, K: tried.estimate(lqr, data, K, cov=tried.cov * cov),
            of_length(setting.length),
        )
    return np.array([path[-1], path.min()])
