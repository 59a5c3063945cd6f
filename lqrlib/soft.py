r"""Maximum-entropy LQR: the cost that soft actor-critic minimises, in closed form.

To the stage cost comes τ log π(u|x) with a *temperature* τ ≥ 0: randomness is paid for.
For N(Kx, Σ) that takes τH(Σ)/(1−γ) off the cost, with the entropy

    H(Σ) = (m/2) log(2πe) + (1/2) log det Σ,

which knows nothing of K. With C_K = R + γB'P_KB the best covariance of a gain is
(τ/2)C_K⁻¹; the best gain is K*, whatever τ is. Guo, Li, Xu (2026); Haarnoja et al.
(2018) for the algorithm. Minimise, as everywhere here: their reward is −cost.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _steps, _validate, exact, ladder
from lqrlib._validate import Array
from lqrlib.critic import Critic, exact_critic
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR

_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class Slope(NamedTuple):
    """A direction in both parameters of N(Kx, Σ); leading axes of K and cov.

    Parameters
    ----------
    K : array, shape [..., m, n]
    cov : array, shape [..., m, m]
        Symmetric.
    """

    K: Array
    cov: Array


class Iterates(NamedTuple):
    """The policies of soft policy iteration, the first one included.

    Parameters
    ----------
    K : array, shape [steps + 1, ..., m, n]
    cov : array, shape [steps + 1, ..., m, m]
    """

    K: Array
    cov: Array


def entropy(cov: ArrayLike, size: int) -> Array:
    """H(Σ) = (m/2) log(2πe) + ½ log det Σ of N(·, Σ), in nats.

    Parameters
    ----------
    cov : float or array, shape [..., m, m]
        Σ ≻ 0; a number σ² means σ²I.
    size : int
        m.

    Returns
    -------
    array, shape [...]
        Differential: negative where the policy is narrow.

    Raises
    ------
    ValueError
        If cov has a wrong shape or is not positive definite.
    """
    m = _validate.count("size", size)
    Sigma = _validate.covariance("cov", cov, m, strict=True)
    return 0.5 * (m * np.log(2.0 * np.pi * np.e) + np.linalg.slogdet(Sigma)[1])


@_overflow_is_data
def cost(lqr: LQR, K: ArrayLike, cov: ArrayLike, temperature: float) -> Array:
    """J(K, Σ) − τH(Σ)/(1−γ) = E Σ_t γᵗ (x'Qx + u'Ru + τ log π(u|x)).

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy N(Kx, Σ); a number σ² means σ²I. It may be singular
        at τ = 0 only.
    temperature : float
        τ ≥ 0.

    Returns
    -------
    array, shape [...]
        inf where K is unstable.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or γ is 1: the entropy of endlessly
        many steps has no sum.

    Notes
    -----
    Equation (soft-cost) of `book/soft_actor_critic.md`.
    """
    tau = _temperature(temperature)
    plain = exact.cost(_discounted(lqr), K, cov)
    if tau == 0.0:
        return plain
    return plain - tau * entropy(cov, lqr.m) / (1.0 - lqr.gamma)


@_overflow_is_data
def best_covariance(lqr: LQR, K: ArrayLike, temperature: float) -> Array:
    """(τ/2)(R + γB'P_KB)⁻¹, the covariance of least soft cost at a gain.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    temperature : float
        τ ≥ 0.

    Returns
    -------
    array, shape [..., m, m]
        Symmetric; nan where K is unstable, and where the inverse is of a matrix that
        is singular in floats.

    Raises
    ------
    ValueError
        If K has a wrong shape or entry, or the temperature is negative.

    Notes
    -----
    Equation (best-covariance) of `book/soft_actor_critic.md`.
    """
    tau, C = _temperature(temperature), _curvature(lqr, K)
    inverse = _steps.solved(C, np.eye(lqr.m))
    return 0.25 * tau * (inverse + inverse.mT)


def optimal_policy(lqr: LQR, temperature: float) -> GaussianPolicy:
    """N(K*x, (τ/2)(R + γB'P*B)⁻¹), the policy of least soft cost.

    Parameters
    ----------
    lqr : LQR
    temperature : float
        τ > 0.

    Returns
    -------
    GaussianPolicy
        Of all policies, and from every state: its density is ∝ exp(−Q*(x, u)/τ).

    Raises
    ------
    ValueError
        If the temperature is not above 0 or no gain is stable.

    Notes
    -----
    Equation (soft-optimum) of `book/soft_actor_critic.md`; Guo, Li, Xu (2026).
    """
    if not _temperature(temperature) > 0.0:
        raise _validate.error("temperature", "a number above 0", temperature)
    best = exact.optimal_gain(lqr)
    return GaussianPolicy(best, best_covariance(lqr, best, temperature))


def optimal_cost(lqr: LQR, temperature: float) -> float:
    """The soft cost of the optimal policy; J* at τ = 0.

    Parameters
    ----------
    lqr : LQR
    temperature : float
        τ ≥ 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the temperature is negative, γ is 1, or no gain is stable.
    """
    best = exact.optimal_gain(lqr)
    cov = best_covariance(lqr, best, temperature)
    return float(cost(lqr, best, cov, temperature))


def action_value(lqr: LQR, K: ArrayLike, cov: ArrayLike, temperature: float) -> Critic:
    """The soft Q(x, u) = z'Θ_Kz + const of N(Kx, Σ): Θ is that of u = Kx.

    The constant is γ (tr(P_KW) + tr(C_KΣ) − τH(Σ)) / (1−γ); neither noise nor
    temperature enters anything else.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Σ; it may be singular at τ = 0 only.
    temperature : float
        τ ≥ 0.

    Returns
    -------
    Critic
        Θ is nan for an unstable gain.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or γ is 1.

    Notes
    -----
    Equation (soft-q) of `book/soft_actor_critic.md`. Haarnoja et al. (2018), eqs. (2)
    and (3), pay for the entropy of the *next* action in Q, as here.
    """
    tau, plain = _temperature(temperature), exact_critic(_discounted(lqr), K, cov)
    if tau == 0.0:
        return plain
    bonus = lqr.gamma * tau * entropy(cov, lqr.m) / (1.0 - lqr.gamma)
    return plain._replace(const=plain.const - bonus)


def policy_iteration(
    lqr: LQR, K: ArrayLike, cov: ArrayLike, temperature: float, steps: int
) -> Iterates:
    """Soft policy iteration: evaluate Q, then π ∝ exp(−Q/τ), again and again.

    K ← K − C_K⁻¹E_K, the full Gauss–Newton step, and Σ ← (τ/2)C_K⁻¹.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        The first gain, stable.
    cov : float or array, shape [..., m, m]
        The first covariance, ≻ 0.
    temperature : float
        τ > 0: at 0 nothing is random.
    steps : int

    Returns
    -------
    Iterates

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the first gain is unstable.

    Notes
    -----
    Equation (soft-improvement) of `book/soft_actor_critic.md`; Haarnoja et al. (2018),
    Theorem 1. Every step lowers the soft cost.
    """
    if not _temperature(temperature) > 0.0:
        raise _validate.error("temperature", "a number above 0", temperature)
    Sigma = _covariance(lqr, K, cov, strict=True)
    gain = lqr.gain(K)
    if not exact.is_stable(lqr, gain).all():
        raise _validate.error("K", "gains with √γ ρ(A + BK) < 1", gain)
    lead = np.broadcast_shapes(gain.shape[:-2], Sigma.shape[:-2])
    gains = [np.broadcast_to(gain, (*lead, *gain.shape[-2:]))]
    covs = [np.broadcast_to(Sigma, (*lead, *Sigma.shape[-2:]))]
    for _ in range(_validate.count("steps", steps)):
        covs.append(best_covariance(lqr, gains[-1], temperature))
        gains.append(gains[-1] - exact.gauss_newton(lqr, gains[-1]))
    return Iterates(np.stack(gains), np.stack(covs))


@_overflow_is_data
def gradient(lqr: LQR, K: ArrayLike, cov: ArrayLike, temperature: float) -> Slope:
    """2E_KX_{K,Σ} in K, as without entropy, and (C_K − (τ/2)Σ⁻¹)/(1−γ) in Σ.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Σ ≻ 0.
    temperature : float
        τ ≥ 0.

    Returns
    -------
    Slope
        nan where K is unstable.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or γ is 1.

    Notes
    -----
    Equation (soft-gradient) of `book/soft_actor_critic.md`.
    """
    tau, Sigma = _temperature(temperature), _covariance(lqr, K, cov, strict=True)
    in_K = exact.gradient(_discounted(lqr), K, Sigma)
    in_cov = _curvature(lqr, K) - 0.5 * tau * np.linalg.inv(Sigma)
    return Slope(in_K, 0.5 * (in_cov + in_cov.mT) / (1.0 - lqr.gamma))


@_overflow_is_data
def fisher_gradient(
    lqr: LQR, K: ArrayLike, cov: ArrayLike, temperature: float
) -> Slope:
    """2ΣE_K in K and 2ΣC_KΣ − τΣ in Σ: the gradient in the Fisher metric of N(Kx, Σ).

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Σ ⪰ 0. With `best_covariance` the part in K is τ times the Gauss–Newton step,
        and that in Σ is zero.
    temperature : float
        τ ≥ 0.

    Returns
    -------
    Slope
        nan where K is unstable.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Equation (fisher) of `book/soft_actor_critic.md`. The metric, summed over discounted
    states, is Σ⁻¹ ⊗ X_K in K and Σ⁻¹ ⊗ Σ⁻¹ / (2(1−γ)) in Σ; Kakade (2001).
    """
    tau, Sigma = _temperature(temperature), _covariance(lqr, K, cov, strict=False)
    in_K = 2.0 * Sigma @ exact.gain_error(lqr, K)
    in_cov = 2.0 * Sigma @ _curvature(lqr, K) @ Sigma - tau * Sigma
    return Slope(in_K, 0.5 * (in_cov + in_cov.mT))


@_overflow_is_data
def pathwise_spread(
    lqr: LQR, K: ArrayLike, K_behaviour: ArrayLike, cov: ArrayLike, horizon: int
) -> ladder.Spread:
    """Mean and variance of Σ_{t<T} γᵗ ∇_K Q(x_t, Kx_t + e_t), with the true Q.

    The states are those of one trajectory of N(K_b x, Σ), and e_t ~ N(0, Σ) is drawn
    afresh. Entry ij varies like the deterministic gradient's, and by
    4 (C_KΣC_K)_ii Σ_t γ²ᵗ E[x_t x_t']_jj more.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        Stable, √γ ρ(A + BK) < 1.
    K_behaviour : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of both policies.
    horizon : int
        T.

    Returns
    -------
    ladder.Spread

    Raises
    ------
    ValueError
        As `ladder.spread`.

    Notes
    -----
    Equation (pathwise-variance) of `book/soft_actor_critic.md`.
    """
    without = ladder.spread(lqr, K, K_behaviour, cov, horizon, "deterministic gradient")
    C, Sigma = _curvature(lqr, K), _validate.covariance("cov", cov, lqr.m)
    F = lqr.closed_loop(K_behaviour)
    M, total = lqr.X0, np.zeros_like(lqr.X0)
    for t in range(horizon):
        total = total + lqr.gamma ** (2 * t) * M
        M = F @ M @ F.mT + lqr.W + lqr.B @ Sigma @ lqr.B.T
    rows, columns = (
        np.diagonal(part, axis1=-2, axis2=-1) for part in (C @ Sigma @ C, total)
    )
    extra = 4.0 * rows[..., :, None] * columns[..., None, :]
    return without._replace(variance=without.variance + extra)


def _temperature(value: float) -> float:
    tau = _validate.number("temperature", value)
    if not tau >= 0.0:
        raise _validate.error("temperature", "a number from 0 on", value)
    return tau


def _discounted(lqr: LQR) -> LQR:
    _validate.instance("lqr", lqr, LQR)
    if lqr.gamma == 1.0:
        raise _validate.error("gamma", "below 1, for a finite sum of entropies", 1.0)
    return lqr


def _covariance(lqr: LQR, K: ArrayLike, cov: ArrayLike, *, strict: bool) -> Array:
    _validate.instance("lqr", lqr, LQR)
    Sigma = _validate.covariance("cov", cov, lqr.m, strict=strict)
    _validate.leading("cov", Sigma, 2, lqr.gain(K).shape[:-2])
    return Sigma


def _curvature(lqr: LQR, K: ArrayLike) -> Array:
    """C_K = R + γB'P_KB."""
    _validate.instance("lqr", lqr, LQR)
    return exact.q_matrix(lqr, K)[..., lqr.n :, lqr.n :]
