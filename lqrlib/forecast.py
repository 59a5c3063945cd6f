r"""What N trajectories of data will be worth, before they are made: first-order laws.

The data are of N(Kx, Σ), from x₀ ~ N(0, X₀), T steps each. Their z_t = (x_t, u_t) are
Gaussian with known moments S_t, so that the law of what is fitted to them is known to
first order in 1/√N. A *law* here is the covariance [mn, mn] of a gain, row by row, as
one trajectory's share: N trajectories have it divided by N.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrlib import _validate, exact, lyapunov
from lqrlib._validate import Array
from lqrlib.problem import LQR
from lqrlib.rates import curvature

Index = NDArray[np.int64]

_NODES = 32  # of Talbot's contour: eleven digits
_FAR = 1e25  # from where on a cumulative probability is 0 or 1, to these digits
_NEGLIGIBLE = 1e-11  # an eigenvalue of the second moments, after scaling


class CriticLaw(NamedTuple):
    """How LSTDQ's fixed point varies, as one trajectory's share.

    Parameters
    ----------
    gain : array, shape [mn, mn]
        Covariance of the gain where Ê vanishes; inf where Θ is not determined.
    curvature : float
        Largest standard deviation of a diagonal entry of Θ̂_uu over its true value.
    """

    gain: Array
    curvature: float


@_validate.within_floats("K")
def step_moments(lqr: LQR, K: ArrayLike, cov: ArrayLike, horizon: int) -> Array:
    """S_t = E[z_t z_t'] for z = (x, u) of N(Kx, Σ), t < T.

    X_{t+1} = (A + BK) X_t (A + BK)' + BΣB' + W, from X₀.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [m, n]
    cov : float or array, shape [m, m]
        Covariance Σ of the policy; a number σ² means σ²I; 0: deterministic.
    horizon : int
        T.

    Returns
    -------
    array, shape [T, n+m, n+m]

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.
    """
    gain, Sigma, T = _one_policy(lqr, K, cov, horizon)
    F, L = lqr.closed_loop(gain), _lift(gain)
    noise = np.zeros((lqr.n + lqr.m, lqr.n + lqr.m))
    noise[lqr.n :, lqr.n :] = Sigma
    enters = lqr.W + lqr.B @ Sigma @ lqr.B.T
    X, S = lqr.X0, np.empty((T, *noise.shape))
    for t in range(T):
        S[t] = L @ X @ L.T + noise
        X = F @ X @ F.T + enters
    return S


@_validate.within_floats("K")
def identifiable(lqr: LQR, K: ArrayLike, cov: ArrayLike, horizon: int) -> bool:
    """Whether Σ_t S_t ≻ 0: then, and only then, (A, B) follows from enough such data.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [m, n]
    cov : float or array, shape [m, m]
    horizon : int

    Returns
    -------
    bool
        False for every deterministic gain: u = Kx is the same plane for ever.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.
    """
    return _regular(step_moments(lqr, K, cov, horizon).sum(axis=0))


@_validate.within_floats("K")
def effective_rows(lqr: LQR, K: ArrayLike, cov: ArrayLike, horizon: int) -> float:
    """How many independent rows one trajectory is worth.

    d = p(p + 1) / Σ_{t,s} [(tr M_ts)² + tr(M_ts M_ts)], M_ts = L⁻¹ E[z_t z_s'] L'⁻¹

    with LL' = Σ_t S_t and p = n + m: Σ_t z_t z_t' of one trajectory varies about its
    mean as that of d independent rows does.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [m, n]
    cov : float or array, shape [m, m]
    horizon : int
        T.

    Returns
    -------
    float
        T if the rows are independent and alike; 0 where they do not determine (A, B).

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Equation (effective-rows) of `book/diagnose.md`.
    """
    S = step_moments(lqr, K, cov, horizon)
    total = S.sum(axis=0)
    if not _regular(total):
        return 0.0
    L, p = np.linalg.cholesky(total), len(total)
    back = np.linalg.inv(L)
    white = back @ S @ back.T
    AB = np.hstack([lqr.A, lqr.B])
    onward = back @ _lift(np.asarray(K, dtype=float)) @ AB @ L  # E[z_{t+1} | z_t]
    varies, ahead = _fluctuation(white), onward
    for lag in range(1, horizon):
        varies += 2.0 * _fluctuation(ahead @ white[:-lag])
        ahead = ahead @ onward
    return p * (p + 1) / varies


@_validate.within_floats("K")
def model_law(lqr: LQR, K: ArrayLike, cov: ArrayLike, horizon: int) -> Array:
    """Covariance of the optimal gain of the least-squares model.

    Errors D of (A, B) have covariance W ⊗ (Σ_t S_t)⁻¹, and move the optimal gain by
    −C⁻¹ dE with, for dF = D (I; K*),

    dE = γ (dB'P F + B' dP F + B'P dF),  dP = γ (F' dP F + dF'P F + F'P dF).

    Parameters
    ----------
    lqr : LQR
    K : array, shape [m, n]
        Gain of the policy that makes the data.
    cov : float or array, shape [m, m]
        Its covariance Σ.
    horizon : int
        T.

    Returns
    -------
    array, shape [mn, mn]
        inf where the data do not determine (A, B).

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or no gain is stable.

    Notes
    -----
    Equation (planned-law) of `book/diagnose.md`.
    """
    total = step_moments(lqr, K, cov, horizon).sum(axis=0)
    if not _regular(total):
        return np.full((lqr.m * lqr.n,) * 2, np.inf)
    slope = gain_slope(lqr).reshape(lqr.m * lqr.n, *lqr.A.shape[:1], -1)
    spread = np.einsum("aip,ij,pq,bjq->ab", slope, lqr.W, np.linalg.inv(total), slope)
    return 0.5 * (spread + spread.T)


def gain_slope(lqr: LQR) -> Array:
    """∂K*/∂(A, B), by implicit differentiation of E_{K*} = 0.

    Parameters
    ----------
    lqr : LQR

    Returns
    -------
    array, shape [m, n, n, n+m]
        Entry [..., i, p] belongs to entry (i, p) of [A B].

    Raises
    ------
    ValueError
        If no gain is stable.
    """
    _validate.instance("lqr", lqr, LQR)
    n, p, best = lqr.n, lqr.n + lqr.m, exact.optimal_gain(lqr)
    F, P = lqr.closed_loop(best), exact.value_matrix(lqr, best)
    D = np.eye(n * p).reshape(n * p, n, p)  # one entry of (A, B) after the other
    dF = D @ _lift(best)
    change = lqr.gamma * (dF.mT @ P @ F)
    dP = lyapunov.adjoint(np.sqrt(lqr.gamma) * F, change + change.mT)
    dE = lqr.gamma * (D[..., n:].mT @ P @ F + lqr.B.T @ (dP @ F + P @ dF))
    moved = -np.linalg.solve(curvature(lqr, best), dE)
    return np.moveaxis(moved, 0, -1).reshape(lqr.m, n, n, p)


@_validate.within_floats("K")
def critic_law(lqr: LQR, K: ArrayLike, cov: ArrayLike, horizon: int) -> CriticLaw:
    """Covariance of the gain at which policy iteration with LSTDQ stops.

    θ̂ − θ = (I − γΠ')⁻¹ G⁻¹ Σ_t φ_t e_t, with G = Σ_t E[φφ'], Πφ = E[φ(x₊, K*x₊) | z]
    and e = γ (V(x₊) − E[V(x₊) | z]), a martingale difference with
    Var(e | z) = γ² (4 μ'PWPμ + 2 tr(PWPW)), μ = Ax + Bu.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [m, n]
        Gain of the policy that makes the data.
    cov : float or array, shape [m, m]
        Its covariance Σ.
    horizon : int
        T.

    Returns
    -------
    CriticLaw

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, γ is 1, or no gain is stable.

    Notes
    -----
    Equation (critic-law) of `book/diagnose.md`. The sums over φ are fourth and sixth
    moments of Gaussian z_t (Isserlis, 1918).
    """
    _validate.instance("lqr", lqr, LQR)
    if lqr.gamma == 1.0:
        raise _validate.error("gamma", "below 1, for a finite value", lqr.gamma)
    S, best = step_moments(lqr, K, cov, horizon), exact.optimal_gain(lqr)
    if not _regular(S.sum(axis=0)):
        return CriticLaw(np.full((best.size,) * 2, np.inf), np.inf)
    theta, noise = _influence(lqr, S, best)
    each = _entries(lqr, np.linalg.solve(_backup(lqr, best), theta))
    C, n = curvature(lqr, best), lqr.n
    moves = np.linalg.solve(C, each[:, n:, n:] @ best + each[:, n:, :n])
    flat = moves.reshape(len(each), -1)
    diagonal = np.diagonal(each[:, n:, n:], axis1=1, axis2=2) / np.diag(C)
    spread = np.einsum("ka,kl,la->a", diagonal, noise, diagonal)
    return CriticLaw(flat.T @ noise @ flat, float(np.sqrt(spread.max())))


def median_rise(lqr: LQR, law: Array) -> float:
    """Median of J(K* + δ) − J* for δ ~ N(0, law), to second order in δ.

    tr(C_* δ X_* δ') is a sum of squares of independent normals with the eigenvalues of
    law^½ (C_* ⊗ X_*) law^½ for weights.

    Parameters
    ----------
    lqr : LQR
    law : array, shape [mn, mn]

    Returns
    -------
    float
        Proportional to the law, so for N trajectories divide the median by N. inf for
        a law that is not finite.

    Raises
    ------
    ValueError
        If the law has a wrong shape or type, or no gain is stable.
    """
    _validate.instance("lqr", lqr, LQR)
    law = _validate.result("law", law, (lqr.m * lqr.n,) * 2)
    if not np.isfinite(law).all():
        return np.inf
    best = exact.optimal_gain(lqr)
    form = np.kron(curvature(lqr, best), exact.state_moment(lqr, best))
    sizes, axes = np.linalg.eigh(form)  # not Cholesky: X_* may be singular
    root = axes * np.sqrt(np.clip(sizes, 0.0, None))
    scale = np.abs(law).max() or 1.0
    values = np.linalg.eigvalsh(root.T @ (law / scale) @ root)
    with np.errstate(over="ignore"):
        return float(scale * weighted_median(np.clip(values, 0.0, None)))


def weighted_median(weights: Array) -> float:
    """Median of Σ_i λ_i ξ_i² for independent standard normal ξ_i.

    Parameters
    ----------
    weights : array, shape [d]
        λ, at least 0.

    Returns
    -------
    float
        0 where all weights are.

    Raises
    ------
    ValueError
        If the weights are not finite numbers of at least 0.
    """
    weights = _weights(weights)
    scale = float(weights.max())
    if scale == 0.0:
        return 0.0
    weights = weights / scale
    mean = float(weights.sum())
    low, high = 0.0, 2.0 * mean  # Markov: at least half lies below twice the mean
    for _ in range(60):
        middle = 0.5 * (low + high)
        if weighted_cdf(weights, middle) < 0.5:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high) * scale


def weighted_cdf(weights: Array, x: float) -> float:
    """P(Σ_i λ_i ξ_i² ≤ x), its Laplace transform inverted along Talbot's contour.

    The transform is Π_i (1 + 2λ_i s)^−½ / s, with all its singularities on the
    negative axis, around which the contour goes.

    Parameters
    ----------
    weights : array, shape [d]
        λ, at least 0.
    x : float
        Above 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the weights are not finite numbers of at least 0, or x is not above 0.

    Notes
    -----
    Fixed Talbot method of Abate & Valkó (2004).
    """
    weights, x = _weights(weights), _validate.above_zero("x", x)
    scale = weights.max()
    if not x / _FAR < scale < x * _FAR:  # one of them is nothing beside the other
        return float(scale < x)
    weights, x = weights / scale, x / scale
    angle = np.pi * np.arange(1, _NODES) / _NODES
    cot, reach = 1.0 / np.tan(angle), 0.4 * _NODES / x
    s = np.append(reach + 0j, reach * angle * (cot + 1j))
    slope = np.append(0.5 + 0j, 1.0 + 1j * (angle + (angle * cot - 1.0) * cot))
    roots = np.sqrt(1.0 + 2.0 * np.multiply.outer(s, weights)).prod(axis=1)
    return float(0.4 / x * (np.exp(s * x) * slope / (roots * s)).real.sum())


def _weights(weights: Array) -> Array:
    found = _validate.real_array("weights", weights)
    if found.ndim != 1 or (found < 0.0).any():
        raise _validate.error("weights", "shape (d,), entries of at least 0", weights)
    return found


def _one_policy(
    lqr: LQR, K: ArrayLike, cov: ArrayLike, horizon: int
) -> tuple[Array, Array, int]:
    _validate.instance("lqr", lqr, LQR)
    gain = _validate.matrix("K", K, (lqr.m, lqr.n))
    Sigma = _validate.covariance("cov", cov, lqr.m)
    if Sigma.ndim > 2:
        raise _validate.error("cov", "one covariance", f"shape {Sigma.shape}")
    return gain, Sigma, _validate.count("horizon", horizon)


def _lift(K: Array) -> Array:
    """(I; K), for (x, Kx) from x."""
    return np.vstack([np.eye(K.shape[1]), K])


def _regular(S: Array) -> bool:
    """Whether S ≻ 0 by more than rounding, whatever the units of its rows."""
    sizes = np.sqrt(np.diag(S))
    if not (sizes > 0.0).all():
        return False
    return bool(np.linalg.eigvalsh(S / np.outer(sizes, sizes))[0] > _NEGLIGIBLE)


def _fluctuation(M: Array) -> float:
    """Σ_t (tr M_t)² + tr(M_t M_t)."""
    traces = np.trace(M, axis1=1, axis2=2)
    return float(traces @ traces + np.einsum("tij,tji->", M, M))


def _influence(lqr: LQR, S: Array, K: Array) -> tuple[Array, Array]:
    """G⁻¹ by columns, and Σ_t E[φφ' Var(e | z)], for white z.

    Products of (x, u) have the square of the condition of S, which with little noise
    is lost to rounding; those of ζ = L⁻¹z with LL' = Σ_t S_t / T have not. A Θ of ζ is
    L⁻ᵀΘL⁻¹ of z.
    """
    L = np.linalg.cholesky(S.mean(axis=0))
    back = np.linalg.inv(L)
    H, h = _residual(lqr, K)
    G, noise = _gram(back @ S @ back.T, L.T @ H @ L, h)
    columns = np.linalg.inv(G)
    Theta = back.T @ _entries(lqr, columns) @ back
    i, j = np.triu_indices(len(L))
    return np.vstack([Theta[:, i, j].T, columns[-1:]]), noise


def _residual(lqr: LQR, K: Array) -> tuple[Array, float]:
    """H and h of Var(e | z) = z'Hz + h."""
    P, M = exact.value_matrix(lqr, K), np.hstack([lqr.A, lqr.B])
    H = 4.0 * lqr.gamma**2 * M.T @ P @ lqr.W @ P @ M
    return H, 2.0 * lqr.gamma**2 * float(np.trace(P @ lqr.W @ P @ lqr.W))


def _gram(S: Array, H: Array, h: float) -> tuple[Array, Array]:
    """Σ_t E[φφ'] and Σ_t E[φφ' (z'Hz + h)], for φ = (z_i z_j, twice i < j; 1)."""
    U = S @ H @ S
    level = np.einsum("tij,ij->t", S, H) + h  # E[z'Hz + h]
    i, j = np.triu_indices(S.shape[-1])
    twice = np.append(np.where(i == j, 1.0, 2.0), 1.0)
    plain, weighted = np.empty((2, len(twice), len(twice)))
    plain[:-1, :-1] = _pairings(S, S, i, j)
    weighted[:-1, :-1] = _pairings(level[:, None, None] * S, S, i, j)
    weighted[:-1, :-1] += 2.0 * _pairings(U, S, i, j)
    weighted[:-1, :-1] += 2.0 * _pairings(S, U, i, j)
    second = (level[:, None, None] * S + 2.0 * U).sum(axis=0)
    for gram, square, one in (
        (plain, S.sum(axis=0), float(len(S))),
        (weighted, second, level.sum()),
    ):
        gram[:-1, -1] = gram[-1, :-1] = square[i, j]
        gram[-1, -1] = one
    return plain * np.outer(twice, twice), weighted * np.outer(twice, twice)


def _pairings(S: Array, U: Array, i: Index, j: Index) -> Array:
    """Σ_t of S_ij U_kl + S_ik U_jl + S_il U_jk, for (i, j) and (k, l) in turn."""
    apart: Array = S[:, i, j].T @ U[:, i, j]
    whole = np.tensordot(S, U, (0, 0))
    first, second = i[:, None], j[:, None]
    mixed: Array = whole[first, i, second, j] + whole[first, j, second, i]
    return np.add(apart, mixed)


def _backup(lqr: LQR, K: Array) -> Array:
    """(I − γΠ)' on θ: Θ − γ N'ΘN with N = (I; K)(A, B), and the constant's share."""
    L = _lift(K)
    basis = _entries(lqr, np.eye(_size(lqr)))
    N, i, j = L @ np.hstack([lqr.A, lqr.B]), *np.triu_indices(len(L))
    image = np.eye(len(basis))
    moved = lqr.gamma * N.T @ basis @ N
    image[:-1] -= moved[:, i, j].T
    image[-1] -= lqr.gamma * np.einsum("kpq,pq->k", L.T @ basis @ L, lqr.W)
    image[-1, -1] = 1.0 - lqr.gamma
    return image


def _size(lqr: LQR) -> int:
    width = lqr.n + lqr.m
    return width * (width + 1) // 2 + 1


def _entries(lqr: LQR, columns: Array) -> Array:
    """Θ [k, n+m, n+m] from each of k columns of (Θ_ij for i ≤ j; constant)."""
    width = lqr.n + lqr.m
    i, j = np.triu_indices(width)
    Theta = np.empty((columns.shape[1], width, width))
    Theta[:, i, j] = Theta[:, j, i] = columns[:-1].T
    return Theta
