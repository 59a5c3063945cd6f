r"""How the cost answers a change of gain: an identity, then bounds and rates from it.

With Δ = K₊ − K, C = R + γB'P_KB and S = X₀ + γ/(1−γ)(W + BΣB') everything here follows
from the one identity of `cost_change`. A *method* is the name of a direction in
`lqrlib.exact`: K ← K − η · direction(K).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _steps, _validate, exact
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR

METHODS = ("gradient", "natural_gradient", "gauss_newton")

_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class Domination(NamedTuple):
    """The excess cost of a gain and two upper bounds on it, in ascending order.

    Parameters
    ----------
    excess : array, shape [...]
        J(K) − J*.
    by_improvement : array, shape [...]
        tr(X_* E'C⁻¹E), what one full Gauss–Newton step offers, at the optimum's states.
    by_gradient : array, shape [...]
        ‖X_*‖ / (4 σ_min(S)² σ_min(R)) · ‖∇J‖²; inf where S is singular.
    """

    excess: Array
    by_improvement: Array
    by_gradient: Array


def direction(
    lqr: LQR, method: str, cov: ArrayLike | None = 0.0
) -> Callable[[Array], Array]:
    """The direction of a method, as a function of the gain.

    Parameters
    ----------
    lqr : LQR
    method : str
        ``"gradient"``, 2E_KX_K; ``"natural_gradient"``, 2E_K; or
        ``"gauss_newton"``, (R + γB'PB)⁻¹E_K.
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy; only the gradient depends on it.

    Returns
    -------
    callable
        K [..., m, n] → [..., m, n].

    Raises
    ------
    ValueError
        If there is no such method, or cov has a wrong shape or entry.
    """
    _validate.instance("lqr", lqr, LQR)
    _check(method)
    Sigma = _validate.covariance("cov", cov, lqr.m)
    if method == "gradient":
        return lambda K: exact.gradient(lqr, K, Sigma)
    plain = exact.gauss_newton if method == "gauss_newton" else exact.natural_gradient
    return lambda K: plain(lqr, K)


@_overflow_is_data
def curvature(lqr: LQR, K: ArrayLike) -> Array:
    """C = R + γB'PB, half the second derivative of Q(x, u) in u.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., m, m]
        Symmetric, ≻ 0; nan where K is unstable.

    Raises
    ------
    ValueError
        If K is not real and finite with last axes (m, n).
    """
    return exact.q_matrix(lqr, K)[..., lqr.n :, lqr.n :]


@_overflow_is_data
def cost_change(
    lqr: LQR, K: ArrayLike, K_new: ArrayLike, cov: ArrayLike | None = 0.0
) -> Array:
    """J(K₊) − J(K) = tr(X_{K₊} (2Δ'E_K + Δ'CΔ)), with Δ = K₊ − K.

    Parameters
    ----------
    lqr : LQR
    K, K_new : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy; a number σ² means σ²I.

    Returns
    -------
    array, shape [...]
        inf where only K_new is unstable, or costs too much for a float; nan where K is.

    Raises
    ------
    ValueError
        If K, K_new or cov has a wrong shape or entry; if γ = 1 while W or Σ is not
        zero.

    Notes
    -----
    Equation (cost-change) of `book/exact_gradient.md`; Fazel et al. (2018), Lemma 6,
    "almost smoothness".
    """
    _validate.instance("lqr", lqr, LQR)
    old, new = lqr.gain(K), _validate.stack("K_new", K_new, (lqr.m, lqr.n))
    _validate.leading("K_new", new, 2, old.shape[:-2])
    change = new - old
    Sigma = _covariance(lqr, cov, change)
    E, C = exact.gain_error(lqr, old), curvature(lqr, old)
    per_state = 2.0 * change.mT @ E + change.mT @ C @ change
    total = _trace(per_state, exact.state_moment(lqr, new, Sigma))
    # From a finite cost, what is no number leads to an infinite one.
    known = np.isfinite(C).all(axis=(-2, -1))
    return np.where(known & ~np.isfinite(total), np.inf, total)


@_validate.within_floats("K")
@_overflow_is_data
def domination(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Domination:
    """J(K) − J* ≤ tr(X_*E'C⁻¹E) ≤ ‖X_*‖ / (4 σ_min(S)² σ_min(R)) · ‖∇J‖².

    A small gradient means a small excess: there is no other place to be stuck in.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy; a number σ² means σ²I.

    Returns
    -------
    Domination
        nan in the bounds, and inf in the excess, where K is unstable.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry; if γ = 1 while W or Σ is not zero; if no
        gain is stable.

    Notes
    -----
    Equation (domination) of `book/exact_gradient.md`; Fazel et al. (2018), Lemma 3 and
    Corollary 5, whose constant is four times as large.
    """
    here, best = exact.evaluate(lqr, K, cov), exact.optimal_gain(lqr)
    C, X_best = curvature(lqr, K), exact.state_moment(lqr, best, cov)
    improvement = here.E.mT @ _steps.solved(C, here.E)
    S = exact.moment_source(lqr, cov)
    least = _eigenvalues(S)[..., 0] ** 2 * _eigenvalues(lqr.R)[0]
    squared = np.square(here.gradient).sum(axis=(-2, -1))
    with np.errstate(divide="ignore"):
        bound = _eigenvalues(X_best)[..., -1] / (4.0 * least) * squared
    unbounded = ~_regular(S) & ~np.isnan(squared)
    return Domination(
        here.cost - exact.cost(lqr, best, cov),
        _trace(improvement, X_best),
        np.where(unbounded, np.inf, bound),
    )


def step_limit(lqr: LQR, method: str, cov: ArrayLike | None = 0.0) -> float:
    """The factor η from which on K* no longer attracts: 2 over the largest curvature.

    Parameters
    ----------
    lqr : LQR
    method : str
        ``"gradient"``, ``"natural_gradient"`` or ``"gauss_newton"``.
    cov : float or array, shape [m, m]
        Covariance Σ of the policy; only the gradient depends on it.

    Returns
    -------
    float
        1/(λ_max(C_*) λ_max(X_*)), 1/λ_max(C_*) or 2; inf for the gradient of a world
        without start and noise, which is zero everywhere.

    Raises
    ------
    ValueError
        If there is no such method or no stable gain, or cov has a wrong shape or entry.

    Notes
    -----
    Equation (local-rate) of `book/exact_gradient.md`.
    """
    largest = float(_curvatures(lqr, method, cov).max())
    return 2.0 / largest if largest > 0.0 else np.inf


@_overflow_is_data
def local_rate(
    lqr: LQR, method: str, step: ArrayLike, cov: ArrayLike | None = 0.0
) -> Array:
    """max_i (1 − η c_i)²: the factor in J − J* of a step, in the end, near K*.

    The c_i are 2λ_j(C_*)λ_k(X_*) for the gradient, 2λ_j(C_*) for the natural one and
    1 for Gauss–Newton.

    Parameters
    ----------
    lqr : LQR
    method : str
        ``"gradient"``, ``"natural_gradient"`` or ``"gauss_newton"``.
    step : float or array, shape [...]
        η.
    cov : float or array, shape [m, m]
        Covariance Σ of the policy; only the gradient depends on it.

    Returns
    -------
    array, shape [...]
        Below 1 where K* attracts; 0 means faster than any geometric rate.

    Raises
    ------
    ValueError
        If there is no such method or no stable gain, or an argument has a wrong shape
        or entry.

    Notes
    -----
    Equation (local-rate) of `book/exact_gradient.md`.
    """
    factors = _validate.real_array("step", step)[..., None]
    return np.square(1.0 - factors * _curvatures(lqr, method, cov)).max(axis=-1)


@_validate.within_floats("K")
@_overflow_is_data
def contraction(
    lqr: LQR,
    K: ArrayLike,
    method: str,
    step: float,
    cov: ArrayLike | None = 0.0,
) -> Array:
    """1 − κ λ_min(X_*⁻¹S): a factor that bounds J − J* after one step from K.

    κ = min_i η̃c_i(2 − η̃c_i), with c_i the eigenvalues of C and η̃ = 2η for the natural
    gradient; η(2 − η) for Gauss–Newton. Where κ > 0 the step cannot leave the stable
    set, for any excess however large.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    method : str
        "natural_gradient" or "gauss_newton". No bound of this form is known
        for the gradient.
    step : float
        η.
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy; a number σ² means σ²I.

    Returns
    -------
    array, shape [...]
        1 where the step is too long for a guarantee; nan where K is unstable.

    Raises
    ------
    ValueError
        If the method is another one, or an argument has a wrong shape or entry; if no
        gain is stable.

    Notes
    -----
    Equation (contraction) of `book/exact_gradient.md`; Fazel et al. (2018), Theorem 7.
    """
    _validate.instance("lqr", lqr, LQR)
    _check(method)
    if method == "gradient":
        raise _validate.error("method", " or ".join(METHODS[1:]), method)
    eta, gains = _validate.number("step", step), lqr.gain(K)
    Sigma = _covariance(lqr, cov, gains)
    scaled = 2.0 * eta * _eigenvalues(curvature(lqr, gains))
    if method == "gauss_newton":
        scaled = np.where(np.isnan(scaled), np.nan, eta)
    kept = np.maximum((scaled * (2.0 - scaled)).min(axis=-1), 0.0)
    best = exact.state_moment(lqr, exact.optimal_gain(lqr), Sigma)
    return 1.0 - kept * _smallest_ratio(exact.moment_source(lqr, Sigma), best)


def _check(method: str) -> None:
    _validate.choice("method", method, METHODS)


def _covariance(lqr: LQR, cov: ArrayLike | None, K: Array) -> Array:
    Sigma = _validate.covariance("cov", cov, lqr.m)
    _validate.leading("cov", Sigma, 2, K.shape[:-2])
    return Sigma


def _curvatures(lqr: LQR, method: str, cov: ArrayLike | None) -> Array:
    """Eigenvalues of the derivative of a direction at K*, where E_K = C_*(K − K*)."""
    _validate.instance("lqr", lqr, LQR)
    _check(method)
    Sigma = _validate.covariance("cov", cov, lqr.m)
    if Sigma.ndim > 2:
        raise _validate.error("cov", "one covariance", f"shape {Sigma.shape}")
    if method == "gauss_newton":
        return np.ones(1)
    best = exact.optimal_gain(lqr)
    of_action = 2.0 * _eigenvalues(curvature(lqr, best))
    if method == "natural_gradient":
        return of_action
    moment = exact.state_moment(lqr, best, Sigma)
    return np.multiply.outer(of_action, _eigenvalues(moment)).ravel()


def _smallest_ratio(S: Array, X: Array) -> Array:
    """λ_min(X⁻¹S) for symmetric S ⪰ 0 and X ⪰ S; 0 where S is singular."""
    values, vectors = np.linalg.eigh(S)
    regular = _regular(S)
    scale = np.where(regular[..., None], values, 1.0)
    whitening = vectors / np.sqrt(scale)[..., None, :]
    largest = _eigenvalues(whitening.mT @ X @ whitening)[..., -1]
    return np.where(regular, 1.0 / np.where(regular, largest, 1.0), 0.0)


def _regular(S: Array) -> Flags:
    """Whether the smallest eigenvalue of S ⪰ 0 is more than rounding."""
    values = np.linalg.eigvalsh(S)
    rounding = S.shape[-1] * np.finfo(np.float64).eps * values[..., -1]
    return np.asarray(values[..., 0] > rounding)


def _eigenvalues(S: Array) -> Array:
    """Of symmetric matrices, ascending; nan where the matrix is."""
    known: Flags = np.asarray(np.isfinite(S).all(axis=(-2, -1), keepdims=True))
    values = np.linalg.eigvalsh(np.where(known, S, 0.0))
    return np.where(known[..., 0], values, np.nan)


def _trace(S: Array, M: Array) -> Array:
    """tr(S M), over leading axes."""
    return np.einsum("...ij,...ji->...", S, M)
