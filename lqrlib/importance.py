r"""The Gaussian hack: likelihood-ratio gradients from weighted trajectories.

They speak of the Gaussian policy N(Kx, Σ) and of T steps, and may use data of other
policies. With S_t = Σ_{s≤t} ∇_K log π(u_s|x_s) and w_t the weight of the first t + 1
steps, an estimate is a mean over trajectories of Σ_t credit_t S_t; the estimates differ
in their credit.
"""

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib._weighted import (
    Account,
    Weighted,
    discounts,
    fitted_to_states,
    mean_cost,
    mean_estimate,
    normalised,
    of_policy,
    overflow_is_data,
    relative,
    score_terms,
    step_terms,
    to_go,
    walk,
    weighted,
    weighted_mean,
)
from lqrlib.estimate import GradientEstimate
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories

__all__ = [
    "WEIGHTINGS",
    "Weighted",
    "clipped_is",
    "estimated_cost",
    "mean_cost",
    "mixture_is",
    "per_decision_is",
    "score_terms",
    "self_normalised_is",
    "trajectory_is",
]

WEIGHTINGS = ("trajectory", "per-decision", "self-normalised")


@overflow_is_data
def trajectory_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    baseline: bool = False,
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
    baseline : bool
        Subtract from the return C = Σ_t γᵗ c_t its weighted mean b = Σ w C / Σ w. (To
        normalise advantages is to divide C − b by its spread as well: one positive
        number for all trajectories, which changes no step of fixed length.)

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
    Williams (1992), REINFORCE, with the weight of the whole trajectory.
    """
    baseline = _validate.flag("baseline", baseline)
    policy, data = of_policy(lqr, data, K, cov)
    account, returns = Account(data, policy), data.cost @ discounts(lqr, data)
    for steps in walk(lqr, data, policy):
        account.add(steps)
    w, credit = np.exp(steps.log_w[..., -1, :]), np.zeros(steps.log_w.shape)
    mean_return = weighted_mean(returns, w) if baseline else 0.0
    credit[..., -1, :] = w * (returns - mean_return)
    account.pay(credit)
    return account.estimate(steps.log_w[..., -1, :])


@overflow_is_data
def per_decision_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    time_baseline: bool = False,
    value_baseline: bool = False,
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
    value_baseline : bool
        Subtract from all that the score of step t is paid, C_t = Σ_{s≥t} γ^s w_s c_s,
        a value w_t b_t(x_t). At each t, b_t is the fit of C_t / w_t by the products of
        x_t and a constant, by least squares with weights w_t. The fit takes along a
        part of what it is to leave, a share of the order of p/N with p = n(n+1)/2 + 1
        coefficients; all of it for N ≤ p. Not together with ``time_baseline``.

    Returns
    -------
    GradientEstimate
        Its mean is the gradient of the cost of T steps; with a baseline, up to a term
        of order 1/N. The error does not count that a baseline was fitted, which moves
        the estimate by a term of the same order.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, the data's policy no density, or both
        baselines are asked for.

    Notes
    -----
    Precup, Sutton & Singh (2000), "Eligibility traces for off-policy policy
    evaluation", for the weights. E[w_t ∇_K log π(u_t|x_t) b(x_t)] = 0 for every b.
    """
    time_baseline = _validate.flag("time_baseline", time_baseline)
    value_baseline = _validate.flag("value_baseline", value_baseline)
    if time_baseline and value_baseline:
        raise _validate.error("value_baseline", "at most one baseline", "two")
    policy, data = of_policy(lqr, data, K, cov)
    if value_baseline:
        _, part, log_w = weighted(lqr, data, policy.K, policy.cov)
        credit = to_go(part.w * part.cost)
        credit -= part.w * fitted_to_states(part.x, credit / part.w, part.w)
        return mean_estimate(step_terms(part, policy.K, policy.cov, credit), log_w)
    account = Account(data, policy)
    for steps in walk(lqr, data, policy):
        account.add(steps)
        credit = np.exp(steps.log_w)
        baseline = weighted_mean(steps.cost, credit) if time_baseline else 0.0
        credit *= steps.cost - baseline if time_baseline else steps.cost
        account.pay(credit)
    return account.estimate(steps.log_w[..., -1, :])


@overflow_is_data
def self_normalised_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    time_baseline: bool = False,
    mixture: bool = False,
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
    time_baseline : bool
        Subtract from c_t its weighted mean over trajectories, Σ w_t c_t / Σ w_t. The
        estimate is then the gradient of an estimated cost, see `estimated_cost`.
    mixture : bool
        Take the weights of `mixture_is`.

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
    Precup, Sutton & Singh (2000): weighted per-decision importance sampling. With the
    baseline: Jie & Abbeel (2010), "On a connection between importance sampling and the
    likelihood ratio policy gradient".
    """
    time_baseline = _validate.flag("time_baseline", time_baseline)
    mixture = _validate.flag("mixture", mixture)
    policy, data = of_policy(lqr, data, K, cov)
    account = Account(data, policy)
    shift = np.zeros(account.terms.shape)
    for steps in walk(lqr, data, policy, mixture=mixture):
        account.add(steps)
        w = normalised(steps.log_w)
        baseline = weighted_mean(steps.cost, w) if time_baseline else 0.0
        credit = w * (steps.cost - baseline)
        account.pay(credit)
        # How a trajectory moves the mean weight, and with it all other terms.
        shift += np.einsum("...tmn,...ti->...mni", account.mean(credit), w)
        if time_baseline:
            shift += np.einsum("...tmn,...ti->...mni", account.mean(w), credit)
    return account.estimate(steps.log_w[..., -1, :], shift)


@overflow_is_data
def mixture_is(
    lqr: LQR, data: Trajectories, K: ArrayLike, *, cov: ArrayLike
) -> GradientEstimate:
    """`per_decision_is` with weights that count who else could have made the data.

    The weight of the first t + 1 steps is Π_{s≤t} π(u_s|x_s) over the mean of
    Π_{s≤t} π_j(u_s|x_s) over the policies π_j of all trajectories, so that it is large
    only where none of them was likely to act so.

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
        Its mean is the gradient of the cost of T steps. With one behaviour policy it is
        `per_decision_is`. The error is that of trajectories whose policies were drawn
        at random, which is too large rather than too small.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data's policy no density.

    Notes
    -----
    The balance heuristic of Veach & Guibas (1995), step by step; Owen (2013), "Monte
    Carlo theory, methods and examples", ch. 9. Doerr et al. (2019), "Trajectory-based
    off-policy deep reinforcement learning", do so for whole trajectories.
    """
    policy, data = of_policy(lqr, data, K, cov)
    account = Account(data, policy)
    for steps in walk(lqr, data, policy, mixture=True):
        account.add(steps)
        account.pay(np.exp(steps.log_w) * steps.cost)
    return account.estimate(steps.log_w[..., -1, :])


@overflow_is_data
def clipped_is(
    lqr: LQR, data: Trajectories, K: ArrayLike, *, cov: ArrayLike, limit: float
) -> GradientEstimate:
    """`per_decision_is` with min(w_t, limit) for w_t.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ) whose gradient is wanted.
    limit : float
        Above 0. (Weights that are not truncated have mean 1.)

    Returns
    -------
    GradientEstimate
        Biased: what the largest weights stand for is missing. Its effective sample
        size is that of the truncated weights.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, the data's policy no density, or the
        limit is not above 0.

    Notes
    -----
    Ionides (2008), "Truncated importance sampling", where the limit grows like √N.
    """
    largest = _validate.above_zero("limit", limit)
    policy, data = of_policy(lqr, data, K, cov)
    account = Account(data, policy)
    for steps in walk(lqr, data, policy):
        account.add(steps)
        account.pay(np.minimum(np.exp(steps.log_w), largest) * steps.cost)
    return account.estimate(np.minimum(steps.log_w[..., -1, :], np.log(largest)))


@overflow_is_data
def estimated_cost(
    lqr: LQR, data: Trajectories, K: ArrayLike, *, cov: ArrayLike, weighting: str
) -> Array:
    """The cost of T steps of N(Kx, Σ) from data of other policies, a function of K.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ) whose gradient is wanted.
    weighting : str
        One of `WEIGHTINGS`. ``"trajectory"``: mean of w_{T−1} Σ_t γᵗ c_t;
        ``"per-decision"``: mean of Σ_t γᵗ w_t c_t; ``"self-normalised"``: the same with
        each w_t divided by its mean over trajectories.

    Returns
    -------
    array, shape [...]
        inf where a trajectory left the floats.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, the data's policy no density, or the
        weighting is unknown.

    Notes
    -----
    ∇_K w_t = w_t S_t, so that the gradients in K of the three are `trajectory_is`,
    `per_decision_is`, and `self_normalised_is` with a time baseline: descent on one
    data set minimises this function. Jie & Abbeel (2010), "On a connection between
    importance sampling and the likelihood ratio policy gradient".
    """
    weighting = _validate.choice("weighting", weighting, WEIGHTINGS)
    policy, data = of_policy(lqr, data, K, cov)
    total = _estimated(lqr, data, policy, weighting)
    return np.where(np.isfinite(total), total, np.inf)


def _estimated(
    lqr: LQR, data: Trajectories, policy: GaussianPolicy, weighting: str
) -> Array:
    parts = walk(lqr, data, policy)
    if weighting == "trajectory":
        *_, last = parts
        w, returns = np.exp(last.log_w[..., -1, :]), data.cost @ discounts(lqr, data)
        return (w * returns).mean(axis=-1)
    if weighting == "per-decision":
        means = [(np.exp(p.log_w) * p.cost).mean(axis=-1).sum(axis=-1) for p in parts]
    else:
        means = [
            weighted_mean(part.cost, relative(part.log_w)).sum(axis=(-2, -1))
            for part in parts
        ]
    return np.sum(means, axis=0)
