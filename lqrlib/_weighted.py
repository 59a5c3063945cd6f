"""What sums over weighted trajectories share: their parts, scores, baselines, error.

Arrays are as data lie in memory, trajectories last: x is [..., T, n, N].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib._validate import Array
from lqrlib.critic import products
from lqrlib.estimate import GradientEstimate, mean_and_error
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories
from lqrlib.weights import effective_sample_size, log_weights, residual, running_sum

_TINY, _HUGE = np.finfo(np.float64).tiny, np.finfo(np.float64).max
# Of a fit's Gram matrix, whose condition number is that of its features squared.
_NEGLIGIBLE = 1e-12

LogWeights = Callable[[Trajectories, GaussianPolicy], Array]
overflow_is_data = np.errstate(over="ignore", divide="ignore", invalid="ignore")


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


def weighted(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    cov: ArrayLike,
    log_weights: LogWeights = log_weights,
) -> tuple[GaussianPolicy, Weighted, Array]:
    """The policy N(Kx, Σ), the data with its weights, and their logarithms.

    Parameters
    ----------
    lqr : LQR
    data : Trajectories
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
    log_weights : callable
        Which weights.

    Returns
    -------
    policy : GaussianPolicy
    part : Weighted
    log_w : array, shape [..., N, T]
    """
    policy = GaussianPolicy(lqr.gain(K), cov)
    log_w = log_weights(data, policy)
    x, u = np.moveaxis(data.x[..., :-1, :], -3, -1), np.moveaxis(data.u, -3, -1)
    cost = (data.cost * discounts(lqr, data)).mT
    return policy, Weighted(x, u, cost, np.exp(log_w).mT), log_w


def normalised(part: Weighted, log_w: Array) -> Weighted:
    """The same trajectories, each weight divided by the mean weight of its step.

    Parameters
    ----------
    part : Weighted
    log_w : array, shape [..., N, T]

    Returns
    -------
    Weighted
    """
    relative = np.exp(log_w.mT - np.maximum(log_w.mT.max(-1, keepdims=True), -_HUGE))
    return part._replace(
        w=relative / np.maximum(relative.mean(-1, keepdims=True), _TINY)
    )


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


def to_go(steps: Array, gamma: float = 1.0) -> Array:
    """Σ_{s≥t} γ^(s−t) of what the steps hold.

    Parameters
    ----------
    steps : array, shape [..., T, N]
    gamma : float

    Returns
    -------
    array, shape [..., T, N]
    """
    total = np.array(steps)
    for t in reversed(range(steps.shape[-2] - 1)):
        total[..., t, :] += gamma * total[..., t + 1, :]
    return total


def weighted_mean(values: Array, w: Array) -> Array:
    """Σ w v / Σ w over trajectories.

    Parameters
    ----------
    values, w : array, shape [..., N]

    Returns
    -------
    array, shape [..., 1]
    """
    total = np.maximum(w.sum(axis=-1, keepdims=True), _TINY)
    return (w * values).sum(axis=-1, keepdims=True) / total


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


def fitted_to_states(x: Array, values: Array, w: Array) -> Array:
    """b_t(x_t): at each t, weighted least squares on the products of x_t, and 1.

    Trajectories of no weight, or no finite value, do not count. Where the states leave
    some combination of the products undetermined, b_t is the least-norm fit.

    Parameters
    ----------
    x : array, shape [..., T, n, N]
    values : array, shape [..., T, N]
    w : array, shape [..., T, N]

    Returns
    -------
    array, shape [..., T, N]
    """
    lead = np.broadcast_shapes(x.shape[:-3], values.shape[:-2], w.shape[:-2])
    found = np.empty((*lead, *values.shape[-2:]))
    for t in range(values.shape[-2]):  # all steps at once would fill the memory
        psi = products(x[..., t, :, :])
        found[..., t, :] = _fit(psi, values[..., t, :], w[..., t, :])
    return found


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
    return step_terms(part, K, cov, to_go(credit))


def step_terms(part: Weighted, K: Array, cov: Array, credit: Array) -> Array:
    """Σ_t credit_t ∇_K log π(u_t|x_t) of each trajectory.

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
    e = residual(K[..., None], part.x, part.u)
    total = np.einsum("...ti,...tmi,...tni->...mni", credit, e, part.x)
    return np.einsum("...km,...mni->...kni", np.linalg.inv(cov), total)


def moved(part: Weighted, policy: GaussianPolicy, by: Array, credit: Array) -> Array:
    """Σ_t by_t times the mean over trajectories of credit_t S_t.

    Parameters
    ----------
    part : Weighted
    policy : GaussianPolicy
    by, credit : array, shape [..., T, N]

    Returns
    -------
    array, shape [..., m, n, N]
    """
    e = residual(policy.K[..., None], part.x, part.u)
    steps = np.einsum("...tmi,...tni->...mnti", e, part.x)
    credit = credit[..., None, None, :, :]
    means = np.einsum("...mnti,...mnti->...tmn", credit, running_sum(steps))
    means /= credit.shape[-1]
    whitened = np.linalg.solve(policy.cov[..., None, :, :], means)
    return np.einsum("...ti,...tmn->...mni", by, whitened)


def mean_estimate(
    terms: Array, log_w: Array, shift: Array | float = 0.0
) -> GradientEstimate:
    """The mean over trajectories; its error is that of a mean of terms − shift.

    Parameters
    ----------
    terms : array, shape [..., m, n, N]
    log_w : array, shape [..., N, T]
    shift : array, shape [..., m, n, N], or float

    Returns
    -------
    GradientEstimate
    """
    size = effective_sample_size(log_w[..., -1])
    return GradientEstimate(*mean_and_error(terms, shift), size)


def _fit(psi: Array, values: Array, w: Array) -> Array:
    """Weighted least squares of values [..., N] on features [..., p, N]."""
    root = np.sqrt(w)
    rows, target = root[..., None, :] * psi, root * values
    counts = np.isfinite(target) & np.isfinite(rows).all(axis=-2)
    rows = np.where(counts[..., None, :], rows, 0.0)
    target = np.where(counts, target, 0.0)
    # Features scaled to a largest entry of 1: no sum of their products overflows.
    size = np.abs(rows).max(axis=-1, keepdims=True)
    size = np.where(size > 0.0, size, 1.0)
    rows = rows / size
    inverse = np.linalg.pinv(rows @ rows.mT, rtol=_NEGLIGIBLE, hermitian=True)
    theta = inverse @ (rows @ target[..., None])
    return (theta.mT @ (psi / size))[..., 0, :]
