"""Moments of a trajectory's weight, exactly: which exist, and how large they are.

The weight of T steps is w = Π_t π(u_t|x_t) / π_b(u_t|x_t), for u ~ N(Kx, Σ) and data of
N(K_b x, Σ_b). A moment E_b[w^q] is a risk-sensitive linear-quadratic cost: chapter
*Importance weights*. x₀ and w must be Gaussian, as they are here.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, lyapunov
from lqrlib._steps import root
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR

# Where searches end: beyond them an order, a step or a covariance counts as infinite.
_LARGEST_ORDER, _LARGEST_STEP, _LARGEST_COV = 2.0**20, 2.0**40, 2.0**80
_HALVINGS = 50
# Steps to try where the moments along a ray do not form an interval.
_SCAN = np.geomspace(1e-8, 1e4, 1501)


class _Tilted(NamedTuple):
    """The world whose cost exp Σ_t x_t'Γx_t + T c is the moment: x' = Fx + Lε."""

    Gamma: Array
    F: Array
    L: Array
    constant: Array


def log_moment(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    horizon: int,
    order: ArrayLike = 2.0,
    *,
    cov_behaviour: ArrayLike | None = None,
) -> Array:
    """log E[w^q] of a trajectory's weight, exactly; inf where it does not exist.

    With one Σ for both policies, Δ = K − K_b and Γ = ½q(q−1) Δ'Σ⁻¹Δ, it is log E exp
    Σ_t x_t'Γx_t for a world that moves by F = A + B(qK − (q−1)K_b) under noise
    Ω = W + BΣB'. Backwards from M = Γ: M ← Γ + F'M(I − 2ΩM)⁻¹F, each time with
    −½ log det(I − 2ΩM), and X₀ in the place of Ω at the end.

    With another Σ_b, Λ = qΣ⁻¹ − (q−1)Σ_b⁻¹ takes the place of Σ⁻¹, and each step has a
    factor of its own; without Λ ≻ 0 there is no moment.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        Gain of the policy that the weights speak of.
    K_behaviour : array, shape [..., m, n]
        Gain of the policy that made the data.
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the first policy.
    horizon : int
        T.
    order : float or array, shape [...]
        q > 0.
    cov_behaviour : float or array, shape [..., m, m], optional
        Covariance Σ_b ≻ 0 of the second policy; Σ if not given.

    Returns
    -------
    array, shape [...]

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Equations (weight-moment), (moment-recursion) and (moment-order) of
    `book/importance_weights.md`; Jacobson (1973) for exponentials of quadratic costs.
    """
    gains, covs, T = _checked(lqr, K, K_behaviour, cov, cov_behaviour, horizon)
    q = _orders(order)
    return _log_moment(lqr, *gains, *covs, T, q)


def moment(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    horizon: int,
    order: ArrayLike,
    *,
    cov_behaviour: ArrayLike | None = None,
) -> Array:
    """E[w^q] of a trajectory's weight: `log_moment`, out of the logarithm.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        Gain of the policy that the weights speak of.
    K_behaviour : array, shape [..., m, n]
        Gain of the policy that made the data.
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the first policy.
    horizon : int
        T.
    order : float or array, shape [...]
        q > 0.
    cov_behaviour : float or array, shape [..., m, m], optional
        Covariance Σ_b ≻ 0 of the second policy; Σ if not given.

    Returns
    -------
    array, shape [...]
        inf where it does not exist, or is too large for a float.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.
    """
    logarithm = log_moment(
        lqr, K, K_behaviour, cov, horizon, order, cov_behaviour=cov_behaviour
    )
    with np.errstate(over="ignore"):
        return np.exp(logarithm)


def second_moment(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    horizon: int,
    *,
    cov_behaviour: ArrayLike | None = None,
) -> Array:
    """E[w²] of a trajectory's weight: `moment` of order 2.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        Gain of the policy that the weights speak of.
    K_behaviour : array, shape [..., m, n]
        Gain of the policy that made the data.
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the first policy.
    horizon : int
        T.
    cov_behaviour : float or array, shape [..., m, m], optional
        Covariance Σ_b ≻ 0 of the second policy; Σ if not given.

    Returns
    -------
    array, shape [...]
        At least 1; 1 only where the two policies agree. inf past the breakdown.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.
    """
    return moment(lqr, K, K_behaviour, cov, horizon, 2.0, cov_behaviour=cov_behaviour)


def tail_index(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    horizon: int,
    *,
    cov_behaviour: ArrayLike | None = None,
) -> Array:
    """α = sup{q : E[w^q] < ∞}, at least 1: how heavy the tail of the weights is.

    Below 2 the error of a mean of N weights falls like N^−(1−1/α), not like N^−½.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        Gain of the policy that the weights speak of.
    K_behaviour : array, shape [..., m, n]
        Gain of the policy that made the data.
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of the first policy.
    horizon : int
        T.
    cov_behaviour : float or array, shape [..., m, m], optional
        Covariance Σ_b ≻ 0 of the second policy; Σ if not given.

    Returns
    -------
    array, shape [...]
        inf where every order up to 2²⁰ exists, as where the policies agree.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Equation (tail-index) of `book/importance_weights.md`. The orders form an interval,
    because log E[w^q] is convex in q.
    """
    gains, covs, T = _checked(lqr, K, K_behaviour, cov, cov_behaviour, horizon)

    def exists(q: Array) -> Flags:
        return np.isfinite(_log_moment(lqr, *gains, *covs, T, q))

    shape = np.shape(_log_moment(lqr, *gains, *covs, T, np.array(1.0)))
    return _border(exists, np.ones(shape), _LARGEST_ORDER)[0]


def breakdown(
    lqr: LQR,
    K_behaviour: ArrayLike,
    direction: ArrayLike,
    cov: ArrayLike,
    horizon: int,
    *,
    order: ArrayLike = 2.0,
) -> Array:
    """The first step s > 0 for which K_b + s D has no moment of the order.

    Parameters
    ----------
    lqr : LQR
    K_behaviour : array, shape [..., m, n]
        Gain K_b of the policy that made the data.
    direction : array, shape [..., m, n]
        D, of any length.
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of both policies.
    horizon : int
        T.
    order : float or array, shape [...]
        q > 1.

    Returns
    -------
    array, shape [...]
        inf where no step up to 2⁴⁰ breaks down, as for D = 0.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Chapter *Importance weights*. For ρ(A + BK_b) < 1 the steps with a moment form an
    interval, and bisection finds its end. Elsewhere they may not; steps from 10⁻⁸ to
    10⁴ are then tried in turn, each 2 % longer than the one before.
    """
    behaviour = _validate.stack("K_behaviour", K_behaviour, (lqr.m, lqr.n))
    D = _validate.stack("direction", direction, (lqr.m, lqr.n))
    Sigma = _validate.covariance("cov", cov, lqr.m, strict=True)
    T, q = _validate.count("horizon", horizon), _orders(order)
    _validate.leading("direction", D, 2, behaviour.shape[:-2])
    lead = np.broadcast_shapes(D.shape[:-2], behaviour.shape[:-2])
    _validate.leading("cov", Sigma, 2, lead)
    lead = np.broadcast_shapes(lead, Sigma.shape[:-2], q.shape)

    def exists(s: Array) -> Flags:
        K = behaviour + s[..., None, None] * D
        return np.isfinite(_log_moment(lqr, K, behaviour, Sigma, None, T, q))

    low = np.zeros(lead)
    if (lyapunov.spectral_radius(lqr.closed_loop(behaviour)) < 1.0).all():
        return _border(exists, low, _LARGEST_STEP)[1]
    fine = np.stack([exists(np.full(lead, s)) for s in _SCAN])
    first = np.argmin(fine, axis=0)
    low = np.where(first > 0, _SCAN[first - 1], 0.0)
    found = _halved(exists, low, np.where(fine.all(axis=0), np.inf, _SCAN[first]))[1]
    return np.where(fine.all(axis=0), np.inf, found)


def critical_covariance(
    lqr: LQR, K: ArrayLike, K_behaviour: ArrayLike, horizon: int
) -> Array:
    """The σ² above which E[w²] exists for Σ = σ²I, and below which it does not.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        Gain of the policy that the weights speak of.
    K_behaviour : array, shape [..., m, n]
        Gain of the policy that made the data.
    horizon : int
        T.

    Returns
    -------
    array, shape [...]
        0 where every covariance suffices, inf where none does.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Equation (critical-covariance) of `book/importance_weights.md`. With σ²I the part
    of the states that comes from X₀ and W counts less as σ² grows; whether any
    covariance suffices is decided without that part.
    """
    gains, _, T = _checked(lqr, K, K_behaviour, 1.0, None, horizon)
    q, eye = np.array(2.0), np.eye(lqr.m)
    lead = np.broadcast_shapes(*(gain.shape[:-2] for gain in gains))

    def lacks(inverse: Array) -> Flags:
        Sigma = eye / inverse[..., None, None]
        return np.isfinite(_log_moment(lqr, *gains, Sigma, None, T, q))

    silent = LQR(lqr.A, lqr.B, lqr.Q, lqr.R, 0 * lqr.W, 0 * lqr.X0, lqr.gamma)
    some = np.isfinite(_log_moment(silent, *gains, eye, None, T, q))
    # In 1/σ² the good ones are an interval from 0 on, as in the other searches.
    inverse = _border(lacks, np.full(lead, 1.0 / _LARGEST_COV), _LARGEST_COV)[1]
    return np.where(some, 1.0 / inverse, np.inf)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _log_moment(
    lqr: LQR,
    K: Array,
    K_behaviour: Array,
    Sigma: Array,
    Sigma_behaviour: Array | None,
    T: int,
    q: Array,
) -> Array:
    world = _tilted(lqr, K, K_behaviour, Sigma, Sigma_behaviour, q)
    M, total = world.Gamma, np.zeros(world.Gamma.shape[:-2])
    start = root(lqr.X0)
    for t in range(T):
        through, log_factor = _exponential(M, world.L if t < T - 1 else start)
        total = total + log_factor
        M = world.Gamma + world.F.mT @ through @ world.F
    total = total + T * world.constant
    return np.where(np.isnan(total), np.inf, total)


def _tilted(
    lqr: LQR,
    K: Array,
    K_behaviour: Array,
    Sigma: Array,
    Sigma_behaviour: Array | None,
    q: Array,
) -> _Tilted:
    order, change = q[..., None, None], K - K_behaviour
    if Sigma_behaviour is None:
        Gamma = change.mT @ np.linalg.solve(Sigma, change)
        Gamma = 0.5 * order * (order - 1.0) * Gamma
        F = lqr.A + lqr.B @ (K + (order - 1.0) * change)
        L = root(lqr.W + lqr.B @ Sigma @ lqr.B.T)
        return _Tilted(Gamma, F, L, np.zeros(Gamma.shape[:-2]))
    mine = order * np.linalg.inv(Sigma)
    theirs = (order - 1.0) * np.linalg.inv(Sigma_behaviour)
    Lambda = mine - theirs
    exists = np.linalg.eigvalsh(Lambda)[..., 0] > 0.0
    Lambda = np.where(exists[..., None, None], Lambda, np.eye(lqr.m))
    mean = np.linalg.solve(Lambda, mine @ K - theirs @ K_behaviour)
    Gamma = K_behaviour.mT @ theirs @ K_behaviour - K.mT @ mine @ K
    Gamma = 0.5 * (Gamma + mean.mT @ Lambda @ mean)
    log_det = [np.linalg.slogdet(M).logabsdet for M in (Sigma, Sigma_behaviour, Lambda)]
    constant = -0.5 * (q * log_det[0] - (q - 1.0) * log_det[1] + log_det[2])
    L = root(lqr.W + lqr.B @ np.linalg.inv(Lambda) @ lqr.B.T)
    F = lqr.A + lqr.B @ mean
    return _Tilted(Gamma, F, L, np.where(exists, constant, np.inf))


def _exponential(M: Array, L: Array) -> tuple[Array, Array]:
    """For e ~ N(0, LL'): M(I − 2LL'M)⁻¹, and log E exp(e'Me), inf where there is none.

    In symmetric form, M + 2ML(I − 2L'ML)⁻¹L'M. Past the border M is set to 0: nothing
    after it counts.
    """
    inner = np.eye(M.shape[-1]) - 2.0 * L.mT @ M @ L
    finite: Flags = np.isfinite(inner)
    inner = np.where(finite.all(axis=(-2, -1), keepdims=True), inner, 0.0)
    values, vectors = np.linalg.eigh(inner)
    exists: Flags = np.greater(values[..., 0], 0.0)
    values = np.where(exists[..., None], values, 1.0)
    across = M @ L @ vectors / np.sqrt(values)[..., None, :]
    through = np.where(exists[..., None, None], M + 2.0 * across @ across.mT, 0.0)
    return through, np.where(exists, -0.5 * np.log(values).sum(axis=-1), np.inf)


def _border(
    exists: Callable[[Array], Flags], low: Array, largest: float
) -> tuple[Array, Array]:
    """Where something that holds from ``low`` on ends: last good, first bad; or inf."""
    high = np.maximum(2.0 * low, 1.0)
    good = exists(high)
    while (good & (high < largest)).any():
        low, high = np.where(good, high, low), np.where(good, 2.0 * high, high)
        good = exists(high)
    low, found = _halved(exists, low, high)
    return np.where(good, np.inf, low), np.where(good, np.inf, found)


def _halved(
    exists: Callable[[Array], Flags], low: Array, high: Array
) -> tuple[Array, Array]:
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        good = exists(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return low, high


def _checked(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    cov_behaviour: ArrayLike | None,
    horizon: int,
) -> tuple[tuple[Array, Array], tuple[Array, Array | None], int]:
    target = lqr.gain(K)
    behaviour = _validate.stack("K_behaviour", K_behaviour, (lqr.m, lqr.n))
    Sigma = _validate.covariance("cov", cov, lqr.m, strict=True)
    T = _validate.count("horizon", horizon)
    _validate.leading("K_behaviour", behaviour, 2, target.shape[:-2])
    lead = np.broadcast_shapes(target.shape[:-2], behaviour.shape[:-2])
    _validate.leading("cov", Sigma, 2, lead)
    other = None
    if cov_behaviour is not None:
        other = _validate.covariance("cov_behaviour", cov_behaviour, lqr.m, strict=True)
        _validate.leading(
            "cov_behaviour", other, 2, np.broadcast_shapes(lead, Sigma.shape[:-2])
        )
    return (target, behaviour), (Sigma, other), T


def _orders(order: ArrayLike) -> Array:
    q = _validate.real_array("order", order)
    if not (q > 0.0).all():
        raise _validate.error("order", "numbers above 0", order)
    return q
