"""J and ∇J from two Lyapunov equations, with other people's solvers."""

from collections.abc import Callable

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from lqrlib import LQR

Solver = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _evaluate(lqr: LQR, K: np.ndarray, solve: Solver) -> tuple[float, np.ndarray]:
    """Cost and gradient, with ``solve(F, D)`` for X = D + FXF'."""
    A, B, Q, R, W, X0, gamma = lqr.A, lqr.B, lqr.Q, lqr.R, lqr.W, lqr.X0, lqr.gamma
    F = np.sqrt(gamma) * (A + B @ K)
    P = solve(F.T, Q + K.T @ R @ K)
    source = X0 + gamma / (1 - gamma) * W
    X = solve(F, source)
    E = (R + gamma * B.T @ P @ B) @ K + gamma * B.T @ P @ A
    return float(np.sum(P * source)), 2 * E @ X


def scipy(lqr: LQR, K: np.ndarray) -> tuple[float, np.ndarray]:
    """With SciPy's solver, which chooses its method by the size."""
    return _evaluate(lqr, K, solve_discrete_lyapunov)


def quantecon(lqr: LQR, K: np.ndarray) -> tuple[float, np.ndarray]:
    """With QuantEcon's, which doubles as well."""
    from quantecon import solve_discrete_lyapunov as doubling

    return _evaluate(lqr, K, doubling)


def control(lqr: LQR, K: np.ndarray) -> tuple[float, np.ndarray]:
    """With python-control's: SLICOT's where that is installed, else SciPy's."""
    from control import dlyap

    return _evaluate(lqr, K, dlyap)
