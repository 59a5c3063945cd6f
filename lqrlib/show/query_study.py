"""What queries of policies can do: their errors, and descents along them, computed."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, finite_horizon, rates
from lqrlib._validate import Array
from lqrlib.descent import Gradient, descend, descend_stages
from lqrlib.gradients import GradientEstimate, zeroth_order, zeroth_order_stages
from lqrlib.history import History
from lqrlib.problem import LQR

POINTS = {"one": "one point", "two": "two points, same noise"}
GAINS = {"constant": "one gain for ever", "stages": "a gain for each stage"}
STAGES = 10
_HORIZON = 60
# A share of the step limit, and a step for stages: the exact gradient of the double
# integrator is within 1 % of J* after 10 and after 14 updates.
_SHARE, _STAGE_STEP = 0.15, 0.5


class QueryStudy(NamedTuple):
    """Errors of estimates at K₀, and descents along them, over a grid.

    The leading axes are points, gains, radii and counts, in this order.

    Parameters
    ----------
    radii : tuple of float
    counts : tuple of int
        m, trajectories for each gain that is perturbed.
    error : array, shape [2, 2, R, M, seeds]
        ‖ĝ − g‖/‖g‖ at K₀; inf where a trajectory left the floats.
    excess : array, shape [2, 2, R, M, updates + 1, runs]
        J − J*, of the problem without an end or of the one with stages.
    exact : array, shape [2, updates + 1]
        J − J* along the exact gradient with the same steps, for each kind of gains.
    optimum : array, shape [2]
        J* for each kind of gains.
    """

    radii: tuple[float, ...]
    counts: tuple[int, ...]
    error: Array
    excess: Array
    exact: Array
    optimum: Array


class _Kind(NamedTuple):
    """One kind of gains: its start and the slope there, J*, a step, how to descend."""

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
    _among("points", points, POINTS)
    _among("gains", gains, GAINS)
    options: dict[str, Any] = {
        "radius": radius,
        "n_trajectories": 2 * max(round(m / 2), 1),
        "rng": rng,
        "two_point": points == "two",
    }
    if gains == "constant":
        return zeroth_order(lqr, K, horizon=_HORIZON, **options)
    return zeroth_order_stages(lqr, _staged(lqr, K), **options)


def query_study(
    lqr: LQR,
    K0: ArrayLike,
    *,
    radii: Sequence[float],
    counts: Sequence[int],
    updates: int = 30,
    seeds: int = 20,
    runs: int = 20,
    seed: int = 0,
    executor: Executor | None = None,
) -> QueryStudy:
    """Estimate at K₀, and descend from it, for each point of a grid.

    Parameters
    ----------
    lqr : LQR
        The double integrator, or another world in which K₀ is stable.
    K0 : array, shape [m, n]
    radii : sequence of float
    counts : sequence of int
    updates : int
        Length of each descent.
    seeds, runs : int
        Estimates and descents for each point.
    seed : int
        Points with the same m share their directions, starts and noise.
    executor : concurrent.futures.Executor, optional
        Does the points in parallel; the numbers do not depend on it.

    Returns
    -------
    QueryStudy

    Raises
    ------
    ValueError
        If K0 has a wrong shape or entry.
    """
    first = lqr.gain(K0)
    grid = list(itertools.product(POINTS, GAINS, radii, counts))
    mapped = map if executor is None else executor.map
    cell = partial(
        _cell, lqr, first, seed=seed, updates=updates, seeds=seeds, runs=runs
    )
    found = list(mapped(cell, *zip(*grid, strict=True)))
    kinds = [_kind(lqr, first, gains) for gains in GAINS]
    shape = len(POINTS), len(GAINS), len(radii), len(counts)
    error, excess = (np.array(part) for part in zip(*found, strict=True))
    return QueryStudy(
        tuple(radii),
        tuple(counts),
        error.reshape(*shape, *error.shape[1:]),
        excess.reshape(*shape, *excess.shape[1:]),
        np.stack([_excess(lqr, k, k.start, k.gradient, updates) for k in kinds]),
        np.array([k.best for k in kinds]),
    )


def _among(name: str, value: str, choices: dict[str, str]) -> None:
    if value not in choices:
        raise _validate.error(name, " or ".join(choices), repr(value))


def _staged(lqr: LQR, K: ArrayLike) -> Array:
    """Stage gains as they are; one gain at every stage."""
    gains = lqr.gain(K)
    return gains if gains.ndim > 2 else finite_horizon.constant(lqr, gains, STAGES)


def _kind(lqr: LQR, first: Array, gains: str) -> _Kind:
    if gains == "constant":
        staged = finite_horizon.constant(lqr, first, _HORIZON)
        return _Kind(
            first,
            finite_horizon.gradient(lqr, staged).sum(axis=0),
            float(exact.cost(lqr, exact.optimal_gain(lqr))),
            _SHARE * rates.step_limit(lqr, "gradient"),
            descend,
            lambda K: exact.gradient(lqr, K),
        )
    start, best = _staged(lqr, first), finite_horizon.optimal_gains(lqr, STAGES)
    return _Kind(
        start,
        finite_horizon.gradient(lqr, start),
        float(finite_horizon.cost(lqr, best)),
        _STAGE_STEP,
        descend_stages,
        lambda K: finite_horizon.gradient(lqr, K),
    )


def _cell(
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
    """Errors and excess costs at one point of the grid."""
    # Not by the radius: what does not depend on it then does not move with it.
    rng, kind = np.random.default_rng([seed, m]), _kind(lqr, first, gains)

    def estimate(K: Array) -> GradientEstimate:
        return query_gradient(
            lqr, K, points=points, gains=gains, radius=radius, m=m, rng=rng
        )

    found = estimate(np.broadcast_to(kind.start, (seeds, *kind.start.shape)))
    off = (found.gradient - kind.slope).reshape(seeds, -1)
    error = np.linalg.norm(off, axis=1) / np.linalg.norm(kind.slope)
    many = np.broadcast_to(kind.start, (runs, *kind.start.shape))
    excess = _excess(lqr, kind, many, estimate, updates)
    return np.where(np.isnan(error), np.inf, error), excess


def _excess(lqr: LQR, kind: _Kind, K: Array, gradient: Gradient, updates: int) -> Array:
    """J − J* along a descent."""
    return kind.descend(lqr, K, gradient, kind.step, updates=updates).cost - kind.best
