"""MBPO for one setting at a time, in NumPy, vectorised over trajectories.

It draws in the order of `lqrlib.mbpo`, so that the paths are the same. It has no flags,
records or checks: it is the loop that one would write for an experiment.
"""

import numpy as np

from lqrlib import LQR
from lqrlib.mbpo import MBPOSettings


def run(lqr: LQR, settings: MBPOSettings, rng: np.random.Generator) -> np.ndarray:
    """Gains [updates + 1, m, n] of ``"hack"`` or ``"dpg"``, from one collection."""
    N, T, n, m = settings.n_trajectories, settings.horizon, lqr.n, lqr.m
    sigma, K_b = np.sqrt(settings.cov), np.asarray(settings.K0)
    x0 = rng.standard_normal((N, n)) @ np.linalg.cholesky(lqr.X0).T
    noise = rng.standard_normal((T, m + n, N))
    world = lqr.A, lqr.B, _root(lqr.W)
    x, u = rollout(*world, K_b, sigma, x0.T, noise)
    A, B, W = fitted(x, u)
    model, n_real = (A, B, _root(W)), int(N * settings.real_ratio)
    K, path = K_b, [K_b]
    for _ in range(settings.updates):
        chosen = rng.permutation(N) < n_real
        noise = rng.standard_normal((T, m + n, N))
        x_m, u_m = rollout(*model, K, sigma, x0.T, noise)
        x_m, u_m = x_m[..., : N - n_real], u_m[..., : N - n_real]
        real = x[..., chosen], u[..., chosen]
        if settings.expression == "hack":
            g = hacked(lqr, K, K_b, sigma, real, (x_m, u_m))
            K = K - settings.step_length * g / np.linalg.norm(g)
        else:
            both = [
                np.concatenate(pair, axis=-1)
                for pair in zip(real, (x_m, u_m), strict=True)
            ]
            K = K - settings.damping * improved(lqr, K, *both)
        path.append(K)
    return np.array(path)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(values)


def rollout(A, B, L, K, sigma, x0, noise) -> tuple[np.ndarray, np.ndarray]:
    """States [T+1, n, N] and actions [T, m, N]."""
    T, m = len(noise), len(K)
    x, u = np.empty((T + 1, *x0.shape)), np.empty((T, m, x0.shape[1]))
    x[0] = x0
    for t in range(T):
        u[t] = K @ x[t] + sigma * noise[t, :m]
        x[t + 1] = A @ x[t] + B @ u[t] + L @ noise[t, m:]
    return x, u


def fitted(x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares for A, B and the noise's covariance."""
    n = x.shape[1]
    z = (
        np.concatenate([x[:-1], u], axis=1)
        .transpose(0, 2, 1)
        .reshape(-1, n + u.shape[1])
    )
    ahead = x[1:].transpose(0, 2, 1).reshape(-1, n)
    solution, _, _, _ = np.linalg.lstsq(z, ahead, rcond=None)
    rest = ahead - z @ solution
    return solution[:n].T, solution[n:].T, rest.T @ rest / (len(z) - z.shape[1])


def _costs(lqr: LQR, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Stage costs [T, N]."""
    return ((lqr.Q @ x) * x).sum(axis=1) + ((lqr.R @ u) * u).sum(axis=1)


def hacked(lqr, K, K_b, sigma, real, imagined) -> np.ndarray:
    """Weighted likelihood-ratio gradient with a time baseline over both parts."""
    parts = []
    for x, u, behaviour in ((*real, K_b), (*imagined, K)):
        x = x[:-1]
        e, e_b = u - K @ x, u - behaviour @ x
        log_w = ((e_b**2 - e**2).sum(axis=1) / (2 * sigma**2)).cumsum(axis=0)
        discounts = lqr.gamma ** np.arange(len(u))[:, None]
        parts.append((x, e, np.exp(log_w), discounts * _costs(lqr, x, u)))
    total = sum((w * c).sum(axis=1) for *_, w, c in parts)
    baseline = (total / sum(w.sum(axis=1) for *_, w, _ in parts))[:, None]
    g = 0.0
    for x, e, w, c in parts:
        credit = (w * (c - baseline))[::-1].cumsum(axis=0)[::-1]
        g = g + np.einsum("ti,tmi,tni->mn", credit, e, x) / sigma**2
    return g


def improved(lqr: LQR, K: np.ndarray, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """K − K₊ of the gain that is greedy for LSTDQ's critic of K."""
    here = np.concatenate([x[:-1], u], axis=1)
    ahead = np.concatenate([x[1:], K @ x[1:]], axis=1)
    phi, psi = _features(here), _features(ahead)
    b = phi @ _costs(lqr, x[:-1], u).ravel()
    theta = np.linalg.solve(phi @ (phi - lqr.gamma * psi).T, b)
    width, n = here.shape[1], lqr.n
    i, j = np.triu_indices(width)
    Theta = np.empty((width, width))
    Theta[i, j] = Theta[j, i] = theta[:-1]
    return K + np.linalg.solve(Theta[n:, n:], Theta[n:, :n])


def _features(z: np.ndarray) -> np.ndarray:
    """All products of two entries, and 1; [d, T N]."""
    i, j = np.triu_indices(z.shape[1])
    double = np.where(i == j, 1.0, 2.0)[:, None]
    rows = double * (z[:, i] * z[:, j]).transpose(1, 0, 2).reshape(len(i), -1)
    return np.concatenate([rows, np.ones((1, rows.shape[1]))])
