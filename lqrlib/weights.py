"""Importance weights: how much likelier one policy makes data that another one made.

The weight of the first t + 1 steps of a trajectory is the product of the ratios
π(u_s | x_s) / π_b(u_s | x_s) for s ≤ t: the world's own probabilities cancel. Weights
are kept as logarithms, since products of many ratios leave the floats.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.policy import GaussianPolicy
from lqrlib.rollout import Trajectories
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
        If either policy has no density: then the ratio does not exist.

    Notes
    -----
    The mixture: Veach & Guibas (1995), "Optimally combining sampling techniques for
    Monte Carlo rendering"; Owen (2013), "Monte Carlo theory, methods and examples",
    ch. 9. It costs one pass over the data for each policy that differs from the others.
    """
    log_w = running_sum(_ratios(trajectories, policy))
    if mixture:
        with np.errstate(invalid="ignore"):
            log_w = log_w - _log_mixture(trajectories)
        log_w[np.isnan(log_w)] = -np.inf  # a diverged trajectory, which all disown
    return log_w.mT


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
        If either policy has no density: then the ratio does not exist.
    """
    return _ratios(trajectories, policy).mT


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


def trajectories_last(matrices: Array) -> Array:
    """[..., N, m, n] or [m, n] as [..., m, n, N] or [m, n, 1]: as data lies in memory.

    Parameters
    ----------
    matrices : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., m, n, N] or [m, n, 1]
    """
    return matrices[..., None] if matrices.ndim == 2 else np.moveaxis(matrices, -3, -1)


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
    total = steps.copy()
    for t in range(1, steps.shape[-2]):
        total[..., t, :] += total[..., t - 1, :]
    return total


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
    return -0.5 * (np.einsum("...mni,...tmi,...tni->...ti", precision, e, e) + log_det)


def _ratios(trajectories: Trajectories, policy: GaussianPolicy) -> Array:
    """`log_ratios` with trajectories last, [..., T, N]."""
    if not isinstance(policy, GaussianPolicy):
        raise _no_density("policy", policy)
    made_by = _made_by(trajectories)
    _check_fit(trajectories, policy)
    x = np.moveaxis(trajectories.x[..., :-1, :], -3, -1)
    u = np.moveaxis(trajectories.u, -3, -1)
    target = policy.K[..., None], policy.cov[..., None]
    behaviour = trajectories_last(made_by.K), trajectories_last(made_by.cov)
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = log_density(*target, x, u) - log_density(*behaviour, x, u)
        if not np.isfinite(ratio.sum()):
            ratio[~(ratio < np.inf)] = -np.inf
        return ratio


def _made_by(trajectories: Trajectories) -> GaussianPolicy:
    if not isinstance(trajectories.policy, GaussianPolicy):
        raise _no_density("trajectories", trajectories.policy)
    return trajectories.policy


def _log_mixture(trajectories: Trajectories) -> Array:
    """log of the mean over the policies of Π_{s≤t} π_j / π_b, [..., T, N]."""
    total = np.full((1, 1), -np.inf)
    for policy, share in _distinct(_made_by(trajectories)):
        relative = running_sum(_ratios(trajectories, policy))
        total = np.logaddexp(total, np.log(share) + relative)
    return total


def _distinct(made_by: GaussianPolicy) -> Iterator[tuple[GaussianPolicy, float]]:
    """Each policy that made some trajectories, and the share that it made."""
    lead = np.broadcast_shapes(made_by.K.shape[:-2], made_by.cov.shape[:-2])
    if not lead:
        yield made_by, 1.0
        return
    K, cov = (
        np.broadcast_to(M, (*lead, *M.shape[-2:])) for M in (made_by.K, made_by.cov)
    )
    rows = [np.moveaxis(M, -3, 0).reshape(lead[-1], -1) for M in (K, cov)]
    _, first, counts = np.unique(
        np.concatenate(rows, axis=-1), axis=0, return_index=True, return_counts=True
    )
    for i, count in zip(first, counts, strict=True):
        yield GaussianPolicy(K[..., i, :, :], cov[..., i, :, :]), count / lead[-1]


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
