"""MBPO over a grid in JAX: cells by vmap, updates by scan, draws shared by cells."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.jax_peers import Run, compiled
from lqrlib import LQR
from lqrlib.mbpo import MBPOSettings


def grid(lqr: LQR, settings: MBPOSettings, axes: Mapping[str, np.ndarray]) -> Run:
    """All cells for one seed, with draws of JAX's own, made as they are needed."""
    N, T, width = settings.n_trajectories, settings.horizon, lqr.n + lqr.m
    start = np.linalg.cholesky(lqr.X0)

    def run(key: jax.Array) -> jax.Array:
        first, second, rest = jax.random.split(key, 3)
        x0 = start @ jax.random.normal(first, (lqr.n, N))
        noise = jax.random.normal(second, (T, width, N))

        def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            for_places, for_noise = jax.random.split(key)
            places = jax.random.permutation(for_places, N)
            return places, jax.random.normal(for_noise, (T, width, N))

        keys = jax.random.split(rest, settings.updates)
        return _paths(lqr, settings, axes, x0, noise, keys, draw)

    return compiled(run, jax.random.key(0))


def with_draws_of(
    lqr: LQR,
    settings: MBPOSettings,
    axes: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """The same from NumPy's draws in the library's order: gains [U + 1, C, R, m, n]."""
    N, T, width = settings.n_trajectories, settings.horizon, lqr.n + lqr.m
    x0 = np.linalg.cholesky(lqr.X0) @ rng.standard_normal((N, lqr.n)).T
    noise = rng.standard_normal((T, width, N))
    draws = [
        (rng.permutation(N), rng.standard_normal((T, width, N)))
        for _ in range(settings.updates)
    ]
    places, noises = (jnp.asarray(np.stack(part)) for part in zip(*draws, strict=True))
    run = jax.jit(lambda *given: _paths(lqr, settings, axes, *given, lambda pair: pair))
    return np.asarray(run(jnp.asarray(x0), jnp.asarray(noise), (places, noises)))


def _paths(
    lqr: LQR,
    settings: MBPOSettings,
    axes: Mapping[str, np.ndarray],
    x0: jax.Array,
    noise: jax.Array,
    sources: object,
    draw: Callable,
) -> jax.Array:
    """Gains [U + 1, C, R, m, n]; ``draw`` makes an update's draws of its source."""
    N, K_b = settings.n_trajectories, jnp.asarray(settings.K0)
    n_real = jnp.asarray([int(N * r) for r in axes["real_ratio"]])
    W = _root(lqr.W)

    def collect(sigma: jax.Array) -> tuple:
        x, u = _rolled(lqr.A, lqr.B, W, K_b, sigma, x0, noise)
        return x, u, *_fitted(x, u)

    sigma = jnp.sqrt(jnp.asarray(axes["cov"]))
    real = jax.vmap(collect)(sigma)
    step = _hacked if settings.expression == "hack" else _improved

    def cell(K, data, sigma, n_real, places, normals) -> jax.Array:
        x, u, A, B, L = data
        imagined = _rolled(A, B, L, K, sigma, x0, normals)
        chosen, counts = places < n_real, jnp.arange(N) < N - n_real
        return K - step(lqr, settings, K, sigma, (x, u, chosen), (*imagined, counts))

    by_ratio = jax.vmap(cell, (0, None, None, 0, None, None))
    every = jax.vmap(by_ratio, (0, 0, 0, None, None, None))

    def update(K: jax.Array, source: object) -> tuple[jax.Array, jax.Array]:
        K = every(K, real, sigma, n_real, *draw(source))
        return K, K

    first = jnp.broadcast_to(K_b, (len(sigma), len(n_real), *K_b.shape))
    _, path = jax.lax.scan(update, first, sources)
    return jnp.concatenate([first[None], path])


def _root(covariance: jax.Array) -> jax.Array:
    values, vectors = jnp.linalg.eigh(covariance)
    return vectors * jnp.sqrt(values)


def _rolled(A, B, L, K, sigma, x0, noise):
    """States [T+1, n, N] and actions [T, m, N]."""
    m = K.shape[0]

    def step(x, normals):
        u = K @ x + sigma * normals[:m]
        return A @ x + B @ u + L @ normals[m:], (x, u)

    last, (x, u) = jax.lax.scan(step, x0, noise)
    return jnp.concatenate([x, last[None]]), u


def _fitted(x, u):
    """Least squares for A, B, and a root of the noise's covariance."""
    n = x.shape[1]
    z = (
        jnp.concatenate([x[:-1], u], axis=1)
        .transpose(0, 2, 1)
        .reshape(-1, n + u.shape[1])
    )
    ahead = x[1:].transpose(0, 2, 1).reshape(-1, n)
    solution = jnp.linalg.solve(z.T @ z, z.T @ ahead)
    rest = ahead - z @ solution
    W = rest.T @ rest / (len(z) - z.shape[1])
    return solution[:n].T, solution[n:].T, _root(W)


def _costs(lqr, x, u):
    return ((lqr.Q @ x) * x).sum(axis=1) + ((lqr.R @ u) * u).sum(axis=1)


def _hacked(lqr, settings, K, sigma, real, imagined):
    """A step of one length along the weighted gradient with a time baseline."""
    parts = []
    for (x, u, counts), behaviour in ((real, settings.K0), (imagined, K)):
        x = x[:-1]
        e, e_b = u - K @ x, u - behaviour @ x
        log_w = jnp.cumsum((e_b**2 - e**2).sum(axis=1) / (2 * sigma**2), axis=0)
        discounts = lqr.gamma ** np.arange(len(u))[:, None]
        parts.append((x, e, jnp.exp(log_w) * counts, discounts * _costs(lqr, x, u)))
    total = sum((w * c).sum(axis=1) for *_, w, c in parts)
    baseline = (total / sum(w.sum(axis=1) for *_, w, _ in parts))[:, None]
    g = 0.0
    for x, e, w, c in parts:
        credit = jnp.cumsum((w * (c - baseline))[::-1], axis=0)[::-1]
        g = g + jnp.einsum("ti,tmi,tni->mn", credit, e, x)
    return settings.step_length * g / jnp.linalg.norm(g)


def _improved(lqr, settings, K, sigma, real, imagined):  # noqa: ARG001
    """A share of the step to the gain that is greedy for LSTDQ's critic."""
    M, b = 0.0, 0.0
    for x, u, counts in (real, imagined):
        here = jnp.concatenate([x[:-1], u], axis=1)
        ahead = jnp.concatenate([x[1:], K @ x[1:]], axis=1)
        phi, psi = _features(here), _features(ahead)
        kept = phi * counts
        M = M + jnp.einsum("tdi,tei->de", kept, phi - lqr.gamma * psi)
        b = b + jnp.einsum("tdi,ti->d", kept, _costs(lqr, x[:-1], u))
    theta, width, n = jnp.linalg.solve(M, b), lqr.n + lqr.m, lqr.n
    i, j = np.triu_indices(width)
    Theta = jnp.zeros((width, width)).at[i, j].set(theta[:-1]).at[j, i].set(theta[:-1])
    return settings.damping * (K + jnp.linalg.solve(Theta[n:, n:], Theta[n:, :n]))


def _features(z):
    """All products of two entries, and 1; [T, d, N]."""
    i, j = np.triu_indices(z.shape[1])
    double = np.where(i == j, 1.0, 2.0)[:, None]
    ones = jnp.ones((z.shape[0], 1, z.shape[2]))
    return jnp.concatenate([double * z[:, i] * z[:, j], ones], axis=1)
