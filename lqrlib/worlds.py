"""The named worlds of the book. Each call builds a fresh, frozen `LQR`."""

import numpy as np

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.problem import LQR


def double_integrator() -> LQR:
    """The book's main world: a mass on a line, pushed; n = 2, m = 1.

    State (position, velocity), time step 0.1: A = [[1, .1], [0, 1]], B = [[0], [.1]],
    Q = I, R = .1, W = .01 I, X₀ = I, γ = .95. A gain has two entries, so that
    everything about it can be drawn in a plane.

    Returns
    -------
    LQR
    """
    return LQR(
        A=[[1.0, 0.1], [0.0, 1.0]],
        B=[[0.0], [0.1]],
        Q=np.eye(2),
        R=[[0.1]],
        W=0.01 * np.eye(2),
        X0=np.eye(2),
        gamma=0.95,
    )


def scalar(
    a: float = 1.1,
    b: float = 1.0,
    q: float = 1.0,
    r: float = 1.0,
    w: float = 0.1,
    x0: float = 1.0,
    gamma: float = 0.9,
) -> LQR:
    """One state, one action: every formula can be done by hand.

    Parameters
    ----------
    a, b : float
        x₊ = a x + b u + noise.
    q, r : float
        Stage cost q x² + r u², with q ≥ 0 and r > 0.
    w : float
        Variance of the noise.
    x0 : float
        Second moment of the initial state.
    gamma : float
        Discount in (0, 1].

    Returns
    -------
    LQR

    Raises
    ------
    ValueError
        As `LQR`.
    """
    numbers = {"a": a, "b": b, "q": q, "r": r, "w": w, "x0": x0}
    A, B, Q, R, W, X0 = ([[_validate.number(*each)]] for each in numbers.items())
    return LQR(A, B, Q, R, W, X0, gamma)


def laplacian() -> LQR:
    """Three slightly unstable, weakly coupled states; n = m = 3.

    A = [[1.01, .01, 0], [.01, 1.01, .01], [0, .01, 1.01]], B = I, Q = I/1000, R = I,
    W = I, as in Dean et al. (2020), who use no discount. X₀ = I and γ = .98
    are ours.

    Returns
    -------
    LQR
    """
    A = 1.01 * np.eye(3) + 0.01 * (np.eye(3, k=1) + np.eye(3, k=-1))
    return LQR(A, np.eye(3), 1e-3 * np.eye(3), np.eye(3), np.eye(3), np.eye(3), 0.98)


def three_rooms() -> LQR:
    """Three rooms in a row, heated in the outer two; n = 3, m = 2.

    Temperatures relative to what is wanted: A = [[.85, .1, 0], [.1, .75, .1],
    [0, .1, .85]], so that heat passes between neighbours and five per cent of it is
    lost in a step, B = [[.5, 0], [0, 0], [0, .5]], Q = I, R = .1 I, W = .01 I, X₀ = I,
    γ = .95. Stable without control; the numbers are ours.

    Returns
    -------
    LQR
    """
    return LQR(
        A=[[0.85, 0.1, 0.0], [0.1, 0.75, 0.1], [0.0, 0.1, 0.85]],
        B=[[0.5, 0.0], [0.0, 0.0], [0.0, 0.5]],
        Q=np.eye(3),
        R=0.1 * np.eye(2),
        W=0.01 * np.eye(3),
        X0=np.eye(3),
        gamma=0.95,
    )


def recht_double_integrator() -> LQR:
    """The double integrator of Recht (2019), with unit time step; n = 2, m = 1.

    A = [[1, 1], [0, 1]], B = [[0], [1]], Q = diag(1, 0), R = 1, noise of standard
    deviation .01, start x₀ = (−1, 0). He uses no discount: γ = 1, so that
    `lqrlib.exact.average_cost` and the noise-free cost are the exact costs here.

    Returns
    -------
    LQR
        With X₀ = x₀x₀' and W = 10⁻⁴ I.
    """
    return LQR(
        A=[[1.0, 1.0], [0.0, 1.0]],
        B=[[0.0], [1.0]],
        Q=np.diag([1.0, 0.0]),
        R=[[1.0]],
        W=1e-4 * np.eye(2),
        X0=np.diag([1.0, 0.0]),
        gamma=1.0,
    )


def hambly() -> LQR:
    """The synthetic example of Hambly, Xu & Yang (2021), section 5.3; n = 4, m = 2.

    The text available to us lost some integers of A and Q, and prints an R that is not
    symmetric. A and Q are therefore reconstructed and, like R, made symmetric where
    the cost needs it (the cost only sees the symmetric part). Undiscounted, γ = 1.

    Returns
    -------
    LQR
        With X₀ = E[x₀x₀'] for independent components N(5, .1), N(2, .3), N(8, 1) and
        N(5, .5), second arguments read as variances.
    """
    A = [[0.5, 0.05, 0.1, 0.2], [0.0, 0.2, 0.3, 0.1]]
    A += [[0.06, 0.1, 0.2, 0.4], [0.05, 0.2, 0.15, 0.1]]
    B = [[-0.05, -0.01], [-0.005, -0.01], [-1.0, -0.01], [-0.01, -0.9]]
    Q = [[0.5, 0.0, -0.01, 0.0], [-0.1, 1.1, 0.2, 0.0]]
    Q += [[0.0, 0.1, 0.9, -0.06], [0.03, 0.0, -0.1, 0.88]]
    R = [[0.4, -0.2], [-0.3, 0.7]]
    mean, variance = np.array([5.0, 2.0, 8.0, 5.0]), [0.1, 0.3, 1.0, 0.5]
    X0 = np.diag(variance) + np.outer(mean, mean)
    W = np.diag([0.1, 0.5, 0.2, 0.3])
    return LQR(A, B, _symmetric(Q), _symmetric(R), W, X0, gamma=1.0)


def with_lag(lqr: LQR, lag: float) -> LQR:
    """A world whose actuator follows with a delay; n + m states.

    The action that is carried out is a mean of what was asked and of what was carried
    out before, v₊ = lag v + (1 − lag) u and x₊ = A x + B v₊ + w, from v = 0 on. The
    state is (x, v). The cost is as before, of x and of the action that was asked.
    Whoever sees x only plays gains [K, 0], and `lqrlib.exact` knows their cost.

    Parameters
    ----------
    lqr : LQR
        The world without the lag.
    lag : float
        In [0, 1); 0 carries out what is asked.

    Returns
    -------
    LQR

    Raises
    ------
    ValueError
        If ``lag`` is not in [0, 1).
    """
    _validate.instance("lqr", lqr, LQR)
    if not 0.0 <= _validate.number("lag", lag) < 1.0:
        raise _validate.error("lag", "a number in [0, 1)", lag)
    n, m = lqr.n, lqr.m
    reach = np.vstack([lqr.B, np.eye(m)])  # how v' moves the new state
    A = np.hstack([np.vstack([lqr.A, np.zeros((m, n))]), lag * reach])
    Q, W, X0 = np.zeros((3, n + m, n + m))
    for whole, part in ((Q, lqr.Q), (W, lqr.W), (X0, lqr.X0)):
        whole[:n, :n] = part
    return LQR(A, (1.0 - lag) * reach, Q, lqr.R, W, X0, lqr.gamma)


def random(n: int, m: int, rng: np.random.Generator) -> LQR:
    """A random world that u = 0 already stabilises, for checks over many worlds.

    A has independent normal entries, scaled to ρ(A) = .9; B is normal; Q = MM'/n and
    R = NN'/m + I/10 for normal M, N; W = .1 I, X₀ = I, γ = .95.

    Parameters
    ----------
    n : int
        Number of states, at least 1.
    m : int
        Number of actions, at least 1.
    rng : numpy.random.Generator

    Returns
    -------
    LQR

    Raises
    ------
    ValueError
        If n or m is not a whole number of at least 1, or rng no generator.
    """
    A, B, rng = _random_dynamics(n, m, rng, 0.9)
    M, N = rng.standard_normal((n, n)), rng.standard_normal((m, m))
    Q, R = M @ M.T / n, N @ N.T / m + 0.1 * np.eye(m)
    return LQR(A, B, Q, R, 0.1 * np.eye(n), np.eye(n), 0.95)


def fazel(n: int, m: int, rng: np.random.Generator) -> LQR:
    """A random world in the setting of Fazel et al. (2018): no noise, no discount.

    A and B have independent normal entries, A scaled to ρ(A) = .95, so that u = 0 is
    stable; Q = I, R = I, X₀ = I, W = 0, γ = 1. The recipe is ours: their theorems hold
    for every such world, and they print no matrices.

    Parameters
    ----------
    n : int
        Number of states, at least 1.
    m : int
        Number of actions, at least 1.
    rng : numpy.random.Generator

    Returns
    -------
    LQR

    Raises
    ------
    ValueError
        If n or m is not a whole number of at least 1, or rng no generator.
    """
    A, B, _ = _random_dynamics(n, m, rng, 0.95)
    eye = np.eye(len(A))
    return LQR(A, B, eye, np.eye(B.shape[1]), 0.0 * eye, eye, gamma=1.0)


def _random_dynamics(
    n: int, m: int, rng: np.random.Generator, radius: float
) -> tuple[Array, Array, np.random.Generator]:
    n, m = _validate.count("n", n), _validate.count("m", m)
    rng = _validate.generator("rng", rng)
    A = rng.standard_normal((n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    return A, rng.standard_normal((n, m)), rng


def _symmetric(M: list[list[float]]) -> Array:
    return 0.5 * (np.array(M) + np.array(M).T)
