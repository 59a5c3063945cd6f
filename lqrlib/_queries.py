"""What a query of a policy costs: many trajectories, each with a gain of its own.

Trajectory i follows K_t, and some K_t + Δ_i. All of them share the product with K_t;
what its own Δ_i adds is a sum over few entries. Trajectories are last in memory.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lqrlib import _steps
from lqrlib._validate import Array
from lqrlib.problem import LQR


class Perturbation(NamedTuple):
    """Which trajectories leave K_t at one step, and by how much.

    Parameters
    ----------
    where : slice
        Of the trajectories; M of them.
    change : array, shape [..., m, n, M]
        Δ, added to the gain.
    """

    where: slice
    change: Array


@np.errstate(over="ignore", invalid="ignore")
def costs(
    lqr: LQR,
    K: Array,
    perturbed: Callable[[int], Perturbation],
    terminal: Array,
    starts: Array,
    rng: np.random.Generator,
) -> Array:
    """Σ_{t<T} γᵗ(x'Qx + u'Ru) + γᵀ x_T'Q_T x_T of each trajectory, by simulating it.

    Noise is drawn for all leading axes of the result but the first, whose entries
    therefore differ in their perturbation only.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [T, ..., m, n]
        Its leading axes after T are those of ``starts``.
    perturbed : callable
        Step t → the `Perturbation` there, with leading axes [S, ...].
    terminal : array, shape [n, n]
        Q_T.
    starts : array, shape [..., N, n]
    rng : numpy.random.Generator

    Returns
    -------
    array, shape [S, ..., N]
        inf, never nan or -inf, where a trajectory left the floats.
    """
    shape = (*K.shape[1:-2], lqr.n, starts.shape[-2])
    noise_root, x, total, discount = _steps.root(lqr.W), starts.mT, np.zeros(1), 1.0
    for t, gain in enumerate(K):
        where, change = perturbed(t)
        u = np.array(np.broadcast_to(gain @ x, (*change.shape[:-3], lqr.m, shape[-1])))
        u[..., where] += np.einsum("...mni,...ni->...mi", change, x[..., where])
        total = total + discount * (_quadratic(lqr.Q, x) + _quadratic(lqr.R, u))
        noise = noise_root @ rng.standard_normal(shape)
        x, discount = lqr.A @ x + lqr.B @ u + noise, discount * lqr.gamma
    total = total + discount * _quadratic(terminal, x)
    return np.where(np.isfinite(total), total, np.inf)


def _quadratic(S: Array, x: Array) -> Array:
    """x'Sx of each column of x."""
    return (x * (S @ x)).sum(axis=-2)
