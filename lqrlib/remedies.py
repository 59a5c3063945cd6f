r"""Remedies for the hack that change what is estimated, or call in a critic.

All of them move N(Kx, Σ) by its score on data of other policies. With ρ_t the ratio
π(u_t|x_t)/π_b(u_t|x_t) of one step, w_t the product of ρ_0, …, ρ_t, and
G_t = Σ_{s≥t} γ^(s−t) c_s the cost that the *data* paid after step t:

- one ratio a step instead of their product: `per_step_is`, and clipped, `ppo_is`;
- products of ratios, around a critic's forecast: `doubly_robust_is`;
- products of ratios, times a critic's word on each step: `actor_critic_is`.
"""

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib._weighted import (
    Weighted,
    discounts,
    fitted_to_states,
    mean_estimate,
    of_policy,
    overflow_is_data,
    score_terms,
    step_terms,
    to_go,
    weighted,
)
from lqrlib.critic import Critic, fitting, lstdq, of_gaussian, required
from lqrlib.estimate import GradientEstimate, mean_and_error
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, transitions
from lqrlib.weights import effective_sample_size, log_ratios

_TINY, _ROUNDING = np.finfo(np.float64).tiny, 1e-9


@overflow_is_data
def per_step_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    baseline: bool = True,
) -> GradientEstimate:
    """Mean over trajectories of Σ_t γᵗ ρ_t (G_t − b_t(x_t)) ∇_K log π(u_t|x_t).

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy N(K_b x, Σ_b).
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ).
    baseline : bool
        Fit b_t to G_t at each t, by least squares on the products of x_t and a
        constant; otherwise b_t = 0. The fit takes along a part of what it is to leave,
        a share of the order of p/N with p = n(n+1)/2 + 1 coefficients.

    Returns
    -------
    GradientEstimate
        Its mean is not a gradient in K of a cost. For long trajectories it is
        2 (Θ_uu K + Θ_ux) X with Θ the action value of K_b and X the states' moment in
        the data: zero at K = −Θ_uu⁻¹Θ_ux, one step of policy iteration from K_b. The
        error does not count that b_t was fitted. The effective sample size is that of
        single ratios, averaged over the steps.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data's policy no density.

    Notes
    -----
    Degris, White & Sutton (2012), "Off-policy actor-critic", with the data's own costs
    for a critic of their policy.
    """
    baseline = _validate.flag("baseline", baseline)
    policy, data = of_policy(lqr, data, K, cov)
    _, part, log_ratio = weighted(lqr, data, policy.K, policy.cov, log_ratios)
    advantage = _advantage(lqr, data, part, baseline)
    credit = discounts(lqr, data)[:, None] * part.w * advantage
    return _by_steps(step_terms(part, policy.K, policy.cov, credit), log_ratio)


@overflow_is_data
def ppo_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    clip: float = 0.2,
    normalise: bool = True,
) -> GradientEstimate:
    """∇_K of the mean of Σ_t γᵗ max(ρ_t A_t, clamp(ρ_t, 1 − clip, 1 + clip) A_t).

    A_t = G_t − b_t(x_t) as in `per_step_is`. A step counts as there, until its ratio
    has moved by more than ``clip`` to the side that A_t favours; then no more.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ).
    clip : float
        Above 0.
    normalise : bool
        Divide A_t by its spread over all steps of all trajectories. (Its mean is 0 as
        it is, at every t, since a constant was fitted.)

    Returns
    -------
    GradientEstimate
        The error takes A_t as known. The effective sample size is that of single
        ratios, averaged over the steps.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, the data's policy no density, or
        ``clip`` is not above 0.

    Notes
    -----
    Schulman et al. (2017), "Proximal policy optimization algorithms", eq. (7), with max
    for min since A_t is a cost; normalised advantages are a custom of its codes.
    """
    width = _validate.above_zero("clip", clip)
    normalise = _validate.flag("normalise", normalise)
    policy, data = of_policy(lqr, data, K, cov)
    _, part, log_ratio = weighted(lqr, data, policy.K, policy.cov, log_ratios)
    A = _advantage(lqr, data, part, baseline=True)
    if normalise:
        # What a fit leaves of few trajectories is rounding: not to be blown up.
        least = _ROUNDING * part.cost.max(axis=(-2, -1), keepdims=True) + _TINY
        A = A / np.maximum(A.std(axis=(-2, -1), keepdims=True), least)
    moved_far = np.where(A > 0.0, part.w < 1.0 - width, part.w > 1.0 + width)
    credit = discounts(lqr, data)[:, None] * part.w * A * ~moved_far
    return _by_steps(step_terms(part, policy.K, policy.cov, credit), log_ratio)


@overflow_is_data
def doubly_robust_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    critic: Critic | None = None,
) -> GradientEstimate:
    """`per_decision_is` around the forecast of a critic, Q(x, u) = z'Θz + const.

    With V(x) = E[Q(x, u)] over u ~ N(Kx, Σ), w_{−1} = 1 and S_{−1} = 0, the mean over
    trajectories of Σ_t γᵗ (w_t S_t (c_t − Q(x_t, u_t)) + w_{t−1} S_{t−1} V(x_t)
    + w_{t−1} ∇_K V(x_t)), where ∇_K V(x) = 2 (Θ_uu K + Θ_ux) x x'.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ) whose gradient is wanted.
    critic : Critic, optional
        Of N(Kx, Σ), as `lqrlib.critic.exact_critic` with this covariance; taken as
        known. By default LSTDQ on the same data.

    Returns
    -------
    GradientEstimate
        Its mean is the gradient of the cost of T steps, whatever the critic, if that
        was not made from the same data; then, up to a term of order 1/N. A good critic
        lowers the spread. The error does not count the error of the critic, which
        moves the estimate by a term of that order.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, the data's policy no density, or the
        data do not determine Θ.

    Notes
    -----
    Why any critic will do: given x_t and all before it, E[w_t Q(x_t, u_t)] is
    w_{t−1} V(x_t), and its gradient E[w_t S_t Q(x_t, u_t)] is the sum of the two terms
    that hold V. Jiang & Li (2016), "Doubly robust off-policy value evaluation for
    reinforcement learning"; Huang & Jiang (2020), "From importance sampling to doubly
    robust policy gradient".
    """
    policy, data = of_policy(lqr, data, K, cov)
    _, part, log_w = weighted(lqr, data, policy.K, policy.cov)
    critic = _critic(lqr, data, policy, critic)
    E = critic.gain_error(policy.K)
    gamma, before = discounts(lqr, data)[:, None], np.ones(part.w.shape)
    before[..., 1:, :] = part.w[..., :-1, :]
    credit = part.w * (part.cost - gamma * _action_value(critic, part))
    # V(x_t) comes with the weight and the scores of the steps before t.
    value = gamma * _value(critic, policy, part)
    credit[..., :-1, :] += part.w[..., :-1, :] * value[..., 1:, :]
    moments = np.einsum("...ti,...tki,...tli->...kli", gamma * before, part.x, part.x)
    forecast = 2.0 * np.einsum("...mk,...kli->...mli", E, moments)
    return mean_estimate(
        score_terms(part, policy.K, policy.cov, credit) + forecast, log_w
    )


SIGNALS = ("TD error", "advantage", "expectation")


@overflow_is_data
def actor_critic_is(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike,
    critic: Critic | None = None,
    signal: str = "TD error",
) -> GradientEstimate:
    """Mean over trajectories of Σ_t γᵗ w_t δ_t ∇_K log π(u_t|x_t): actor and critic.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by a Gaussian policy.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the policy N(Kx, Σ).
    critic : Critic, optional
        Of N(Kx, Σ), as `lqrlib.critic.exact_critic` with this covariance; taken as
        known. By default LSTDQ on the same data.
    signal : str
        What a step is paid. With Q(x, u) of the critic and V(x) = E[Q(x, u)] over
        u ~ N(Kx, Σ): ``"TD error"``, δ_t = c_t + γ V(x_{t+1}) − V(x_t);
        ``"advantage"``, δ_t = Q(x_t, u_t) − V(x_t); ``"expectation"``, the mean of
        the latter over actions, which makes the estimate that of
        Σ_t γᵗ w_{t−1} 2 (Θ_uu K + Θ_ux) x_t x_t'.

    Returns
    -------
    GradientEstimate
        With a true critic its mean is 2 E_K times the discounted moment of the first T
        states of N(Kx, Σ): the gradient without end, but for states beyond T. The error
        does not count that of the critic.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, the data's policy no density, the
        data do not determine Θ, or there is no such signal.

    Notes
    -----
    Degris, White & Sutton (2012), "Off-policy actor-critic", with the weight of all
    steps up to t in the place of the last one's; Ciosek & Whiteson (2018), "Expected
    policy gradients", for the third.
    """
    signal = _validate.choice("signal", signal, SIGNALS)
    policy, data = of_policy(lqr, data, K, cov)
    _, part, log_w = weighted(lqr, data, policy.K, policy.cov)
    critic = _critic(lqr, data, policy, critic)
    discount = discounts(lqr, data)[:, None]
    if signal == "expectation":
        before = np.concatenate([np.ones_like(part.w[..., :1, :]), part.w], axis=-2)
        credit = discount * before[..., :-1, :]
        moments = np.einsum("...ti,...tki,...tli->...kli", credit, part.x, part.x)
        E = critic.gain_error(policy.K)
        return mean_estimate(2.0 * np.einsum("...mk,...kli->...mli", E, moments), log_w)
    value = _value(critic, policy, part)
    if signal == "advantage":
        paid = _action_value(critic, part) - value
    else:
        last = part._replace(x=np.moveaxis(data.x[..., -1:, :], -3, -1))
        ahead = np.concatenate([value, _value(critic, policy, last)], axis=-2)
        paid = data.cost.mT + lqr.gamma * ahead[..., 1:, :] - value
    credit = discount * part.w * paid
    return mean_estimate(step_terms(part, policy.K, policy.cov, credit), log_w)


def _critic(
    lqr: LQR, data: Trajectories, policy: GaussianPolicy, critic: Critic | None
) -> Critic:
    """The critic of a policy as it was given, or else from the data."""
    if critic is None:
        found = required(lqr, lstdq(lqr, transitions(data), policy.K))
        return of_gaussian(lqr, found, policy.cov)
    return fitting(lqr, critic, policy.K)


def _advantage(lqr: LQR, data: Trajectories, part: Weighted, baseline: bool) -> Array:
    """G_t − b_t(x_t), [..., T, N]; it does not depend on K."""
    G = to_go(data.cost.mT, lqr.gamma)
    return G - fitted_to_states(part.x, G, np.ones(G.shape)) if baseline else G


def _by_steps(terms: Array, log_ratio: Array) -> GradientEstimate:
    size = effective_sample_size(log_ratio.mT).mean(axis=-1)
    return GradientEstimate(*mean_and_error(terms), size)


def _action_value(critic: Critic, part: Weighted) -> Array:
    """Q(x_t, u_t), [..., T, N]."""
    z = np.concatenate([part.x, part.u], axis=-2)
    return _quadratic(critic.Theta, z) + critic.const[..., None, None]


def _value(critic: Critic, policy: GaussianPolicy, part: Weighted) -> Array:
    """V(x_t) of N(Kx, Σ), [..., T, N]: Q with u = Kx, and tr(Θ_uu Σ)."""
    n, K, Theta = part.x.shape[-2], policy.K, critic.Theta
    P = Theta[..., :n, :n] + Theta[..., :n, n:] @ K + K.mT @ critic.gain_error(K)
    noise = np.einsum("...ij,...ij->...", Theta[..., n:, n:], policy.cov)
    return _quadratic(P, part.x) + (noise + critic.const)[..., None, None]


def _quadratic(S: Array, z: Array) -> Array:
    """z'Sz of each column of z, [..., T, N]."""
    return (z * (S[..., None, :, :] @ z)).sum(axis=-2)
