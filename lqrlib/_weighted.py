"""What sums over weighted trajectories share: their parts, scores, baselines, error.

Arrays are as data lie in memory, trajectories last: x is [..., T, n, N].
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.critic import products
from lqrlib.estimate import GradientEstimate, mean_and_error
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, attributed
from lqrlib.weights import add_up, effective_sample_size, log_weights, weighed

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


def of_policy(
    lqr: LQR, data: Trajectories, K: ArrayLike, cov: ArrayLike
) -> tuple[GaussianPolicy, Trajectories]:
    """What every weighted sum is given, checked.

    Parameters
    ----------
    lqr : LQR
    data : Trajectories
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]

    Returns
    -------
    policy : GaussianPolicy
    data : Trajectories

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, by name.
    """
    _validate.instance("lqr", lqr, LQR)
    policy, data = GaussianPolicy(lqr.gain(K), cov), attributed("data", data, lqr)
    _validate.leading("K", policy.K, 2, data.cost.shape[:-2])
    _validate.leading("cov", policy.cov, 2, data.cost.shape[:-2])
    return policy, data


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


class Payments(NamedTuple):
    """A few steps of all trajectories: what is paid, and to which scores.

    Parameters
    ----------
    cost : array, shape [..., b, N]
        γᵗ c_t.
    log_w : array, shape [..., b, N]
        Logarithm of the weight of all steps up to each of them.
    x : array, shape [..., b, n, N]
    error : array, shape [..., b, m, N]
        u_t − K x_t.
    """

    cost: Array
    log_w: Array
    x: Array
    error: Array


def walk(
    lqr: LQR, data: Trajectories, policy: GaussianPolicy, *, mixture: bool = False
) -> Iterator[Payments]:
    """The steps of the data as they count for a policy, a few after the other.

    Parameters
    ----------
    lqr : LQR
    data : Trajectories
    policy : GaussianPolicy
    mixture : bool
        Which weights, see `lqrlib.weights.log_weights`.

    Yields
    ------
    Payments
    """
    discount, cost = discounts(lqr, data)[:, None], data.cost.mT
    for at, x, error, log_w in weighed(data, policy, mixture=mixture):
        yield Payments(discount[at] * cost[..., at, :], log_w, x, error)


class Account:
    """S_t of each trajectory, and the sum Σ_t credit_t S_t, a few steps at a time.

    Both are kept without the Σ⁻¹ before them, which `estimate` puts there.

    Parameters
    ----------
    data : Trajectories
    policy : GaussianPolicy
    """

    score: Array  # Σ_{s≤t} (u_s − K x_s) x_s', [..., b, m, n, N]
    terms: Array  # Σ_{s≤t} credit_s times the score at s, [..., m, n, N]

    def __init__(self, data: Trajectories, policy: GaussianPolicy) -> None:
        self._policy, (*batch, N, _) = policy, data.cost.shape
        leads = policy.K.shape[:-2], policy.cov.shape[:-2], tuple(batch)
        shape = (*np.broadcast_shapes(*leads), *policy.K.shape[-2:], N)
        self.score, self.terms = np.zeros((1, 1, 1, 1)), np.zeros(shape)

    def add(self, steps: Payments) -> None:
        """Go on to S_t of the next steps.

        Parameters
        ----------
        steps : Payments
        """
        before = self.score[..., -1, :, :, :]
        outer = steps.error[..., :, None, :] * steps.x[..., None, :, :]
        self.score = add_up(outer, before, core=3)

    def pay(self, credit: Array) -> None:
        """Add credit_t S_t of the present steps to the sum.

        Parameters
        ----------
        credit : array, shape [..., b, N]
        """
        # Step by step: the sum is the same whatever number of steps comes at a time.
        for t in range(credit.shape[-2]):
            self.terms += credit[..., t, None, None, :] * self.score[..., t, :, :, :]

    def mean(self, credit: Array) -> Array:
        """The mean of credit_t S_t over trajectories.

        Parameters
        ----------
        credit : array, shape [..., b, N]

        Returns
        -------
        array, shape [..., b, m, n]
        """
        found = self.score @ credit[..., None, :, None] / credit.shape[-1]
        return found[..., 0]

    def estimate(self, log_w: Array, shift: Array | float = 0.0) -> GradientEstimate:
        """The mean of the sums; its error is that of sums − shift.

        Parameters
        ----------
        log_w : array, shape [..., N]
            Of whole trajectories.
        shift : array, shape [..., m, n, N], or float

        Returns
        -------
        GradientEstimate
        """
        terms, change = (
            np.einsum("...km,...mni->...kni", np.linalg.inv(self._policy.cov), each)
            for each in (self.terms, np.broadcast_to(shift, self.terms.shape))
        )
        return mean_estimate(terms, log_w[..., None], change)


def relative(log_w: Array) -> Array:
    """Weights over the largest among trajectories.

    Parameters
    ----------
    log_w : array, shape [..., N]

    Returns
    -------
    array, shape [..., N]
    """
    return np.exp(log_w - np.maximum(log_w.max(-1, keepdims=True), -_HUGE))


def normalised(log_w: Array) -> Array:
    """Weights divided by their mean over trajectories.

    Parameters
    ----------
    log_w : array, shape [..., N]

    Returns
    -------
    array, shape [..., N]
    """
    w = relative(log_w)
    w /= np.maximum(w.mean(-1, keepdims=True), _TINY)
    return w


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
    return np.einsum("...i,...i->...", w, values)[..., None] / total


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
    total: Array | float = 0.0
    for t in range(credit.shape[-2]):
        x, u = part.x[..., t, :, :], part.u[..., t, :, :]
        paid = credit[..., t, None, :] * (u - K @ x)
        total = total + paid[..., :, None, :] * x[..., None, :, :]
    return np.einsum("...km,...mni->...kni", np.linalg.inv(cov), total)


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
