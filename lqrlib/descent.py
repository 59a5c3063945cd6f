"""Descent along any gradient, with the exact cost of every gain on the way."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact
from lqrlib._validate import Array, Flags
from lqrlib.gradients import GradientEstimate
from lqrlib.history import History
from lqrlib.problem import LQR


def descend(
    lqr: LQR,
    K0: ArrayLike,
    gradient: Callable[[Array], Array | GradientEstimate],
    step: float | Callable[[Array], Array],
    *,
    updates: int = 100,
    within: float = 0.01,
) -> History:
    """K ← K − step(gradient(K)), until the gain leaves the stable set.

    Parameters
    ----------
    lqr : LQR
        The true world: scores every gain by its exact cost.
    K0 : array, shape [..., m, n]
        First gains; leading axes are paths of their own.
    gradient : callable
        All gains [..., m, n] at once → gradients, or a `GradientEstimate`.
    step : float or callable
        A factor, or what makes of gradients the changes to subtract: `of_length`.
    updates : int
        Number of updates.
    within : float
        Relative tolerance that counts as converged.

    Returns
    -------
    History
        A path that leaves the stable set stays where it left, with cost inf; one whose
        gradient is not finite stays where it is.

    Raises
    ------
    ValueError
        If K0 has a wrong shape or entry, or an argument is of another kind.
    """
    K = lqr.gain(K0)
    rule = step if callable(step) else _scaled(_validate.number("step", step))
    path, costs = [K], [exact.cost(lqr, K)]
    for _ in range(_validate.count("updates", updates)):
        going = np.isfinite(costs[-1])
        if not going.any():  # nothing moves any more: no gradient is asked for
            path.append(K)
            costs.append(costs[-1])
            continue
        found = gradient(K)
        direction = found.gradient if isinstance(found, GradientEstimate) else found
        with np.errstate(over="ignore", invalid="ignore"):
            change = rule(np.asarray(direction))
        K = moved(K, change, going)
        path.append(K)
        costs.append(exact.cost(lqr, K))
    optimum = float(exact.cost(lqr, exact.optimal_gain(lqr)))
    return History.judge(np.stack(path), np.stack(costs), optimum, within=within)


def of_length(length: float) -> Callable[[Array], Array]:
    """Steps of one Frobenius length, along the gradient: only its direction counts.

    Parameters
    ----------
    length : float

    Returns
    -------
    callable
        Gradients [..., m, n] → changes [..., m, n]; zero for a zero gradient.

    Raises
    ------
    ValueError
        If ``length`` is not a number.
    """
    length = _validate.number("length", length)

    def rule(gradient: Array) -> Array:
        # By its largest entry first: squares leave the floats long before entries do.
        largest = np.abs(gradient).max(axis=(-2, -1), keepdims=True)
        unit = gradient / np.where(largest > 0.0, largest, 1.0)
        size = np.sqrt(np.square(unit).sum(axis=(-2, -1), keepdims=True))
        return length * unit / np.where(size > 0.0, size, 1.0)

    return rule


def moved(K: Array, change: Array, going: Flags) -> Array:
    """K − change, where the path is still going and the change is finite.

    Parameters
    ----------
    K : array, shape [..., m, n]
    change : array, shape [..., m, n]
    going : array of bool, shape [...]

    Returns
    -------
    array, shape [..., m, n]
    """
    usable = np.isfinite(change).all(axis=(-2, -1)) & going
    return np.where(usable[..., None, None], K - change, K)


def _scaled(factor: float) -> Callable[[Array], Array]:
    return lambda gradient: factor * gradient
