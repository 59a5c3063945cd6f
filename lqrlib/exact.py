r"""Everything about a gain K that has a closed form.

Notation: F = A + BK; everything is a function of K and broadcasts over its leading
axes. A gain is *stable* here when √γ ρ(F) < 1, which is when its cost is finite.
Unstable gains are data, not errors: J = inf, and nan for P, X, Θ, E and gradients.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _steps, _validate, lyapunov
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR

# A cost too large for a float is infinite: the same data as an unstable gain.
_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class Evaluation(NamedTuple):
    """All of a gain's exact quantities at once; leading axes of K (and of cov).

    Parameters
    ----------
    cost : array, shape [...]
        J(K, Σ), inf where K is unstable.
    gradient : array, shape [..., m, n]
        ∇J = 2 E_K X_K.
    P : array, shape [..., n, n]
        Value matrix.
    X : array, shape [..., n, n]
        Discounted second moment of the state.
    E : array, shape [..., m, n]
        Gain error.
    stable : array of bool, shape [...]
        Whether the cost is finite.
    """

    cost: Array
    gradient: Array
    P: Array
    X: Array
    E: Array
    stable: Flags


def is_stable(lqr: LQR, K: ArrayLike) -> Flags:
    """Whether √γ ρ(A + BK) < 1, so that the discounted cost is finite.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]

    Returns
    -------
    array of bool, shape [...]

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (m, n).
    """
    _validate.instance("lqr", lqr, LQR)
    return lyapunov.is_stable(_discounted_loop(lqr, lqr.gain(K)))


def value_matrix(lqr: LQR, K: ArrayLike) -> Array:
    """P_K, solving P = Q + K'RK + γ(A+BK)'P(A+BK); then V(x) = x'Px + const.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., n, n]
        Symmetric, ⪰ 0; nan where K is unstable.

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (m, n).

    Notes
    -----
    Equation (value-matrix) of `book/known_world.md`. Fazel et al. (2018) write it
    for u = −Kx.
    """
    _validate.instance("lqr", lqr, LQR)
    K = lqr.gain(K)
    return lyapunov.adjoint(_discounted_loop(lqr, K), _stage_cost(lqr, K))


@_overflow_is_data
def state_moment(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Array:
    """X_K = Σ_t γᵗ E[x_t x_t'], the discounted second moment of the state.

    Solves X = X₀ + γ/(1−γ)(W + BΣB') + γ(A+BK)X(A+BK)'.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy N(Kx, Σ); a number σ² means σ²I; 0: deterministic.

    Returns
    -------
    array, shape [..., n, n]
        Symmetric, ⪰ 0; nan where K is unstable.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry; if γ = 1 while W or Σ is not zero.

    Notes
    -----
    Equation (state-moment) of `book/known_world.md`.
    """
    _validate.instance("lqr", lqr, LQR)
    K = lqr.gain(K)
    Sigma = _policy_covariance(lqr, K, cov)
    return lyapunov.forward(_discounted_loop(lqr, K), _moment_source(lqr, Sigma))


@_overflow_is_data
def moment_source(lqr: LQR, cov: ArrayLike | None = 0.0) -> Array:
    """S = X₀ + γ/(1−γ)(W + BΣB'): what enters the state, discounted and summed.

    Parameters
    ----------
    lqr : LQR
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy N(Kx, Σ); a number σ² means σ²I; 0: deterministic.

    Returns
    -------
    array, shape [..., n, n]
        Symmetric, ⪰ 0. X_K ⪰ S for every stable gain.

    Raises
    ------
    ValueError
        If cov has a wrong shape or entry; if γ = 1 while W or Σ is not zero.
    """
    _validate.instance("lqr", lqr, LQR)
    return _moment_source(lqr, _validate.covariance("cov", cov, lqr.m))


@_overflow_is_data
def q_matrix(lqr: LQR, K: ArrayLike) -> Array:
    """Θ_K with Q(x, u) = z'Θz + const, z = (x, u).

    Θ = [[Q + γA'PA, γA'PB], [γB'PA, R + γB'PB]] with P = P_K.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., n+m, n+m]
        Symmetric, ⪰ 0; nan where K is unstable.

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (m, n).

    Notes
    -----
    Equation (q-matrix) of `book/known_world.md`. Bradtke (1993).
    """
    P = value_matrix(lqr, K)
    AB = np.hstack([lqr.A, lqr.B])
    stage = np.zeros((lqr.n + lqr.m, lqr.n + lqr.m))
    stage[: lqr.n, : lqr.n] = lqr.Q
    stage[lqr.n :, lqr.n :] = lqr.R
    return stage + lqr.gamma * AB.T @ P @ AB


@_overflow_is_data
def gain_error(lqr: LQR, K: ArrayLike) -> Array:
    """E_K = (R + γB'PB)K + γB'PA; half of ∂Q/∂u at u = Kx is E_K x.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., m, n]
        Zero at the optimal gain only; nan where K is unstable.

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (m, n).

    Notes
    -----
    Equation (gain-error) of `book/known_world.md`. Fazel et al. (2018) write it
    for u = −Kx.
    """
    _validate.instance("lqr", lqr, LQR)
    K = lqr.gain(K)
    return _gain_error(lqr, K, value_matrix(lqr, K))


@_overflow_is_data
def cost(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Array:
    """J(K, Σ) = tr(P X₀) + γ/(1−γ) tr(P(W + BΣB')) + tr(RΣ)/(1−γ).

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy N(Kx, Σ); a number σ² means σ²I; 0: deterministic.

    Returns
    -------
    array, shape [...]
        inf where K is unstable.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry; if γ = 1 while W or Σ is not zero.

    Notes
    -----
    Equation (cost-trace) of `book/known_world.md`.
    """
    _validate.instance("lqr", lqr, LQR)
    K = lqr.gain(K)
    Sigma = _policy_covariance(lqr, K, cov)
    return _cost(lqr, value_matrix(lqr, K), Sigma, _moment_source(lqr, Sigma))


def gradient(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Array:
    """∇_K J(K, Σ) = 2 E_K X_K.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy N(Kx, Σ); a number σ² means σ²I; 0: deterministic.

    Returns
    -------
    array, shape [..., m, n]
        nan where K is unstable.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry; if γ = 1 while W or Σ is not zero.

    Notes
    -----
    Fazel et al. (2018), Lemma 1; X_K carries the discount and Σ.
    """
    return evaluate(lqr, K, cov).gradient


@_overflow_is_data
def evaluate(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Evaluation:
    """Cost, gradient and the matrices behind them, for many gains in one call.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy N(Kx, Σ); a number σ² means σ²I; 0: deterministic.

    Returns
    -------
    Evaluation
        Unstable gains have cost inf, ``stable`` False and nan elsewhere.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry; if γ = 1 while W or Σ is not zero.
    """
    _validate.instance("lqr", lqr, LQR)
    K = lqr.gain(K)
    Sigma = _policy_covariance(lqr, K, cov)
    source = _moment_source(lqr, Sigma)
    X, P = lyapunov.both(_discounted_loop(lqr, K), source, _stage_cost(lqr, K))
    E = _gain_error(lqr, K, P)
    J = _cost(lqr, P, Sigma, source)
    return Evaluation(J, 2.0 * E @ X, P, X, E, np.isfinite(J))


@_overflow_is_data
def natural_gradient(lqr: LQR, K: ArrayLike) -> Array:
    """2 E_K: the gradient ∇J with the state moment X_K divided out (whitened).

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., m, n]
        nan where K is unstable.

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (m, n).

    Notes
    -----
    Fazel et al. (2018), eq. (4); Kakade (2001), "A natural policy gradient".
    """
    return 2.0 * gain_error(lqr, K)


@_overflow_is_data
def gauss_newton(lqr: LQR, K: ArrayLike) -> Array:
    """(R + γB'PB)⁻¹E_K; subtracting it in full is one step of policy iteration.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., m, n]
        nan where K is unstable, and where R is so small beside γB'PB that their sum is
        singular in floats.

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (m, n).

    Notes
    -----
    Fazel et al. (2018), Theorem 7: the Gauss–Newton update with step 1.
    """
    _validate.instance("lqr", lqr, LQR)
    K = lqr.gain(K)
    P = value_matrix(lqr, K)
    return _steps.solved(_curvature(lqr, P), _gain_error(lqr, K, P))


@_overflow_is_data
def optimal_gain(lqr: LQR) -> Array:
    """K* = −(R + γB'PB)⁻¹γB'PA, with P from the discrete Riccati equation.

    Parameters
    ----------
    lqr : LQR

    Returns
    -------
    array, shape [m, n]

    Raises
    ------
    ValueError
        If no gain makes the discounted cost finite: then there is no optimum.

    Notes
    -----
    SciPy's solver for (√γA, √γB, Q, R); equation (riccati) of `book/known_world.md`.
    """
    _validate.instance("lqr", lqr, LQR)
    # Imported here: `import lqrlib` stays quick without SciPy's linear algebra.
    from scipy.linalg import solve_discrete_are

    A, B = np.sqrt(lqr.gamma) * lqr.A, np.sqrt(lqr.gamma) * lqr.B
    # K* does not depend on the unit of cost, but the accuracy of the solver does.
    unit = np.abs(lqr.R).max()
    Q, R = lqr.Q / unit, lqr.R / unit
    try:
        P = solve_discrete_are(A, B, Q, R)
        K = -np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    except (np.linalg.LinAlgError, ValueError) as failure:
        raise _no_optimum() from failure
    # The Riccati equation can have other solutions; only this check tells.
    if not (np.isfinite(K).all() and is_stable(lqr, K)):
        raise _no_optimum()
    return K


@_overflow_is_data
def average_cost(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Array:
    """Long-run cost per step, lim E[x'Qx + u'Ru]; γ and X₀ play no part.

    tr(P(W + BΣB')) + tr(RΣ) with P = Q + K'RK + (A+BK)'P(A+BK).

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy N(Kx, Σ); a number σ² means σ²I; 0: deterministic.

    Returns
    -------
    array, shape [...]
        inf where ρ(A + BK) ≥ 1.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry.
    """
    _validate.instance("lqr", lqr, LQR)
    K = lqr.gain(K)
    Sigma = _policy_covariance(lqr, K, cov)
    P = lyapunov.adjoint(lqr.closed_loop(K), _stage_cost(lqr, K))
    noise = lqr.W + lqr.B @ Sigma @ lqr.B.T
    return _or_inf(_trace(P, noise) + _trace(lqr.R, Sigma))


def _no_optimum() -> ValueError:
    return _validate.error(
        "lqr", "a world that some gain stabilises", "no stabilising solution in floats"
    )


def _discounted_loop(lqr: LQR, K: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(lqr.gamma) * (lqr.A + lqr.B @ K)


def _stage_cost(lqr: LQR, K: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return lqr.Q + K.mT @ lqr.R @ K


def _curvature(lqr: LQR, P: Array) -> Array:
    """R + γB'PB, half the second derivative of Q(x, u) in u."""
    return lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B


def _gain_error(lqr: LQR, K: Array, P: Array) -> Array:
    return _curvature(lqr, P) @ K + lqr.gamma * lqr.B.T @ P @ lqr.A


def _cost(lqr: LQR, P: Array, Sigma: Array, source: Array) -> Array:
    exploration = _trace(lqr.R, Sigma) * _tail_weight(lqr, Sigma) / lqr.gamma
    return _or_inf(_trace(P, source) + exploration)


def _moment_source(lqr: LQR, Sigma: Array) -> Array:
    """X₀ + γ/(1−γ)(W + BΣB'): what enters the state, discounted and summed."""
    noise = lqr.W + lqr.B @ Sigma @ lqr.B.T
    return lqr.X0 + _tail_weight(lqr, Sigma) * noise


def _tail_weight(lqr: LQR, Sigma: Array) -> float:
    """Σ_{t≥1} γᵗ = γ/(1−γ); 0 at γ = 1 where there is no noise to be weighted."""
    if lqr.gamma < 1.0:
        return lqr.gamma / (1.0 - lqr.gamma)
    if lqr.W.any() or Sigma.any():
        raise _validate.error(
            "gamma", "below 1 when W or cov is not zero (or average_cost)", 1.0
        )
    return 0.0


def _policy_covariance(lqr: LQR, K: Array, cov: ArrayLike | None) -> Array:
    Sigma = _validate.covariance("cov", cov, lqr.m)
    _validate.leading("cov", Sigma, 2, K.shape[:-2])
    return Sigma


def _trace(S: Array, M: Array) -> Array:
    """tr(S M) for symmetric S and M, over leading axes."""
    return np.einsum("...ij,...ij->...", S, M)


def _or_inf(total: Array) -> Array:
    return np.where(np.isfinite(total), total, np.inf)
