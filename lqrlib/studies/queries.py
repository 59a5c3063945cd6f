"""What queries of policies can do: their errors, and descents along them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, finite_horizon, rates
from lqrlib._validate import Array
from lqrlib.descent import Gradient, descend, descend_stages
from lqrlib.gradients import GradientEstimate, zeroth_order, zeroth_order_stages
from lqrlib.history import History
from lqrlib.problem import LQR
from lqrlib.studies.setting import Setting

POINTS = {"one": "one point", "two": "two points, same noise"}
GAINS = {"constant": "one gain for ever", "stages": "a gain for each stage"}
STAGES = 10
_HORIZON = 60
# A share of the step limit, and a step for stages: the exact gradient of the double
# integrator is within 1 % of J* after 10 and after 14 updates.
_SHARE, _STAGE_STEP = 0.15, 0.5
_RECORDED = {"updates": 30, "seeds": 20, "runs": 20}


class Kind(NamedTuple):
    """One kind of gains: its start and the slope there, J*, a step, how to descend.

    Parameters
    ----------
    start, slope : array, shape [m, n] or [T, m, n]
    best : float
    step : float
    descend : callable
    gradient : callable
    """

    start: Array
    slope: Array
    best: float
    step: float
    descend: Callable[..., History]
    gradient: Gradient


def query_gradient(
    lqr: LQR,
    K: ArrayLike,
    *,
    points: str,
    gains: str,
    radius: float,
    m: float,
    rng: np.random.Generator,
) -> GradientEstimate:
    """One estimate of a state of the explorer: `zeroth_order`, or that of stages.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n], or [..., T, m, n] for stages
        One gain may stand for ten stages.
    points : str
        "one" or "two".
    gains : str
        "constant": 60 steps with one gain; "stages": ten stages.
    radius : float
    m : float
        Trajectories for each gain that is perturbed, rounded to an even number.
    rng : numpy.random.Generator

    Returns
    -------
    GradientEstimate

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or there is no such choice.
    """
    _validate.instance("lqr", lqr, LQR)
    points = _validate.choice("points", points, POINTS)
    gains = _validate.choice("gains", gains, GAINS)
    half = _validate.number("m", m) / 2
    options: dict[str, Any] = {
        "radius": radius,
        "n_trajectories": _validate.count("m", 2 * max(round(half), 1)),
        "rng": rng,
        "two_point": points == "two",
    }
    if gains == "constant":
        return zeroth_order(lqr, K, horizon=_HORIZON, **options)
    return zeroth_order_stages(lqr, _staged(lqr, K), **options)


def queries(
    setting: Setting, points: str, gains: str, radius: float, size: int, seed: int
) -> Array:
    """Twenty errors at K₀, and the excess costs along twenty descents of 30 updates.

    Parameters
    ----------
    setting : Setting
    points : str
        One of `POINTS`.
    gains : str
        One of `GAINS`.
    radius : float
    size : int
        Trajectories for each gain that is perturbed.
    seed : int
        With the same seed and size, directions, starts and noise are the same.

    Returns
    -------
    array, shape [1 + 31, 20]
        The errors, and J − J* after 0, 1, … updates.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or there is no such choice.
    """
    error, excess = asked(
        setting.lqr, setting.K0, points, gains, radius, size, seed=seed, **_RECORDED
    )
    return np.concatenate([error[None], excess])


def asked(
    lqr: LQR,
    first: Array,
    points: str,
    gains: str,
    radius: float,
    m: int,
    *,
    seed: int,
    updates: int,
    seeds: int,
    runs: int,
) -> tuple[Array, Array]:
    """Errors at a first gain, and excess costs along descents from it.

    Parameters
    ----------
    lqr : LQR
    first : array, shape [m, n]
    points, gains : str
    radius : float
    m : int
        Trajectories for each gain that is perturbed.
    seed : int
    updates : int
        Length of each descent.
    seeds, runs : int
        Estimates and descents.

    Returns
    -------
    error : array, shape [seeds]
        ‖ĝ − g‖/‖g‖; inf where a trajectory left the floats.
    excess : array, shape [updates + 1, runs]
        J − J*.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or there is no such choice.
    """
    # Not by the radius: what does not depend on it then does not move with it.
    rng, kind = np.random.default_rng([seed, m]), kind_of(lqr, first, gains)

    def estimate(K: Array) -> GradientEstimate:
        return query_gradient(
            lqr, K, points=points, gains=gains, radius=radius, m=m, rng=rng
        )

    found = estimate(np.broadcast_to(kind.start, (seeds, *kind.start.shape)))
    off = (found.gradient - kind.slope).reshape(seeds, -1)
    error = np.linalg.norm(off, axis=1) / np.linalg.norm(kind.slope)
    many = np.broadcast_to(kind.start, (runs, *kind.start.shape))
    excess = excess_along(lqr, kind, many, estimate, updates)
    return np.where(np.isnan(error), np.inf, error), excess


def _staged(lqr: LQR, K: ArrayLike) -> Array:
    """Stage gains as they are; one gain at every stage."""
    gains = lqr.gain(K)
    return gains if gains.ndim > 2 else finite_horizon.constant(lqr, gains, STAGES)


def kind_of(lqr: LQR, first: Array, gains: str) -> Kind:
    """A kind of gains, from a first gain.

    Parameters
    ----------
    lqr : LQR
    first : array, shape [m, n]
    gains : str

    Returns
    -------
    Kind

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry.
    """
    if gains == "constant":
        staged = finite_horizon.constant(lqr, first, _HORIZON)
        return Kind(
            first,
            finite_horizon.gradient(lqr, staged).sum(axis=0),
            float(exact.cost(lqr, exact.optimal_gain(lqr))),
            _SHARE * rates.step_limit(lqr, "gradient"),
            descend,
            lambda K: exact.gradient(lqr, K),
        )
    start, best = _staged(lqr, first), finite_horizon.optimal_gains(lqr, STAGES)
    return Kind(
        start,
        finite_horizon.gradient(lqr, start),
        float(finite_horizon.cost(lqr, best)),
        _STAGE_STEP,
        descend_stages,
        lambda K: finite_horizon.gradient(lqr, K),
    )


def excess_along(
    lqr: LQR, kind: Kind, K: Array, gradient: Gradient, updates: int
) -> Array:
    """J − J* along a descent.

    Parameters
    ----------
    lqr : LQR
    kind : Kind
    K : array, shape [..., m, n] or [..., T, m, n]
        First gains.
    gradient : callable
    updates : int

    Returns
    -------
    array, shape [updates + 1, ...]

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry.
    """
    return kind.descend(lqr, K, gradient, kind.step, updates=updates).cost - kind.best
