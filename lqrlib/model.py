"""Learning the model: (A, B, W) from transitions by least squares, and ensembles."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.rollout import Transitions, usable


class LinearModel(NamedTuple):
    """A fitted law of motion x₊ = A x + B u + w, w ~ N(0, W).

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
        _validate.instance("lqr", lqr, LQR)
        return LQR(self.A, self.B, lqr.Q, lqr.R, self.W, lqr.X0, lqr.gamma)


def fit(transitions: Transitions) -> LinearModel:
    """Least squares: (Â, B̂) = argmin Σ |x₊ − A x − B u|², Ŵ from the residuals.

    Parameters
    ----------
    transitions : Transitions
        With leading axes, one fit for each. Rows of trajectories that diverged beyond
        10⁶⁰ are left out.

    Returns
    -------
    LinearModel
        Ŵ is the sum of squared residuals over M − n − m. Up to n + m rows are fitted
        without residuals: then Ŵ is zero up to rounding, and says nothing.

    Raises
    ------
    ValueError
        If the parts of ``transitions`` do not fit together.

    Notes
    -----
    By orthogonal factors (QR): normal equations would square the condition number. The
    residuals have the same products after the turn.
    """
    rows, used = usable(transitions)
    n = rows.x.shape[-1]
    columns = np.concatenate([rows.x, rows.u, rows.x_next], axis=-1)
    z = columns[..., :-n]
    M, d = z.shape[-2:]
    scale = np.sqrt(np.einsum("...ij,...ij->...j", z, z) / M)[..., None, :]
    scale[scale == 0.0] = 1.0
    z /= scale
    # Of [z, x₊] the triangle alone: z's own, x₊ turned alike, and what is left.
    turned = np.asarray(np.linalg.qr(columns, mode="r"))
    triangle, target = turned[..., :d, :d], turned[..., d:]
    tolerance = np.finfo(np.float64).eps * max(M, d)
    solution = np.linalg.pinv(triangle, rtol=tolerance) @ target[..., :d, :]
    AB = (solution / scale.mT).mT
    residual = target - turned[..., :d] @ solution
    spare = np.maximum(used.sum(axis=-1) - d, 1)[..., None, None]
    W = residual.mT @ residual / spare
    return LinearModel(AB[..., :n], AB[..., n:], W, _condition(triangle, tolerance))


def prediction_error(model: LinearModel, transitions: Transitions) -> Array:
    """How well a model predicts: the mean of |x' − Â x − B̂ u|² over the rows.

    Parameters
    ----------
    model : LinearModel
        With leading axes that broadcast against those of the data.
    transitions : Transitions
        Rows of trajectories that diverged beyond 10⁶⁰ are left out.

    Returns
    -------
    array, shape [...]

    Raises
    ------
    ValueError
        If a part of the model or of the transitions has a wrong shape or entry.
    """
    rows, used = usable(transitions)
    _validate.instance("model", model, LinearModel)
    n, lead = rows.x.shape[-1], rows.cost.shape[:-1]
    A = _validate.stack("model.A", model.A, (n, n))
    B = _validate.stack("model.B", model.B, (n, rows.u.shape[-1]))
    _validate.leading("model.A", A, 2, lead)
    _validate.leading("model.B", B, 2, np.broadcast_shapes(A.shape[:-2], lead))
    residual = rows.x_next - rows.x @ A.mT - rows.u @ B.mT
    squares = np.square(residual).sum(axis=-1) * used
    return squares.sum(axis=-1) / np.maximum(used.sum(axis=-1), 1)


def fit_ensemble(
    transitions: Transitions,
    size: int,
    rng: np.random.Generator,
    *,
    elites: int | None = None,
    holdout: float = 0.2,
) -> tuple[LinearModel, ...]:
    """Bootstrap: models of the same data, each fitted to rows drawn from it.

    A share of the rows is held out. Every member is the least-squares fit of as many
    rows as are left, drawn from them with replacement. The elites are the members with
    the smallest `prediction_error` on the rows held out.

    Parameters
    ----------
    transitions : Transitions
        With leading axes, one ensemble for each, all from the same draws.
    size : int
        Number of members that are fitted; 7 in the original MBPO.
    rng : numpy.random.Generator
    elites : int, optional
        How many are kept; 5 in the original. All of them if not given.
    holdout : float
        Share of rows that are held out, rounded down, in (0, 1).

    Returns
    -------
    tuple of LinearModel
        The elites, the best one first.

    Raises
    ------
    ValueError
        If a size is no whole number above 0, ``elites`` exceeds ``size``, ``holdout``
        is not in (0, 1) or leaves no row on one side, or the transitions do not fit.

    Notes
    -----
    Chua et al. (2018), section 4 (bootstrap); Janner et al. (2019) and their code,
    `mbpo/models/bnn.py`, lines 193 and 337 (elites, rows with replacement).
    """
    size, rng = _validate.count("size", size), _validate.generator("rng", rng)
    kept = size if elites is None else _validate.count("elites", elites)
    if kept > size:
        raise _validate.error("elites", f"at most {size}, the size", kept)
    if not 0.0 < _validate.number("holdout", holdout) < 1.0:
        raise _validate.error("holdout", "a number in (0, 1)", holdout)
    rows, _ = usable(transitions)
    M = rows.cost.shape[-1]
    out = int(M * holdout)
    if not 0 < out < M:
        raise _validate.error("holdout", f"a share that splits {M} rows", holdout)
    order = rng.permutation(M)
    held, left = _rows(rows, order[:out]), order[out:]
    members = [fit(_rows(rows, rng.choice(left, M - out))) for _ in range(size)]
    errors = np.stack([prediction_error(member, held) for member in members])
    ranked = np.argsort(errors, axis=0, kind="stable")[:kept]
    return tuple(_picked(members, best) for best in ranked)


def _rows(transitions: Transitions, index: NDArray[np.int64]) -> Transitions:
    x, u, cost, x_next = transitions
    return Transitions(
        x[..., index, :], u[..., index, :], cost[..., index], x_next[..., index, :]
    )


def _picked(members: list[LinearModel], which: NDArray[np.int64]) -> LinearModel:
    """For each leading index the member whose number is given."""

    def pick(parts: list[Array]) -> Array:
        stacked = np.stack(parts)
        index = which.reshape(1, *which.shape, *[1] * (stacked.ndim - 1 - which.ndim))
        return np.take_along_axis(stacked, index, axis=0)[0]

    return LinearModel(*(pick(list(parts)) for parts in zip(*members, strict=True)))


def _condition(triangle: Array, tolerance: float) -> Array:
    """Largest over smallest singular value; inf where that is below rounding."""
    values = np.linalg.svd(triangle, compute_uv=False)
    largest, smallest = values[..., 0], values[..., -1]
    known = (smallest > tolerance * largest) & (
        triangle.shape[-2] == triangle.shape[-1]
    )
    return np.divide(largest, smallest, out=np.full(largest.shape, np.inf), where=known)
