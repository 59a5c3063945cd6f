"""Worlds of any size, the same for everybody."""

import numpy as np

from lqrlib import LQR, exact


def world(n: int, m: int = 1) -> LQR:
    """A random stable world of n states and m actions, with noise.

    Parameters
    ----------
    n, m : int

    Returns
    -------
    LQR
    """
    rng = np.random.default_rng([n, m])
    A = rng.standard_normal((n, n))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    B = rng.standard_normal((n, m))
    return LQR(A, B, np.eye(n), np.eye(m), 0.1 * np.eye(n), np.eye(n), 0.99)


def gains(lqr: LQR, count: int) -> np.ndarray:
    """Gains around K*, nearly all of them stable.

    Parameters
    ----------
    lqr : LQR
    count : int

    Returns
    -------
    array, shape [count, m, n]
    """
    rng = np.random.default_rng(count)
    spread = 0.01 * rng.standard_normal((count, lqr.m, lqr.n))
    return exact.optimal_gain(lqr) + spread
