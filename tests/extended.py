"""The same quantities with 50 digits, by other ways: what double precision is held to.

A matrix is a NumPy array of mpmath numbers, so that a formula reads as on paper. Floats
are taken as they are: 0.1 is the double nearest to it, and no rounding comes before the
first operation here.
"""

from typing import NamedTuple

import mpmath
import numpy as np

DIGITS = 50
mp = mpmath.mp.clone()
mp.dps = DIGITS

_exact = np.vectorize(mp.mpf, otypes=[object])


def long(M):
    """The floats of an array, or a number, with 50 digits."""
    return _exact(np.asarray(M, dtype=object)) if np.ndim(M) else mp.mpf(M)


def eye(n):
    return long(np.eye(n))


def solve(M, right):
    """M⁻¹ right, for right [n] or [n, k]."""
    columns = right[:, None] if right.ndim == 1 else right
    found = [
        list(mp.lu_solve(mp.matrix(M.tolist()), mp.matrix(column.tolist())))
        for column in columns.T
    ]
    return np.array(found, dtype=object).T.reshape(right.shape)


def spectral_radius(F):
    """max |λᵢ(F)|."""
    values, _ = mp.eig(mp.matrix(long(F).tolist()))
    return max(abs(value) for value in values)


def operator(F):
    """I − F⊗F, the matrix of X − FXF' in the entries of X, row by row."""
    F = long(F)
    return eye(len(F) ** 2) - np.kron(F, F)


def lyapunov(F, D):
    """The solution of X = D + FXF' as one linear system in n² unknowns."""
    D = long(D)
    return solve(operator(F), D.ravel()).reshape(D.shape)


def condition(F):
    """‖(I − F⊗F)⁻¹‖∞ (1 + ‖F‖²): what an error of F's entries becomes in the answer."""
    M = operator(F)
    inverse = solve(M, eye(len(M)))
    size = np.abs(inverse).sum(axis=1).max()
    return float(size * (1 + np.abs(long(F)).sum(axis=1).max() ** 2))


class World(NamedTuple):
    """The arrays of an `LQR` with 50 digits."""

    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    W: np.ndarray
    X0: np.ndarray
    gamma: object

    @classmethod
    def of(cls, lqr):
        return cls(*(long(getattr(lqr, name)) for name in cls._fields))


class Exact(NamedTuple):
    """What `lqrlib.exact` finds for one gain."""

    P: np.ndarray
    X: np.ndarray
    Theta: np.ndarray
    E: np.ndarray
    cost: object
    gradient: np.ndarray
    step: np.ndarray  # of Gauss and Newton


def loop(lqr, K):
    """√γ (A + BK)."""
    world = World.of(lqr)
    return mp.sqrt(world.gamma) * (world.A + world.B @ long(K))


def evaluate(lqr, K, cov):
    """Everything about one stable gain, for a covariance [m, m]."""
    A, B, Q, R, W, X0, gamma = World.of(lqr)
    K, Sigma, F = long(K), long(cov), loop(lqr, K)
    P = lyapunov(F.T, Q + K.T @ R @ K)
    tail = gamma / (1 - gamma) if gamma < 1 else mp.mpf(0)
    noise = W + B @ Sigma @ B.T
    X = lyapunov(F, X0 + tail * noise)
    C, slope = R + gamma * B.T @ P @ B, gamma * B.T @ P @ A
    Theta = np.block([[Q + gamma * A.T @ P @ A, slope.T], [slope, C]])
    E = C @ K + slope
    exploring = np.trace(R @ Sigma) / (1 - gamma) if gamma < 1 else mp.mpf(0)
    # By the moments, Σ_t γᵗ E x'(Q + K'RK)x: the library goes by the values.
    cost = np.trace((Q + K.T @ R @ K) @ X) + exploring
    return Exact(P, X, Theta, E, cost, 2 * E @ X, solve(C, E))


def average_cost(lqr, K, cov):
    """tr((Q + K'RK)X) + tr(RΣ) with X the stationary moment."""
    A, B, Q, R, W, *_ = World.of(lqr)
    K, Sigma = long(K), long(cov)
    X = lyapunov(A + B @ K, W + B @ Sigma @ B.T)
    return np.trace((Q + K.T @ R @ K) @ X) + np.trace(R @ Sigma)


def optimal_gain(lqr, rounds=40):
    """K* by doubling the horizon of the Riccati recursion (Anderson, 1978)."""
    A, B, Q, R, *_, gamma = World.of(lqr)
    F, G, H = mp.sqrt(gamma) * A, gamma * B @ solve(R, B.T), Q
    for _ in range(rounds):
        inverse = solve(eye(len(F)) + G @ H, eye(len(F)))
        F, G, H = (
            F @ inverse @ F,
            G + F @ inverse @ G @ F.T,
            H + F.T @ H @ inverse @ F,
        )
        if np.abs(F).max() < mp.mpf(10) ** -DIGITS:
            break
    return -solve(R + gamma * B.T @ H @ B, gamma * B.T @ H @ A)


def stage_cost(lqr, K, cov, terminal=0.0):
    """The cost of stage gains [T, m, n], by the moments of the state."""
    A, B, Q, R, W, X, gamma = World.of(lqr)
    Sigma, total = long(cov), mp.mpf(0)
    for t, gain in enumerate(long(K)):
        stage = np.trace((Q + gain.T @ R @ gain) @ X) + np.trace(R @ Sigma)
        total += gamma**t * stage
        F = A + B @ gain
        X = F @ X @ F.T + W + B @ Sigma @ B.T
    return total + gamma ** len(K) * np.trace(long(terminal) @ X)


def root(S):
    """L with LL' = S ⪰ 0, by elimination: columns of zeros where S is singular."""
    S = long(S).copy()
    L = 0 * S
    for j in range(len(S)):
        if S[j, j] > 0:
            L[:, j] = S[:, j] / mp.sqrt(S[j, j])
            S = S - np.outer(L[:, j], L[:, j])
    return L


def log_det(M):
    """log det M if M ≻ 0, by elimination without exchanges; None if it is not."""
    M, total = M.copy(), mp.mpf(0)
    for j in range(len(M)):
        if not M[j, j] > 0:
            return None
        total += mp.log(M[j, j])
        M[j + 1 :, j + 1 :] -= np.outer(M[j + 1 :, j] / M[j, j], M[j, j + 1 :])
    return total


def exponent(lqr, K, K_behaviour, cov, horizon):
    """M with w = exp(v'Mv): v is all the standard noise of a trajectory, stacked."""
    A, B, _, _, W, X0, _ = World.of(lqr)
    n, m = B.shape
    size = n + horizon * (m + n)
    L, push, K_b = root(cov), root(W), long(K_behaviour)
    x = root(X0) @ long(np.eye(n, size))
    total = long(np.zeros((size, size)))
    for t in range(horizon):
        normals = long(np.eye(m + n, size, k=n + t * (m + n)))
        # Both actions in units of Σ: the target's mean is off by (K − K_b)x.
        xi = normals[:m]
        off = solve(L, (long(K) - K_b) @ x)
        total += (xi.T @ off + off.T @ xi - off.T @ off) / 2
        x = (A + B @ K_b) @ x + B @ L @ xi + push @ normals[m:]
    return total


def log_moment(lqr, K, K_behaviour, cov, horizon, order=2):
    """log E[w^q] = −½ log det(I − 2qM), +inf unless I − 2qM ≻ 0."""
    M = exponent(lqr, K, K_behaviour, cov, horizon)
    found = log_det(eye(len(M)) - 2 * long(order) * M)
    return mp.inf if found is None else -found / 2


def relative(found, true):
    """Largest error over the largest entry; inf where what was found is not finite."""
    found, true = np.atleast_1d(found), np.atleast_1d(true)
    if not np.isfinite(found.astype(float)).all():
        return np.inf
    error = np.abs(long(found) - true).max()
    return float(error / np.abs(true).max()) if error else 0.0
