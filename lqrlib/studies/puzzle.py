"""The sanity check of the first page: much real data, and no model."""

import numpy as np

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.descent import of_length
from lqrlib.policy import GaussianPolicy
from lqrlib.rollout import rollout
from lqrlib.studies.arrivals import policy_iteration
from lqrlib.studies.hack import WEIGHTS, expression
from lqrlib.studies.runs import frozen
from lqrlib.studies.setting import Setting, checked

CHECKED = (*WEIGHTS, "deterministic")
_SIZE, _HORIZON = 1000, 50


def first_check(setting: Setting, name: str, cov: float, seed: int) -> Array:
    """Where one expression ends on 1,000 trajectories of 50 steps of N(K₀x, σ²I).

    Parameters
    ----------
    setting : Setting
    name : str
        One of `CHECKED`: the hack with one of its kinds of weights, 100 steps of length
        .05; or 20 half Gauss–Newton steps with LSTDQ.
    cov : float
        σ², of the data and of the weights.
    seed : int

    Returns
    -------
    array, shape []
        Exact cost of the last gain; inf where the path left the stable set.

    Raises
    ------
    ValueError
        If there is no such expression, or an argument is out of its range.
    """
    setting, name = checked(setting), _validate.choice("name", name, CHECKED)
    rng = np.random.default_rng(_validate.seed("seed", seed))
    policy = GaussianPolicy(setting.K0, cov)
    data = rollout(setting.lqr, policy, _SIZE, _HORIZON, rng)
    if name == "deterministic":
        step = policy_iteration(setting, data)
        return frozen(setting, data, lambda _, K: step(K), 0.5, updates=20)[-1]
    gradient = expression(setting, name, cov)
    return frozen(setting, data, gradient, of_length(0.05))[-1]
