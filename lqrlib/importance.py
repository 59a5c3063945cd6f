r"""The Gaussian hack: likelihood-ratio gradients from weighted trajectories.

They speak of the Gaussian policy N(Kx, Σ) and of T steps, and may use data of other
policies. With S_t = Σ_{s≤t} ∇_K log π(u_s|x_s) and w_t the weight of the first t + 1
steps, an estimate is a mean over trajectories of Σ_t credit_t S_t; the estimates differ
in their credit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib._validate import Array
from lqrlib.estimate import GradientEstimate, mean_and_error
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories
from lqrlib.weights import effective_sample_size, log_weights, residual, running_sum

_TINY, _HUGE = np.finfo(np.float64).tiny, np.finfo(np.float64).max
_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class Weighted(NamedTuple):
    """Trajectories as they lie in memory, with weights: what the hack sums over.

    Parameters
    ----------
    x : array, shape [..., T, n, N]
    u : array, shape [..., T, m, N]
    cost : array, shape [..., T, N]
        Discounted.
    w : array, shape [..., T, N]
        Weight of the first t + 1 steps; 0 leaves a trajectory out.
    """

    x: Array
    u: Array
    cost: Array
    w: Array


@_overflow_is_data
def trajectory_is(
    lqr: LQR, data: Trajectories, K: ArrayLike, *, cov: ArrayLike
) -> GradientEstimate:
    """Mean over trajectories of w_{T−1} (Σ_t γᵗ c_t) S_{T−1}.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ) whose gradient is wanted.

    Returns
    -------
    GradientEstimate
        Its mean is the gradient of the cost of T steps.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data's policy no density.

    Notes
    -----
    Williams (1992), REINFORCE, with the weight of the whole trajectory.
    """
    policy, part, log_w = _weighted(lqr, data, K, cov)
    credit = np.zeros(part.w.shape)
    credit[..., -1, :] = part.w[..., -1, :] * part.cost.sum(axis=-2)
    return _mean(score_terms(part, policy.K, policy.cov, credit), log_w)


@_overflow_is_data
def per_decision_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    time_baseline: bool = False,
) -> GradientEstimate:
    """Mean over trajectories of Σ_t γᵗ w_t c_t S_t: a cost needs no later weight.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ) whose gradient is wanted.
    time_baseline : bool
        Subtract from c_t its weighted mean over trajectories, Σ w_t c_t / Σ w_t.

    Returns
    -------
    GradientEstimate
        Its mean is the gradient of the cost of T steps; with the baseline, up to a
        term of order 1/N.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data's policy no density.

    Notes
    -----
    Precup, Sutton & Singh (2000), "Eligibility traces for off-policy policy
    evaluation", for the weights.
    """
    policy, part, log_w = _weighted(lqr, data, K, cov)
    baseline = mean_cost([part]) if time_baseline else 0.0
    credit = part.w * (part.cost - baseline)
    return _mean(score_terms(part, policy.K, policy.cov, credit), log_w)


@_overflow_is_data
def self_normalised_is(
    lqr: LQR, data: Trajectories, K: ArrayLike, *, cov: ArrayLike
) -> GradientEstimate:
    """`per_decision_is` with each w_t divided by its mean over trajectories.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ) whose gradient is wanted.

    Returns
    -------
    GradientEstimate
        Biased, by a term of order 1/N as long as the weights have a second moment;
        no weight exceeds N, whatever the gain.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data's policy no density.

    Notes
    -----
    Precup, Sutton & Singh (2000): weighted per-decision importance sampling.
    """
    policy, part, log_w = _weighted(lqr, data, K, cov)
    relative = np.exp(log_w.mT - np.maximum(log_w.mT.max(-1, keepdims=True), -_HUGE))
    part = part._replace(
        w=relative / np.maximum(relative.mean(-1, keepdims=True), _TINY)
    )
    credit = part.w * part.cost
    terms = score_terms(part, policy.K, policy.cov, credit)
    return _mean(terms, log_w, _moved_by_weights(part, policy, credit))


def mean_cost(parts: Sequence[Weighted]) -> Array:
    """The time baseline Σ w_t γᵗc_t / Σ w_t, over all trajectories of all parts.

    Parameters
    ----------
    parts : sequence of Weighted

    Returns
    -------
    array, shape [..., T, 1]
    """
    cost = sum((part.w * part.cost).sum(axis=-1) for part in parts)
    weight = sum(part.w.sum(axis=-1) for part in parts)
    return (cost / np.maximum(weight, _TINY))[..., None]


def score_terms(part: Weighted, K: Array, cov: Array, credit: Array) -> Array:
    """Σ_t credit_t S_t of each trajectory.

    Parameters
    ----------
    part : Weighted
    K : array, shape [..., m, n]
    cov : array, shape [..., m, m]
    credit : array, shape [..., T, N]

    Returns
    -------
    array, shape [..., m, n, N]
    """
    # The score at s is paid for by every credit from s on: one sum over steps.
    to_go = running_sum(credit[..., ::-1, :])[..., ::-1, :]
    e = residual(K[..., None], part.x, part.u)
    total = np.einsum("...ti,...tmi,...tni->...mni", to_go, e, part.x)
    return np.einsum("...km,...mni->...kni", np.linalg.inv(cov), total)


def discounts(lqr: LQR, data: Trajectories) -> Array:
    """γᵗ for the steps of the data.

    Parameters
    ----------
    lqr : LQR
    data : Trajectories

    Returns
    -------
    array, shape [T]
    """
    return lqr.gamma ** np.arange(data.cost.shape[-1])


def _weighted(
    lqr: LQR, data: Trajectories, K: ArrayLike, cov: ArrayLike
) -> tuple[GaussianPolicy, Weighted, Array]:
    policy = GaussianPolicy(lqr.gain(K), cov)
    log_w = log_weights(data, policy)
    x, u = np.moveaxis(data.x[..., :-1, :], -3, -1), np.moveaxis(data.u, -3, -1)
    cost = (data.cost * discounts(lqr, data)).mT
    return policy, Weighted(x, u, cost, np.exp(log_w).mT), log_w


def _moved_by_weights(part: Weighted, policy: GaussianPolicy, credit: Array) -> Array:
    """What a trajectory's weight takes from the means of each t, [..., m, n, N]."""
    e = residual(policy.K[..., None], part.x, part.u)
    steps = np.einsum("...tmi,...tni->...mnti", e, part.x)
    credit = credit[..., None, None, :, :]
    means = np.einsum("...mnti,...mnti->...tmn", credit, running_sum(steps))
    means /= credit.shape[-1]
    whitened = np.linalg.solve(policy.cov[..., None, :, :], means)
    return np.einsum("...ti,...tmn->...mni", part.w, whitened)


def _mean(terms: Array, log_w: Array, shift: Array | float = 0.0) -> GradientEstimate:
    """The mean over trajectories; its error is that of a mean of terms − shift."""
    size = effective_sample_size(log_w[..., -1])
    return GradientEstimate(*mean_and_error(terms, shift), size)
