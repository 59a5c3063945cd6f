"""Moments of a trajectory's weight, exactly: which exist, and how large they are."""

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._steps import root
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR


def second_moment(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    horizon: int,
) -> Array:
    """E[w²] of a trajectory's weight, exactly; inf where it does not exist.

    With one Σ for both policies, Δ = K − K_b and S = Δ'Σ⁻¹Δ, it is E exp Σ_t x_t'S x_t
    for a world that moves by F = A + B(2K − K_b) under noise N = W + BΣB'. Backwards
    from M = S: M ← S + F'M(I − 2NM)⁻¹F, with a factor det(I − 2NM)^(−½) each time, and
    X₀ in the place of N at the end.

    Parameters
    ----------
    lqr : LQR
        x₀ and w must be Gaussian, as they are here.
    K : array, shape [..., m, n]
        Gain of the policy that the weights speak of.
    K_behaviour : array, shape [..., m, n]
        Gain of the policy that made the data.
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of both policies.
    horizon : int
        T.

    Returns
    -------
    array, shape [...]
        At least 1; 1 only where the two policies agree.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.
    """
    target, behaviour = (
        lqr.gain(K),
        _validate.stack("K_behaviour", K_behaviour, (lqr.m, lqr.n)),
    )
    Sigma = _validate.covariance("cov", cov, lqr.m, strict=True)
    T = _validate.count("horizon", horizon)
    _validate.leading("K_behaviour", behaviour, 2, target.shape[:-2])
    change = target - behaviour
    _validate.leading("cov", Sigma, 2, change.shape[:-2])
    with np.errstate(over="ignore", invalid="ignore"):
        S = change.mT @ np.linalg.solve(Sigma, change)
        F = lqr.A + lqr.B @ (target + change)
        noise = root(lqr.W + lqr.B @ Sigma @ lqr.B.T)
        M, log_moment = S, np.zeros(S.shape[:-2])
        for t in range(T):
            through, log_factor = _exponential(M, noise if t < T - 1 else root(lqr.X0))
            log_moment = log_moment + log_factor
            M = S + F.mT @ through @ F
        return np.exp(log_moment)


def _exponential(M: Array, L: Array) -> tuple[Array, Array]:
    """For e ~ N(0, LL'): M(I − 2LL'M)⁻¹, and log E exp(e'Me), inf where there is none.

    In symmetric form, M + 2ML(I − 2L'ML)⁻¹L'M. Past the border M is set to 0: nothing
    after it counts.
    """
    inner = np.eye(M.shape[-1]) - 2.0 * L.mT @ M @ L
    finite: Flags = np.isfinite(inner)
    inner = np.where(finite.all(axis=(-2, -1), keepdims=True), inner, 0.0)
    values, vectors = np.linalg.eigh(inner)
    exists: Flags = np.greater(values[..., 0], 0.0)
    values = np.where(exists[..., None], values, 1.0)
    across = M @ L @ vectors / np.sqrt(values)[..., None, :]
    through = np.where(exists[..., None, None], M + 2.0 * across @ across.mT, 0.0)
    return through, np.where(exists, -0.5 * np.log(values).sum(axis=-1), np.inf)
