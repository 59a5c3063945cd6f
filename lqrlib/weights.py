"""Importance weights: how much likelier one policy makes data that another one made.

The weight of the first t + 1 steps of a trajectory is the product of the ratios
π(u_s | x_s) / π_b(u_s | x_s) for s ≤ t: the world's own probabilities cancel. Weights
are kept as logarithms, since products of many ratios leave the floats.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.policy import GaussianPolicy
from lqrlib.rollout import Trajectories, attributed
from lqrlib.weight_moments import (
    breakdown,
    critical_covariance,
    log_moment,
    moment,
    second_moment,
    tail_index,
)

__all__ = [
    "breakdown",
    "critical_covariance",
    "effective_sample_size",
    "log_moment",
    "log_ratios",
    "log_weights",
    "moment",
    "second_moment",
    "tail_index",
]

# Policies times trajectories in one computation of a mixture: a megabyte. Weights in
# one of the others: what stays in cache, and is more work than the call of it.
_BLOCK, _AT_ONCE = 100_000, 8000
_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class Steps(NamedTuple):
    """A few steps of all trajectories, as they count for a policy N(Kx, Σ).

    Parameters
    ----------
    at : slice
        Which steps, b of them.
    x : array, shape [..., b, n, N]
    error : array, shape [..., b, m, N]
        u − K x.
    log_w : array, shape [..., b, N]
        Logarithm of the weight of all steps up to each of them.
    """

    at: slice
    x: Array
    error: Array
    log_w: Array


@_overflow_is_data
def log_weights(
    trajectories: Trajectories, policy: GaussianPolicy, *, mixture: bool = False
) -> Array:
    """log Π_{s≤t} π(u_s|x_s) / π_b(u_s|x_s), for every trajectory and every t.

    Parameters
    ----------
    trajectories : Trajectories
        Made by a policy with a density, π_b.
    policy : GaussianPolicy
        The policy π that the data shall speak of; leading axes of its K broadcast
        against those of the trajectories, which end before N.
    mixture : bool
        Divide by the mean over all N trajectories' policies of Π_{s≤t} π_j(u_s|x_s),
        not by the trajectory's own: the balance heuristic. Where π is one of these
        policies, no weight exceeds N.

    Returns
    -------
    array, shape [..., N, T]
        The last column holds the weights of whole trajectories; −inf where the
        states of a diverged trajectory are infinite.

    Raises
    ------
    ValueError
        If a part of the trajectories has a wrong shape or entry, or either policy no
        density: then the ratio does not exist.

    Notes
    -----
    The mixture: Veach & Guibas (1995), "Optimally combining sampling techniques for
    Monte Carlo rendering"; Owen (2013), "Monte Carlo theory, methods and examples",
    ch. 9. It costs one pass over the data for each policy that differs from the others.
    """
    trajectories = attributed("trajectories", trajectories)
    mixture = _validate.flag("mixture", mixture)
    steps = weighed(trajectories, policy, mixture=mixture)
    return np.concatenate([each.log_w for each in steps], axis=-2).mT


@_overflow_is_data
def log_ratios(trajectories: Trajectories, policy: GaussianPolicy) -> Array:
    """log π(u_t|x_t) / π_b(u_t|x_t), for every single step.

    Parameters
    ----------
    trajectories : Trajectories
        Made by a policy with a density, π_b.
    policy : GaussianPolicy
        π; leading axes as in `log_weights`.

    Returns
    -------
    array, shape [..., N, T]
        −inf where the states of a diverged trajectory are infinite.

    Raises
    ------
    ValueError
        If a part of the trajectories has a wrong shape or entry, or either policy no
        density: then the ratio does not exist.
    """
    steps = _steps(attributed("trajectories", trajectories), policy)
    rows = [each.log_w for each in steps]
    return np.concatenate(rows, axis=-2).mT


def effective_sample_size(log_w: ArrayLike) -> Array:
    """(Σ w)² / Σ w²: how many equal weights are worth as much, from 1 to N.

    Parameters
    ----------
    log_w : array, shape [..., N]
        Logarithms of weights, −inf for a weight of 0; only differences matter.

    Returns
    -------
    array, shape [...]
        0 where all weights are 0.

    Raises
    ------
    ValueError
        If log_w has no axis, or holds nan or +inf.

    Notes
    -----
    Kong (1992), "A note on importance sampling using standardized weights".
    """
    logs = _validate.logarithms("log_w", log_w)
    w = np.exp(logs - np.maximum(logs.max(axis=-1, keepdims=True), -1e300))
    total = w.sum(axis=-1)
    return total**2 / np.maximum((w * w).sum(axis=-1), np.finfo(float).tiny)


def weighed(
    trajectories: Trajectories, policy: GaussianPolicy, *, mixture: bool = False
) -> Iterator[Steps]:
    """A few steps after the other, each with its weights: `log_weights`, in parts.

    So many that they stay in the cache, where whole data do not. Overflow is not
    silenced here: a generator cannot.

    Parameters
    ----------
    trajectories : Trajectories
        Made by a policy with a density.
    policy : GaussianPolicy
    mixture : bool

    Yields
    ------
    Steps

    Raises
    ------
    ValueError
        If either policy has no density.
    """
    steps = _steps(trajectories, policy)
    log_mixture = _log_mixture(trajectories) if mixture else None
    before: Array | float = 0.0
    for each in steps:
        log_w = add_up(each.log_w, before)
        before = log_w[..., -1, :]
        if log_mixture is not None:
            log_w = log_w - log_mixture[..., each.at, :]
            log_w[np.isnan(log_w)] = -np.inf  # a diverged trajectory: all disown it
        yield each._replace(log_w=log_w)


def add_up(steps: Array, before: Array | float = 0.0, core: int = 1) -> Array:
    """Σ_{s≤t} over the steps, in place: cumsum walks memory the slow way.

    Parameters
    ----------
    steps : array, shape [..., T, (core axes)]
    before : array, shape [..., (core axes)], or float
        What the sum starts from.
    core : int
        Axes after that of the steps.

    Returns
    -------
    array, of the shape of steps
    """
    rows = np.moveaxis(steps, -core - 1, 0)
    rows[0] += before
    for t in range(1, len(rows)):
        rows[t] += rows[t - 1]
    return steps


def residual(K: Array, x: Array, u: Array) -> Array:
    """u − K x, with trajectories last.

    Parameters
    ----------
    K : array, shape [..., m, n, N] or [..., m, n, 1]
    x : array, shape [..., T, n, N]
    u : array, shape [..., T, m, N]

    Returns
    -------
    array, shape [..., T, m, N]
    """
    return u - np.einsum("...mni,...tni->...tmi", K, x)


def running_sum(steps: Array) -> Array:
    """Σ_{s≤t} over the steps, as whole rows: cumsum walks memory the slow way.

    Parameters
    ----------
    steps : array, shape [..., T, N]

    Returns
    -------
    array, shape [..., T, N]
    """
    return add_up(steps.copy())


def log_density(K: Array, cov: Array, x: Array, u: Array) -> Array:
    """log N(u; Kx, Σ) up to its constant −½ m log 2π, with trajectories last.

    Parameters
    ----------
    K : array, shape [..., m, n, N] or [..., m, n, 1]
    cov : array, shape [..., m, m, N] or [..., m, m, 1]
    x : array, shape [..., T, n, N]
    u : array, shape [..., T, m, N]

    Returns
    -------
    array, shape [..., T, N]
    """
    e = residual(K, x, u)
    Sigma = np.moveaxis(cov, -1, -3)
    precision = np.moveaxis(np.linalg.inv(Sigma), -3, -1)
    log_det = np.linalg.slogdet(Sigma).logabsdet[..., None, :]
    whitened = np.einsum("...mni,...tni->...tmi", precision, e)
    return -0.5 * (np.einsum("...tmi,...tmi->...ti", whitened, e) + log_det)


def _steps(trajectories: Trajectories, policy: GaussianPolicy) -> Iterator[Steps]:
    """A few steps after the other, with the log ratio of each for log_w.

    With h = ½(K − K_b)x and e = u − Kx the ratio of densities with one Σ has the
    logarithm 2h'Σ⁻¹(e + h), where nothing large cancels. With another Σ_b the term
    ½ (e + 2h)'(Σ_b⁻¹ − Σ⁻¹)(e + 2h) is added, and half the log determinants.
    """
    if not isinstance(policy, GaussianPolicy):
        raise _no_density("policy", policy)
    made_by = _made_by(trajectories)
    _check_fit(trajectories, policy)
    precision, own = np.linalg.inv(policy.cov), np.linalg.inv(made_by.cov)
    half = 0.5 * (policy.K[..., None] - _trajectories_last(made_by.K))
    weighed_half = np.einsum("...lm,...mni->...lni", 2.0 * precision, half)
    other = _trajectories_last(own) - precision[..., None]
    shift = 0.5 * (_log_det(made_by.cov) - _log_det(policy.cov)[..., None])
    alike = not (other.any() or shift.any())
    for at in few_steps(trajectories, policy):
        x, u = of_steps(trajectories, at)
        error = u - policy.K[..., None, :, :] @ x
        h = _each(half, x)
        log_ratio = _dot(_each(weighed_half, x), error + h)
        if not alike:
            before = error + 2.0 * h
            log_ratio += 0.5 * _dot(_each(other, before), before)
            log_ratio += shift[..., None, :]
        if not np.isfinite(log_ratio.sum()):
            log_ratio[~(log_ratio < np.inf)] = -np.inf
        yield Steps(at, x, error, log_ratio)


def few_steps(trajectories: Trajectories, policy: GaussianPolicy) -> Iterator[slice]:
    """Parts of the steps, as long as is good for the cache.

    Parameters
    ----------
    trajectories : Trajectories
    policy : GaussianPolicy

    Yields
    ------
    slice
    """
    *batch, N, T = trajectories.cost.shape
    leads = tuple(batch), policy.K.shape[:-2], policy.cov.shape[:-2]
    count = max(1, _AT_ONCE // (N * math.prod(np.broadcast_shapes(*leads))))
    return (slice(t, min(t + count, T)) for t in range(0, T, count))


def of_steps(trajectories: Trajectories, at: slice) -> tuple[Array, Array]:
    """States and actions of some steps, with trajectories last.

    Parameters
    ----------
    trajectories : Trajectories
    at : slice
        b steps.

    Returns
    -------
    x : array, shape [..., b, n, N]
    u : array, shape [..., b, m, N]
    """
    x, u = trajectories.x[..., at, :], trajectories.u[..., at, :]
    return np.moveaxis(x, -3, -1), np.moveaxis(u, -3, -1)


def _trajectories_last(matrices: Array) -> Array:
    """[..., N, m, n] or [m, n] as [..., m, n, N] or [m, n, 1]: as data lie."""
    return matrices[..., None] if matrices.ndim == 2 else np.moveaxis(matrices, -3, -1)


def _log_det(Sigma: Array) -> Array:
    return np.linalg.slogdet(Sigma).logabsdet


def _each(matrices: Array, x: Array) -> Array:
    """Products with one matrix for all trajectories, or one for each of them."""
    if matrices.shape[-1] == 1:
        return matrices[..., None, :, :, 0] @ x
    return np.einsum("...mni,...tni->...tmi", matrices, x)


def _dot(a: Array, b: Array) -> Array:
    """Σ_m a_m b_m, as rows: NumPy's sums are slow over a short axis."""
    products = (a[..., m, :] * b[..., m, :] for m in range(a.shape[-2]))
    return functools.reduce(np.add, products)


def _made_by(trajectories: Trajectories) -> GaussianPolicy:
    if not isinstance(trajectories.policy, GaussianPolicy):
        raise _no_density("trajectories", trajectories.policy)
    return trajectories.policy


def _log_mixture(trajectories: Trajectories) -> Array:
    """log of the mean over the policies of Π_{s≤t} π_j / π_b, [..., T, N]."""
    K, cov, shares = _distinct(_made_by(trajectories))
    count = max(1, _BLOCK // trajectories.diverged.size)
    total = np.full((1, 1), -np.inf)
    for i in range(0, len(shares), count):
        some = slice(i, i + count)
        policy, share = GaussianPolicy(K[some], cov[some]), shares[some]
        log_share = np.log(share).reshape(-1, *(1 for _ in trajectories.cost.shape))
        steps = weighed(trajectories, policy)
        rows = [_log_sum(log_share + each.log_w) for each in steps]
        total = np.logaddexp(total, np.concatenate(rows, axis=-2))
    return total


def _log_sum(logs: Array) -> Array:
    """log Σ exp over the first axis."""
    largest = np.maximum(logs.max(axis=0), -1e300)
    with np.errstate(divide="ignore"):
        return largest + np.log(np.exp(logs - largest).sum(axis=0))


def _distinct(made_by: GaussianPolicy) -> tuple[Array, Array, Array]:
    """The policies that made some trajectories, [J, ...], and the share of each."""
    lead = np.broadcast_shapes(made_by.K.shape[:-2], made_by.cov.shape[:-2])
    if not lead:
        return made_by.K[None], made_by.cov[None], np.ones(1)
    K, cov = (
        np.moveaxis(np.broadcast_to(M, (*lead, *M.shape[-2:])), -3, 0)
        for M in (made_by.K, made_by.cov)
    )
    rows = [M.reshape(lead[-1], -1) for M in (K, cov)]
    _, first, counts = np.unique(
        np.concatenate(rows, axis=-1), axis=0, return_index=True, return_counts=True
    )
    return K[first], cov[first], counts / lead[-1]


def _check_fit(trajectories: Trajectories, policy: GaussianPolicy) -> None:
    m, n = trajectories.u.shape[-1], trajectories.x.shape[-1]
    if policy.K.shape[-2:] != (m, n):
        wanted = f"a gain of shape (…, {m}, {n}), as the data have"
        raise _validate.error("policy", wanted, policy.K.shape)
    for matrices in (policy.K, policy.cov):
        _validate.leading("policy", matrices, 2, trajectories.cost.shape[:-2])


def _no_density(name: str, policy: object) -> ValueError:
    found = f"{type(policy).__name__}, which has no density"
    return _validate.error(name, "a GaussianPolicy", found)
