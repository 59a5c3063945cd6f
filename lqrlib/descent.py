"""Descent along any gradient, with the exact cost of every gain on the way."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, finite_horizon
from lqrlib._validate import Array, Flags
from lqrlib.estimate import GradientEstimate
from lqrlib.history import History
from lqrlib.problem import LQR

Gradient = Callable[[Array], Array | GradientEstimate]
Rule = Callable[[Array, Array], Array]  # gradients and gains → changes to subtract

# Armijo's condition: a share of the decrease that the slope promises. Any small number
# serves; this one is the textbooks'.
_PROMISED = 1e-4
_MOST_HALVINGS = 60
_AT_ONCE = 6  # factors in one call of the cost, which is worth more than a few too many


def descend(
    lqr: LQR,
    K0: ArrayLike,
    gradient: Gradient,
    step: float | Rule,
    *,
    updates: int = 100,
    within: float = 0.01,
) -> History:
    """K ← K − step · gradient(K), until the gain leaves the stable set.

    Parameters
    ----------
    lqr : LQR
        The true world: scores every gain by its exact cost.
    K0 : array, shape [..., m, n]
        First gains; leading axes are paths of their own.
    gradient : callable
        All gains [..., m, n] at once → gradients, or a `GradientEstimate`.
    step : float or callable
        A factor, or a rule that makes of gradients and gains the changes to subtract:
        `of_length`, `backtracking`.
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
    _validate.instance("lqr", lqr, LQR)
    first = _validate.stack("K0", K0, (lqr.m, lqr.n))
    path, costs = _walk(first, lambda K: exact.cost(lqr, K), gradient, step, updates)
    optimum = _finite("lqr", exact.cost(lqr, exact.optimal_gain(lqr)))
    return History.judge(path, costs, optimum, within=within)


def descend_stages(
    lqr: LQR,
    K0: ArrayLike,
    gradient: Gradient,
    step: float | Rule,
    *,
    terminal: ArrayLike | None = None,
    updates: int = 100,
    within: float = 0.01,
) -> History:
    """`descend` for the gains of T stages, scored by the exact cost of T stages.

    Parameters
    ----------
    lqr : LQR
        The true world.
    K0 : array, shape [..., T, m, n]
        First gains; leading axes are paths of their own.
    gradient : callable
        All gains [..., T, m, n] at once → gradients, or a `GradientEstimate`.
    step : float or callable
        A factor, or a rule that makes of gradients and gains the changes to subtract.
    terminal : array, shape [n, n], optional
        Terminal cost ⪰ 0; zero if not given.
    updates : int
        Number of updates.
    within : float
        Relative tolerance that counts as converged.

    Returns
    -------
    History
        A path ends where its cost leaves the floats.

    Raises
    ------
    ValueError
        If K0 has a wrong shape or entry, or an argument is of another kind.

    Notes
    -----
    With `lqrlib.finite_horizon.gradient`, the exact method of Hambly, Xu & Yang (2021),
    Theorem 3.3; with `lqrlib.gradients.zeroth_order_stages`, that of their Algorithm 1.
    """
    _validate.instance("lqr", lqr, LQR)
    gains = _validate.stages("K0", K0, (lqr.m, lqr.n))

    def cost(K: Array) -> Array:
        return finite_horizon.cost(lqr, K, terminal=terminal)

    path, costs = _walk(gains, cost, gradient, step, updates)
    best = finite_horizon.optimal_gains(lqr, gains.shape[-3], terminal=terminal)
    optimum = _finite("lqr" if terminal is None else "terminal", cost(best))
    return History.judge(path, costs, optimum, within=within, stages=True)


def of_length(length: float) -> Rule:
    """Steps of one Frobenius length, along the gradient: only its direction counts.

    Parameters
    ----------
    length : float

    Returns
    -------
    callable
        Gradients [..., m, n] and gains → changes [..., m, n]; zero for a zero gradient.

    Raises
    ------
    ValueError
        If ``length`` is not a number.
    """
    length = _validate.number("length", length)

    def rule(gradient: Array, K: Array) -> Array:  # noqa: ARG001
        # By its largest entry first: squares leave the floats long before entries do.
        largest = np.abs(gradient).max(axis=(-2, -1), keepdims=True)
        unit = gradient / np.where(largest > 0.0, largest, 1.0)
        size = np.sqrt(np.square(unit).sum(axis=(-2, -1), keepdims=True))
        return length * unit / np.where(size > 0.0, size, 1.0)

    return rule


def backtracking(lqr: LQR, first: float = 1.0, *, cov: ArrayLike | None = 0.0) -> Rule:
    """The first of the factors η, η/2, η/4, … with which the exact cost falls enough.

    Enough is J(K − ηD) ≤ J(K) − 10⁻⁴ η ⟨∇J(K), D⟩ for a direction D. An unstable gain
    costs inf, so that no step leaves the stable set. For the gains of stages there is
    `backtracking_stages`.

    Parameters
    ----------
    lqr : LQR
        The true world, whose exact cost is asked.
    first : float
        The factor to begin with, above 0.
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy; a number σ² means σ²I.

    Returns
    -------
    callable
        Directions [..., m, n] and gains → changes [..., m, n]; zero where 60 halvings
        find nothing better, as for a direction that does not lead down.

    Raises
    ------
    ValueError
        If ``first`` is not a number above 0, or cov has a wrong shape or entry.

    Notes
    -----
    Armijo (1966), "Minimization of functions having Lipschitz continuous first partial
    derivatives".
    """
    _validate.instance("lqr", lqr, LQR)
    Sigma = _validate.covariance("cov", cov, lqr.m)

    def look(K: Array) -> tuple[Array, Array]:
        found = exact.evaluate(lqr, K, Sigma)
        return found.cost, found.gradient

    return _searching(look, lambda K: exact.cost(lqr, K, Sigma), first)


def backtracking_stages(
    lqr: LQR, first: float = 1.0, *, terminal: ArrayLike | None = None
) -> Rule:
    """`backtracking` for the gains of T stages, by the exact cost of T stages.

    Parameters
    ----------
    lqr : LQR
        The true world, whose exact cost is asked.
    first : float
        The factor to begin with, above 0.
    terminal : array, shape [n, n], optional
        Terminal cost ⪰ 0; zero if not given.

    Returns
    -------
    callable
        Directions [..., T, m, n] and gains → changes [..., T, m, n].

    Raises
    ------
    ValueError
        If ``first`` is not a number above 0, or ``terminal`` has a wrong shape or
        entry.
    """
    _validate.instance("lqr", lqr, LQR)
    last = finite_horizon.terminal_cost(lqr, terminal)

    def look(K: Array) -> tuple[Array, Array]:
        found = finite_horizon.evaluate(lqr, K, terminal=last)
        return found.cost, found.gradient

    def cost(K: Array) -> Array:
        return finite_horizon.cost(lqr, K, terminal=last)

    return _searching(look, cost, first)


def moved(K: Array, change: Array, going: Flags) -> Array:
    """K − change, where the path is still going and the change is finite.

    Parameters
    ----------
    K : array, shape [..., m, n] or [..., T, m, n]
    change : array, of the shape of K
    going : array of bool, shape [...]

    Returns
    -------
    array, of the shape of K
    """
    core = tuple(range(going.ndim - K.ndim, 0))
    usable = np.isfinite(change).all(axis=core, keepdims=True)
    return np.where(usable & np.expand_dims(going, core), K - change, K)


def _finite(name: str, optimum: Array) -> float:
    if not np.isfinite(optimum):
        raise _validate.error(name, "an optimal cost that fits a float", optimum)
    return float(optimum)


def _walk(
    K: Array,
    cost: Callable[[Array], Array],
    gradient: Gradient,
    step: float | Rule,
    updates: int,
) -> tuple[Array, Array]:
    _validate.function("gradient", gradient)
    rule = step if callable(step) else _scaled(_validate.number("step", step))
    path, costs = [K], [cost(K)]
    for _ in range(_validate.count("updates", updates)):
        going = np.isfinite(costs[-1])
        if not going.any():  # nothing moves any more: no gradient is asked for
            path.append(K)
            costs.append(costs[-1])
            continue
        found = gradient(K)
        if isinstance(found, GradientEstimate):
            found = found.gradient
        direction = _validate.result("gradient", found, K.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            change = _validate.result("step", rule(direction, K), K.shape)
        K = moved(K, change, going)
        path.append(K)
        costs.append(cost(K))
    return np.stack(path), np.stack(costs)


def _searching(
    look: Callable[[Array], tuple[Array, Array]],
    cost: Callable[[Array], Array],
    first: float,
) -> Rule:
    factor = _validate.above_zero("first", first)

    @np.errstate(over="ignore", invalid="ignore")
    def rule(direction: Array, K: Array) -> Array:
        J, gradient = look(K)
        core = tuple(range(J.ndim - gradient.ndim, 0))
        slope = (gradient * direction).sum(axis=core)
        step, searching = np.zeros(slope.shape), slope > 0.0  # False for nan
        for begin in range(0, _MOST_HALVINGS, _AT_ONCE):
            if not searching.any():
                break
            factors = factor * 0.5 ** np.arange(begin, begin + _AT_ONCE)
            tried = factors.reshape(-1, *[1] * slope.ndim) * searching
            trial = K - np.expand_dims(tried, core) * direction
            enough = _falls(cost, trial, J - _PROMISED * tried * slope, core)
            found = searching & enough.any(axis=0)
            step = np.where(found, factors[enough.argmax(axis=0)], step)
            searching &= ~found
        return np.expand_dims(step, core) * direction

    return rule


def _falls(
    cost: Callable[[Array], Array], trial: Array, enough: Array, core: tuple[int, ...]
) -> Flags:
    """Whether the cost of a trial gain is low enough; a trial may have overflowed."""
    usable: Flags = np.asarray(np.isfinite(trial).all(axis=core))
    J = cost(np.where(np.expand_dims(usable, core), trial, 0.0))
    return usable & (enough >= J)


def _scaled(factor: float) -> Rule:
    return lambda gradient, K: factor * gradient  # noqa: ARG005
