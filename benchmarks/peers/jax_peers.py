"""The same work in JAX: float64, compiled beforehand, trajectories last."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lqrlib import LQR

jax.config.update("jax_enable_x64", True)

Run = Callable[[], object]


def compiled(function: Callable, *given: object) -> Run:
    """A call of the compiled function, once it has been compiled."""
    run = jax.jit(function)
    jax.block_until_ready(run(*given))
    return lambda: jax.block_until_ready(run(*given))


def _rolled(
    lqr: LQR, K: jax.Array, sigma: float, x0: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """States stacked on actions [T, n+m, N] and costs [T, N]; noise [T, m+n, N]."""
    m, L = lqr.m, np.linalg.cholesky(lqr.W)

    def step(x: jax.Array, normals: jax.Array) -> tuple[jax.Array, tuple]:
        u = K @ x + sigma * normals[:m]
        cost = (x * (lqr.Q @ x)).sum(axis=0) + (u * (lqr.R @ u)).sum(axis=0)
        ahead = lqr.A @ x + lqr.B @ u + L @ normals[m:]
        return ahead, (jnp.concatenate([x, u]), cost)

    last, (z, cost) = jax.lax.scan(step, x0, noise)
    final = jnp.concatenate([last, jnp.zeros((m, last.shape[1]))])
    return jnp.concatenate([z, final[None]])[:, : lqr.n], cost


def rollouts(lqr: LQR, K: np.ndarray, sigma: float, N: int, T: int) -> Run:
    """Rollouts with normals of JAX's own."""
    start = np.linalg.cholesky(lqr.X0)

    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, rest = jax.random.split(key)
        x0 = start @ jax.random.normal(first, (lqr.n, N))
        noise = jax.random.normal(rest, (T, lqr.m + lqr.n, N))
        return _rolled(lqr, K, sigma, x0, noise)

    return compiled(run, jax.random.key(0))


def rollouts_given(
    lqr: LQR, K: np.ndarray, sigma: float, x0: np.ndarray, noise: np.ndarray
) -> Run:
    """Rollouts with starts [N, n] and normals [N, T, m+n] as they are given."""
    normals = jnp.asarray(np.ascontiguousarray(np.moveaxis(noise, 0, -1)))

    def run(x0: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _rolled(lqr, K, sigma, x0, noise)

    return compiled(run, jnp.asarray(x0.T), normals)


def landscape(lqr: LQR, gains: np.ndarray) -> Run:
    """Costs and gradients by doubling, all gains until the last is done."""
    g, source = lqr.gamma, lqr.X0 + lqr.gamma / (1 - lqr.gamma) * lqr.W

    def run(K: jax.Array) -> tuple[jax.Array, jax.Array]:
        F = np.sqrt(g) * (lqr.A + lqr.B @ K)
        stage = lqr.Q + K.mT @ lqr.R @ K

        def going(state: tuple) -> jax.Array:
            F, _, _, rounds = state
            return (jnp.square(F).sum(axis=(-2, -1)).max() > 1e-17) & (rounds < 64)

        def double(state: tuple) -> tuple:
            F, X, P, rounds = state
            return F @ F, X + F @ X @ F.mT, P + F.mT @ P @ F, rounds + 1

        X = jnp.broadcast_to(source, F.shape)
        _, X, P, _ = jax.lax.while_loop(going, double, (F, X, stage, 0))
        BPB, BPA = lqr.B.T @ P @ lqr.B, lqr.B.T @ P @ lqr.A
        E = (lqr.R + g * BPB) @ K + g * BPA
        return jnp.sum(P * source, axis=(-2, -1)), 2 * E @ X

    return compiled(run, jnp.asarray(gains))
