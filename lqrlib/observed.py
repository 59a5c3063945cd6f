"""Gains that see the first states only, in a world that has more of them.

A policy u = Kx that does not know of the states v is the gain [K, 0] on (x, v). All of
`lqrlib.exact` holds for it; what is lost is the optimum, which now has to be searched.
"""

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact
from lqrlib._validate import Array
from lqrlib.problem import LQR

_FLAT = 1e-9  # of the gradient, over the cost


def widen(lqr: LQR, K: ArrayLike) -> Array:
    """[K, 0]: the gain with zeros for the states that it does not see.

    Parameters
    ----------
    lqr : LQR
        The world with all states, n of them.
    K : array, shape [..., m, k]
        With k ≤ n: it sees the first k states.

    Returns
    -------
    array, shape [..., m, n]

    Raises
    ------
    ValueError
        If K is not real and finite with m rows and at most n columns.
    """
    _validate.instance("lqr", lqr, LQR)
    gain = _validate.real_array("K", K)
    if gain.ndim < 2 or gain.shape[-2] != lqr.m or gain.shape[-1] > lqr.n:
        wanted = f"shape (…, {lqr.m}, k) with k at most {lqr.n}"
        raise _validate.error("K", wanted, gain.shape)
    hidden = [(0, 0)] * (gain.ndim - 1) + [(0, lqr.n - gain.shape[-1])]
    return np.pad(gain, hidden)


def best_gain(lqr: LQR, K: ArrayLike) -> Array:
    """The gain of least cost J([K, 0]) that descent reaches from a first one.

    With all states seen this is K*. With fewer there is no equation to solve, and there
    may be several local optima: this is the one whose basin K lies in.

    Parameters
    ----------
    lqr : LQR
        The world with all states.
    K : array, shape [m, k]
        A gain with finite cost.

    Returns
    -------
    array, shape [m, k]

    Raises
    ------
    ValueError
        If K is no such gain, or its cost is infinite.

    Notes
    -----
    Quasi-Newton steps (BFGS) with the exact gradient, whose first k columns count.
    """
    _validate.instance("lqr", lqr, LQR)
    import scipy.optimize  # here, so that importing lqrlib stays cheap

    first = _validate.real_array("K", K)
    if first.ndim != 2:
        raise _validate.error("K", f"one gain, shape ({lqr.m}, k)", first.shape)
    if not np.isfinite(exact.cost(lqr, widen(lqr, first))):
        raise _validate.error("K", "a gain with finite cost", first.tolist())

    def cost_and_slope(flat: Array) -> tuple[float, Array]:
        gain = widen(lqr, flat.reshape(first.shape))
        slope = exact.gradient(lqr, gain)[..., : first.shape[-1]]
        return float(exact.cost(lqr, gain)), np.nan_to_num(slope.ravel())

    flat = _FLAT * float(exact.cost(lqr, widen(lqr, first)))
    with np.errstate(over="ignore", invalid="ignore"):
        found = scipy.optimize.minimize(
            cost_and_slope,
            first.ravel(),
            jac=True,
            method="BFGS",
            options={"gtol": flat},
        )
    return np.asarray(found.x).reshape(first.shape)
