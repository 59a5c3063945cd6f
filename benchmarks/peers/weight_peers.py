"""Per-decision importance-sampling gradients: by the book, and by differentiation.

The estimate is the mean over trajectories of Σ_t γᵗ w_t c_t Σ_{s≤t} ∇ log π(u_s|x_s).
It is the derivative of the mean of Σ_t γᵗ w_t c_t, as ∇w_t = w_t Σ_{s≤t} ∇ log π.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy.stats import multivariate_normal

from benchmarks.peers.jax_peers import compiled

torch.set_num_threads(1)


class Data(NamedTuple):
    """Trajectories of N(K_b x, Σ), seen by N(Kx, Σ); x [N, T, n], u [N, T, m]."""

    x: np.ndarray
    u: np.ndarray
    cost: np.ndarray
    K_b: np.ndarray
    K: np.ndarray
    cov: np.ndarray
    gamma: float


def textbook(data: Data) -> tuple[np.ndarray, np.ndarray, float]:
    """Gradient, standard error, effective sample size, formula by formula."""
    x, u, cost, K_b, K, cov, gamma = data
    N, T, m = u.shape
    density = multivariate_normal(np.zeros(m), cov)
    log_w = np.empty((N, T))
    for t in range(T):
        log_w[:, t] = density.logpdf(u[:, t] - x[:, t] @ K.T)
        log_w[:, t] -= density.logpdf(u[:, t] - x[:, t] @ K_b.T)
    w = np.exp(np.cumsum(log_w, axis=1))
    score = np.einsum("mk,itk,itn->itmn", np.linalg.inv(cov), u - x @ K.T, x)
    credit = w * cost * gamma ** np.arange(T)
    terms = np.einsum("it,itmn->imn", credit, np.cumsum(score, axis=1))
    effective = w[:, -1].sum() ** 2 / np.square(w[:, -1]).sum()
    return terms.mean(axis=0), terms.std(axis=0, ddof=1) / np.sqrt(N), effective


def _rows_last(data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x [T, n, N], u [T, m, N] and discounted costs [T, N]."""
    discounts = data.gamma ** np.arange(data.cost.shape[1])
    x, u = (np.moveaxis(part, 0, -1) for part in (data.x, data.u))
    return tuple(map(np.ascontiguousarray, (x, u, (data.cost * discounts).T)))


def differentiated_by_jax(data: Data) -> Callable[[], object]:
    """The gradient alone, compiled; the log ratio with its squares multiplied out."""
    K_b, precision = data.K_b, np.linalg.inv(data.cov)

    def surrogate(K: jax.Array, x: jax.Array, u: jax.Array, cost: jax.Array) -> object:
        slope = (precision @ (K - K_b)) @ x
        ratios = (slope * (u - (0.5 * (K + K_b)) @ x)).sum(axis=1)
        return (jnp.exp(jnp.cumsum(ratios, axis=0)) * cost).sum(axis=0).mean()

    given = map(jnp.asarray, (data.K, *_rows_last(data)))
    return compiled(jax.grad(surrogate), *given)


def differentiated_scan_by_jax(data: Data) -> Callable[[], object]:
    """The same, one step at a time, so that what a step needs stays in the cache."""
    K_b, precision = data.K_b, np.linalg.inv(data.cov)

    def surrogate(K: jax.Array, *rows: jax.Array) -> object:
        def step(carry: tuple, row: tuple) -> tuple:
            (log_w, total), (x, u, cost) = carry, row
            slope = precision @ (K - K_b) @ x
            log_w = log_w + (slope * (u - 0.5 * (K + K_b) @ x)).sum(axis=0)
            return (log_w, total + jnp.exp(log_w) * cost), None

        zero = jnp.zeros(rows[-1].shape[-1])
        (_, total), _ = jax.lax.scan(step, (zero, zero), rows)
        return total.mean()

    given = map(jnp.asarray, (data.K, *_rows_last(data)))
    return compiled(jax.grad(surrogate), *given)


def differentiated_by_torch(data: Data) -> Callable[[], object]:
    """The gradient alone, in eager mode, the same formula."""
    K_b, precision = map(torch.tensor, (data.K_b, np.linalg.inv(data.cov)))
    K, x, u, cost = map(torch.tensor, (data.K, *_rows_last(data)))
    K.requires_grad_()

    def run() -> torch.Tensor:
        slope = (precision @ (K - K_b)) @ x
        ratios = (slope * (u - (0.5 * (K + K_b)) @ x)).sum(dim=1)
        total = (torch.exp(torch.cumsum(ratios, dim=0)) * cost).sum(dim=0).mean()
        return torch.autograd.grad(total, K)[0]

    return run
