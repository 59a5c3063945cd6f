r"""Everything about T stages that has a closed form: one gain for each stage.

minimise  J = E [ Σ_{t<T} γᵗ (x_t'Q x_t + u_t'R u_t) + γᵀ x_T'Q_T x_T ]
where     u_t ~ N(K_t x_t, Σ)

Stage gains are K [..., T, m, n]; Q_T ⪰ 0 is the *terminal* cost, zero unless given.
With a finite T every gain has a finite cost, so nothing here asks for stability; what
grows beyond the floats costs inf, and has nan for its gradient.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _steps, _validate
from lqrlib._validate import Array
from lqrlib.problem import LQR

_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class StageEvaluation(NamedTuple):
    """All exact quantities of stage gains; leading axes of K (and of cov).

    Parameters
    ----------
    cost : array, shape [...]
        J, inf where too large for a float.
    gradient : array, shape [..., T, m, n]
        ∇_t J = 2 E_t X_t.
    P : array, shape [..., T+1, n, n]
        Value matrices; the last one is the terminal cost.
    X : array, shape [..., T+1, n, n]
        Discounted second moments γᵗ E[x_t x_t'].
    E : array, shape [..., T, m, n]
        Gain errors.
    """

    cost: Array
    gradient: Array
    P: Array
    X: Array
    E: Array


def constant(lqr: LQR, K: ArrayLike, horizon: int) -> Array:
    """One gain at every stage.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    horizon : int
        T.

    Returns
    -------
    array, shape [..., T, m, n]
        A read-only view.

    Raises
    ------
    ValueError
        If K has a wrong shape or entry, or ``horizon`` is not a whole number ≥ 1.
    """
    _validate.instance("lqr", lqr, LQR)
    gain, T = lqr.gain(K), _validate.count("horizon", horizon)
    shape = (*gain.shape[:-2], T, lqr.m, lqr.n)
    return np.broadcast_to(gain[..., None, :, :], shape)


def value_matrices(
    lqr: LQR, K: ArrayLike, *, terminal: ArrayLike | None = None
) -> Array:
    """P_t = Q + K_t'RK_t + γ(A+BK_t)'P_{t+1}(A+BK_t), backwards from P_T = Q_T.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., T, m, n]
    terminal : array, shape [n, n], optional
        Q_T ⪰ 0; zero if not given.

    Returns
    -------
    array, shape [..., T+1, n, n]
        Symmetric, ⪰ 0.

    Raises
    ------
    ValueError
        If K or ``terminal`` has a wrong shape or entry.

    Notes
    -----
    Equation (stage-values) of `book/finite_horizon.md`; Hambly, Xu & Yang (2021),
    eq. (3.9), for u = −Kx.
    """
    return _values(lqr, stages(lqr, K), terminal_cost(lqr, terminal))


def state_moments(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Array:
    """X_t = γᵗ E[x_t x_t'], with X_{t+1} = γ(A+BK_t)X_t(A+BK_t)' + γᵗ⁺¹(W + BΣB').

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., T, m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the actions at every stage; a number σ² means σ²I.

    Returns
    -------
    array, shape [..., T+1, n, n]
        Symmetric, ⪰ 0. Their sum over t < T tends to `lqrlib.exact.state_moment`.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry.

    Notes
    -----
    Equation (stage-moments) of `book/finite_horizon.md`.
    """
    gains = stages(lqr, K)
    return _moments(lqr, gains, _covariance(lqr, gains, cov))


def gain_errors(lqr: LQR, K: ArrayLike, *, terminal: ArrayLike | None = None) -> Array:
    """E_t = (R + γB'P_{t+1}B)K_t + γB'P_{t+1}A.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., T, m, n]
    terminal : array, shape [n, n], optional
        Q_T ⪰ 0; zero if not given.

    Returns
    -------
    array, shape [..., T, m, n]

    Raises
    ------
    ValueError
        If K or ``terminal`` has a wrong shape or entry.

    Notes
    -----
    Equation (stage-gradient) of `book/finite_horizon.md`; Hambly, Xu & Yang (2021),
    eq. (3.11), for u = −Kx.
    """
    gains = stages(lqr, K)
    return _errors(lqr, gains, _values(lqr, gains, terminal_cost(lqr, terminal)))


def cost(
    lqr: LQR,
    K: ArrayLike,
    cov: ArrayLike | None = 0.0,
    *,
    terminal: ArrayLike | None = None,
) -> Array:
    """J = tr(P_0X₀) + Σ_{t<T} (γᵗ⁺¹ tr(P_{t+1}(W + BΣB')) + γᵗ tr(RΣ)).

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., T, m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the actions at every stage; a number σ² means σ²I.
    terminal : array, shape [n, n], optional
        Q_T ⪰ 0; zero if not given.

    Returns
    -------
    array, shape [...]

    Raises
    ------
    ValueError
        If K, cov or ``terminal`` has a wrong shape or entry.

    Notes
    -----
    Equation (stage-cost-trace) of `book/finite_horizon.md`.
    """
    gains = stages(lqr, K)
    Sigma = _covariance(lqr, gains, cov)
    return _cost(lqr, _values(lqr, gains, terminal_cost(lqr, terminal)), Sigma)


def gradient(
    lqr: LQR,
    K: ArrayLike,
    cov: ArrayLike | None = 0.0,
    *,
    terminal: ArrayLike | None = None,
) -> Array:
    """∇_t J = 2 E_t X_t, the derivative in the gain of each stage.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., T, m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the actions at every stage; a number σ² means σ²I.
    terminal : array, shape [n, n], optional
        Q_T ⪰ 0; zero if not given.

    Returns
    -------
    array, shape [..., T, m, n]
        Its sum over stages is the gradient in one gain used at all of them.

    Raises
    ------
    ValueError
        If K, cov or ``terminal`` has a wrong shape or entry.

    Notes
    -----
    Equation (stage-gradient) of `book/finite_horizon.md`; Hambly, Xu & Yang (2021),
    Lemma 3.5.
    """
    return evaluate(lqr, K, cov, terminal=terminal).gradient


@_overflow_is_data
def evaluate(
    lqr: LQR,
    K: ArrayLike,
    cov: ArrayLike | None = 0.0,
    *,
    terminal: ArrayLike | None = None,
) -> StageEvaluation:
    """Cost, gradient and the matrices behind them, in one pass each way.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., T, m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the actions at every stage; a number σ² means σ²I.
    terminal : array, shape [n, n], optional
        Q_T ⪰ 0; zero if not given.

    Returns
    -------
    StageEvaluation

    Raises
    ------
    ValueError
        If K, cov or ``terminal`` has a wrong shape or entry.
    """
    gains = stages(lqr, K)
    Sigma = _covariance(lqr, gains, cov)
    P = _values(lqr, gains, terminal_cost(lqr, terminal))
    X, E = _moments(lqr, gains, Sigma), _errors(lqr, gains, P)
    J, found = _cost(lqr, P, Sigma), 2.0 * E @ X[..., :-1, :, :]
    kept = np.isfinite(found).all(axis=(-3, -2, -1)) & np.isfinite(J)
    found = np.where(kept[..., None, None, None], found, np.nan)
    P, E = (np.broadcast_to(M, (*J.shape, *M.shape[-3:])) for M in (P, E))
    return StageEvaluation(J, found, P, X, E)


@_overflow_is_data
def optimal_gains(
    lqr: LQR, horizon: int, *, terminal: ArrayLike | None = None
) -> Array:
    """K*_t = −(R + γB'P_{t+1}B)⁻¹γB'P_{t+1}A, backwards from P_T = Q_T.

    Parameters
    ----------
    lqr : LQR
    horizon : int
        T.
    terminal : array, shape [n, n], optional
        Q_T ⪰ 0; zero if not given.

    Returns
    -------
    array, shape [T, m, n]
        For every covariance of the actions. The last gain is zero without a terminal
        cost; far from the end they approach `lqrlib.exact.optimal_gain`.

    Raises
    ------
    ValueError
        If ``horizon`` is not a whole number ≥ 1, or so long that the optimal cost
        leaves the floats; if ``terminal`` has a wrong shape or entry; if R + γB'PB is
        singular in floats.

    Notes
    -----
    Equation (stage-riccati) of `book/finite_horizon.md`.
    """
    _validate.instance("lqr", lqr, LQR)
    T, P = _validate.count("horizon", horizon), terminal_cost(lqr, terminal)
    gains = np.zeros((T, lqr.m, lqr.n))
    for t in reversed(range(T)):
        C = _curvature(lqr, P)
        gains[t] = -_steps.solved(C, lqr.gamma * lqr.B.T @ P @ lqr.A)
        if not np.isfinite(gains[t]).all():
            raise _no_optimum(T, C)
        P = _before(lqr, gains[t], P)
    return gains


def _no_optimum(horizon: int, C: Array) -> ValueError:
    if np.isfinite(C).all():
        wanted = "R large enough beside γB'PB for their sum to have an inverse"
        return _validate.error("lqr", wanted, "a sum that is singular in floats")
    wanted = "an optimal cost that fits a float"
    return _validate.error("horizon", wanted, f"{horizon} stages")


def stages(lqr: LQR, K: ArrayLike) -> Array:
    """Stage gains as a checked float64 array; the copy is the caller's.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., T, m, n]

    Returns
    -------
    array, shape [..., T, m, n]

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (T, m, n).
    """
    _validate.instance("lqr", lqr, LQR)
    return _validate.stages("K", K, (lqr.m, lqr.n))


def terminal_cost(lqr: LQR, terminal: ArrayLike | None) -> Array:
    """Q_T as a checked float64 array, zero for ``None``.

    Parameters
    ----------
    lqr : LQR
    terminal : array, shape [n, n], or None

    Returns
    -------
    array, shape [n, n]

    Raises
    ------
    ValueError
        If ``terminal`` is not real, finite, symmetric and ⪰ 0 of shape (n, n).
    """
    _validate.instance("lqr", lqr, LQR)
    if terminal is None:
        return np.zeros((lqr.n, lqr.n))
    return _validate.semidefinite("terminal", terminal, lqr.n)


def _covariance(lqr: LQR, K: Array, cov: ArrayLike | None) -> Array:
    Sigma = _validate.covariance("cov", cov, lqr.m)
    _validate.leading("cov", Sigma, 2, K.shape[:-3])
    return Sigma


def _curvature(lqr: LQR, P: Array) -> Array:
    return lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B


def _before(lqr: LQR, K: Array, P: Array) -> Array:
    """The value matrix one stage earlier, kept symmetric against rounding."""
    F = lqr.closed_loop(K)
    earlier = lqr.Q + K.mT @ lqr.R @ K + lqr.gamma * F.mT @ P @ F
    return 0.5 * earlier + 0.5 * earlier.mT


@_overflow_is_data
def _values(lqr: LQR, K: Array, terminal: Array) -> Array:
    *lead, T, _, n = K.shape
    P = np.empty((*lead, T + 1, n, n))
    P[..., T, :, :] = terminal
    for t in reversed(range(T)):
        P[..., t, :, :] = _before(lqr, K[..., t, :, :], P[..., t + 1, :, :])
    return P


@_overflow_is_data
def _moments(lqr: LQR, K: Array, Sigma: Array) -> Array:
    lead = np.broadcast_shapes(K.shape[:-3], Sigma.shape[:-2])
    T, n = K.shape[-3], lqr.n
    X, noise = np.empty((*lead, T + 1, n, n)), lqr.W + lqr.B @ Sigma @ lqr.B.T
    X[..., 0, :, :] = lqr.X0
    F = lqr.closed_loop(K)
    for t in range(T):
        moved = F[..., t, :, :] @ X[..., t, :, :] @ F[..., t, :, :].mT
        after = lqr.gamma * moved + lqr.gamma ** (t + 1) * noise
        X[..., t + 1, :, :] = 0.5 * after + 0.5 * after.mT
    return X


@_overflow_is_data
def _errors(lqr: LQR, K: Array, P: Array) -> Array:
    ahead = P[..., 1:, :, :]
    return _curvature(lqr, ahead) @ K + lqr.gamma * lqr.B.T @ ahead @ lqr.A


@_overflow_is_data
def _cost(lqr: LQR, P: Array, Sigma: Array) -> Array:
    discounts = lqr.gamma ** np.arange(P.shape[-3])
    noise = (lqr.W + lqr.B @ Sigma @ lqr.B.T)[..., None, :, :]
    starts = np.einsum("...ij,ij->...", P[..., 0, :, :], lqr.X0)
    pushes = np.einsum("...tij,...tij,t->...", P[..., 1:, :, :], noise, discounts[1:])
    exploring = np.einsum("ij,...ij->...", lqr.R, Sigma) * discounts[:-1].sum()
    total = starts + pushes + exploring
    return np.where(np.isfinite(total), total, np.inf)
