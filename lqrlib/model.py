"""Learning the model: (A, B, W) from transitions by least squares."""

from typing import NamedTuple

import numpy as np

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.rollout import Transitions, usable


class LinearModel(NamedTuple):
    """A fitted law of motion x' = A x + B u + w, w ~ N(0, W).

    Parameters
    ----------
    A : array, shape [..., n, n]
    B : array, shape [..., n, m]
    W : array, shape [..., n, n]
        Covariance of the residuals.
    condition : array, shape [...]
        Condition number of the data z = (x, u), columns scaled to equal size; inf
        where the data do not identify (A, B), which are then the least-norm fit: it
        says nothing about directions that were not varied.
    """

    A: Array
    B: Array
    W: Array
    condition: Array

    def problem(self, lqr: LQR) -> LQR:
        """The model as a world: this law of motion with the known cost.

        Parameters
        ----------
        lqr : LQR
            Gives Q, R, X0 and γ.

        Returns
        -------
        LQR

        Raises
        ------
        ValueError
            If this is a batch of models, or its sizes are not those of ``lqr``.
        """
        return LQR(self.A, self.B, lqr.Q, lqr.R, self.W, lqr.X0, lqr.gamma)


def fit(transitions: Transitions) -> LinearModel:
    """Least squares: (Â, B̂) = argmin Σ |x' − A x − B u|², Ŵ from the residuals.

    Parameters
    ----------
    transitions : Transitions
        With leading axes, one fit for each. Rows of trajectories that diverged beyond
        10⁶⁰ are left out.

    Returns
    -------
    LinearModel
        Ŵ is the sum of squared residuals over M − n − m.

    Raises
    ------
    ValueError
        If the parts of ``transitions`` do not fit together.

    Notes
    -----
    By orthogonal factors (QR): normal equations would square the condition number.
    """
    rows, used = usable(transitions)
    n = rows.x.shape[-1]
    if rows.x_next.shape[-1] != n:
        found = rows.x_next.shape
        raise _validate.error("transitions.x_next", f"shape (…, M, {n})", found)
    z = np.concatenate([rows.x, rows.u], axis=-1)
    scale = np.sqrt(np.square(z).mean(axis=-2, keepdims=True))
    scale[scale == 0.0] = 1.0
    basis, triangle = np.linalg.qr(z / scale)
    tolerance = np.finfo(np.float64).eps * max(z.shape[-2:])
    solution = np.linalg.pinv(triangle, rtol=tolerance) @ (basis.mT @ rows.x_next)
    AB = (solution / scale.mT).mT
    residual = rows.x_next - z @ AB.mT
    spare = np.maximum(used.sum(axis=-1) - z.shape[-1], 1)[..., None, None]
    W = residual.mT @ residual / spare
    return LinearModel(AB[..., :n], AB[..., n:], W, _condition(triangle, tolerance))


def _condition(triangle: Array, tolerance: float) -> Array:
    """Largest over smallest singular value; inf where that is below rounding."""
    values = np.linalg.svd(triangle, compute_uv=False)
    largest, smallest = values[..., 0], values[..., -1]
    known = (smallest > tolerance * largest) & (
        triangle.shape[-2] == triangle.shape[-1]
    )
    return np.divide(largest, smallest, out=np.full(largest.shape, np.inf), where=known)
