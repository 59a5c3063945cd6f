"""Moments of a trajectory's weight, exactly: which exist, and how large they are.

The weight of T steps is w = Π_t π(u_t|x_t) / π_b(u_t|x_t), for u ~ N(Kx, Σ) and data of
N(K_b x, Σ_b). A moment E_b[w^q] is a risk-sensitive linear-quadratic cost: chapter
*Importance weights*. x₀ and the world's noise must be Gaussian, as they are here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate
from lqrlib._steps import root
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR

# Where searches end, as powers of 2: beyond, an order, a step or a covariance counts
# as infinite.
_LARGEST_ORDER, _LARGEST_STEP, _LARGEST_COV = 20.0, 40.0, 80.0
_HALVINGS, _CLOSE = 50, 2.0**-42


class _Weight(NamedTuple):
    """N((K_b + Δ)x, Σ) over N(K_b x, Σ_b), for T steps; None is a Σ_b equal to Σ."""

    lqr: LQR
    K_behaviour: Array
    change: Array
    Sigma: Array
    Sigma_behaviour: Array | None
    T: int

    @property
    def lead(self) -> tuple[int, ...]:
        arrays = (self.K_behaviour, self.change, self.Sigma, self.Sigma_behaviour)
        shapes = (each.shape[:-2] for each in arrays if each is not None)
        return np.broadcast_shapes(*shapes)


class _Tilted(NamedTuple):
    """The world whose cost exp Σ_t x_t'Γx_t + T c is the moment: x₊ = Fx + Lε."""

    Gamma: Array
    F: Array
    L: Array
    constant: Array
    falls: Flags  # Γ ⪯ 0, in orders below 1; else Γ ⪰ 0


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

    With another Σ_b, C = qΣ_b − (q−1)Σ has to be ≻ 0. Then Γ = ½q(q−1) Δ'C⁻¹Δ,
    F = A + B(K_b + qΣ_bC⁻¹Δ) and Ω = W + BΣ_bC⁻¹ΣB', and each of the T steps adds
    ½((1−q) log det Σ + q log det Σ_b − log det C).

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
        0 in order 1, at most 0 in orders below it. inf also where the recursion leaves
        the floats, as for gains of the size 10⁸.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Equations (weight-moment), (moment-recursion) and (moment-order) of
    `book/importance_weights.md`; Jacobson (1973) for exponentials of quadratic costs.
    """
    weight = _checked(lqr, K, K_behaviour, cov, cov_behaviour, horizon)
    return _log_moment(weight, _orders(order, weight.lead))


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
        At least 1; 1 only where the two policies agree on the states that occur. inf
        past the breakdown.

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
    weight = _checked(lqr, K, K_behaviour, cov, cov_behaviour, horizon)

    def is_missing(power: Array) -> Flags:
        return np.isinf(_log_moment(weight, np.exp2(power)))

    highest = np.full(weight.lead, _LARGEST_ORDER)
    below, _ = _halved(is_missing, 0.0 * highest, highest)
    return np.where(is_missing(highest), np.exp2(below), np.inf)


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
        q > 0. (Up to 1 nothing breaks down.)

    Returns
    -------
    array, shape [...]
        inf where no step up to 2⁴⁰ breaks down, as for D = 0. (In steps of length
        (tr D'Σ⁻¹D · tr(X₀ + W + BΣB'))^−½, those that could change a weight.)

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry.

    Notes
    -----
    Chapter *Importance weights*. The steps with a moment need not be an interval. But
    log w = s a − ½s² b for some a and b ≥ 0 of the data, and E exp(λa − ½μb) exists for
    a convex set of (λ, μ), with every μ also for larger ones. A step of w^q is a point
    of the parabola (qs, qs²), which lies above its tangents. So where the tangent at s
    is in the set up to s + h, no step between them breaks down: s moves on by h. The
    end of that tangent is the recursion with ½q((q−1)(s + h)² + h²) D'Σ⁻¹D for Γ.
    """
    _validate.instance("lqr", lqr, LQR)
    behaviour = _validate.stack("K_behaviour", K_behaviour, (lqr.m, lqr.n))
    D = _validate.stack("direction", direction, (lqr.m, lqr.n))
    _validate.leading("direction", D, 2, behaviour.shape[:-2])
    Sigma = _validate.covariance("cov", cov, lqr.m, strict=True)
    lead = np.broadcast_shapes(D.shape[:-2], behaviour.shape[:-2])
    _validate.leading("cov", Sigma, 2, lead)
    T = _validate.count("horizon", horizon)
    length = np.abs(D).max(axis=(-2, -1))
    D = D / np.where(length > 0.0, length, 1.0)[..., None, None]
    weight = _Weight(lqr, behaviour, D, Sigma, None, T)
    q = _orders(order, weight.lead)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return _breakdown(weight, q) / length


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
        0 where every covariance suffices (from 2⁻⁸⁰ on), inf where none does.

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
    weight = _checked(lqr, K, K_behaviour, 1.0, None, horizon)
    q = np.array(2.0)

    def suffices(power: Array) -> Flags:
        Sigma = np.exp2(power)[..., None, None] * np.eye(lqr.m)
        return np.isfinite(_log_moment(weight._replace(Sigma=Sigma), q))

    highest = np.full(weight.lead, _LARGEST_COV)
    _, above = _halved(suffices, -highest, highest)
    found = np.where(suffices(-highest), 0.0, np.exp2(above))
    silent = replace(lqr, W=0.0 * lqr.W, X0=0.0 * lqr.X0)
    some_do = np.isfinite(_log_moment(weight._replace(lqr=silent), q))
    return np.where(some_do, found, np.inf)


def _breakdown(weight: _Weight, q: Array) -> Array:
    lqr, _, D, Sigma, *_ = weight
    per_square = D.mT @ np.linalg.solve(Sigma, D)

    def is_safe(s: Array, h: Array) -> Flags:
        world = _tilted(weight._replace(change=s[..., None, None] * D), q)
        above = (0.5 * q * h**2)[..., None, None] * per_square
        return np.isfinite(_summed(weight, world._replace(Gamma=world.Gamma + above)))

    noise = lqr.X0 + lqr.W + lqr.B @ Sigma @ lqr.B.T
    size = np.sqrt(_trace(per_square) * _trace(noise)) * (q > 1.0)
    size = np.broadcast_to(size, np.broadcast_shapes(weight.lead, q.shape))
    return _marched(is_safe, np.where(size > 0.0, 1.0 / size, 0.0))


def _log_moment(weight: _Weight, q: Array) -> Array:
    return _summed(weight, _tilted(weight, q))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _summed(weight: _Weight, world: _Tilted) -> Array:
    Gamma, F, L, start = map(
        _batch_last, (world.Gamma, world.F, world.L, root(weight.lqr.X0))
    )
    M, total = Gamma, np.zeros(Gamma.shape[2:])
    for t in range(weight.T):
        last = t == weight.T - 1
        through, log_factor = _exponential(M, start if last else L, world.falls)
        total = total + log_factor
        M = Gamma + _times(F.swapaxes(0, 1), _times(through, F))
    return total + weight.T * world.constant


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _tilted(weight: _Weight, q: Array) -> _Tilted:
    lqr, K_behaviour, change, Sigma, other, _ = weight
    order, spread, constant = q[..., None, None], np.eye(lqr.m), np.zeros(())
    C = Sigma
    if other is not None:
        C = order * other - (order - 1.0) * Sigma
        exists = np.linalg.eigvalsh(C)[..., 0] > 0.0
        C = np.where(exists[..., None, None], C, np.eye(lqr.m))
        spread = other @ np.linalg.inv(C)
        log_det = [np.linalg.slogdet(M).logabsdet for M in (Sigma, other, C)]
        constant = 0.5 * ((1.0 - q) * log_det[0] + q * log_det[1] - log_det[2])
        constant = np.where(exists, constant, np.inf)
    Gamma = 0.5 * order * (order - 1.0) * change.mT @ np.linalg.solve(C, change)
    F = lqr.A + lqr.B @ (K_behaviour + order * spread @ change)
    L = root(lqr.W + lqr.B @ spread @ Sigma @ lqr.B.T)
    return _Tilted(Gamma, F, L, constant, q < 1.0)


def _exponential(M: Array, L: Array, falls: Flags) -> tuple[Array, Array]:
    """For e ~ N(0, LL'): M(I − 2LL'M)⁻¹, and log E exp(e'Me), inf where there is none.

    In symmetric form, M + 2ML(I − 2L'ML)⁻¹L'M. Past the border it is nan or means
    nothing, and so does all that is made of it. The matrices are many and small, and
    their entries rows in memory: [n, n, ...]. One elimination runs through all of them;
    its pivots are > 0 where they are ≻ 0.
    """
    n, right = len(M), _times(L.swapaxes(0, 1), M)
    inner = -2.0 * _times(right, L)
    inner[range(n), range(n)] += 1.0
    # C⁻¹(CDC', L'M) for the inner matrix CDC'.
    rows = np.concatenate([inner, right], axis=1)
    through, log_det, exists = M, np.zeros(()), np.array(True)
    for j in range(n):
        pivot, row = rows[j, j], rows[j, j:].copy()
        rows[j + 1 :, j:] -= (rows[j + 1 :, j] / pivot)[:, None] * row
        across = row[n - j :]
        through = through + (2.0 / pivot * across)[:, None] * across
        exists, log_det = exists & (pivot > 0.0), log_det + np.log(pivot)
    if falls.any():
        through = np.where(falls, _joseph(M, L, inner, right, falls), through)
    return through, np.where(exists, -0.5 * log_det, np.inf)


def _joseph(M: Array, L: Array, inner: Array, right: Array, falls: Flags) -> Array:
    """M + 2ML·gain' for M ⪯ 0, where the sum cancels: as a sum of two terms ⪯ 0.

    With gain = ML(I − 2L'ML)⁻¹, as Joseph wrote the covariance in Kalman's filter.
    """
    first = np.moveaxis(inner, (0, 1), (-2, -1)), np.moveaxis(right, (0, 1), (-2, -1))
    safe = np.where(falls[..., None, None], first[0], np.eye(len(M)))
    gain = np.moveaxis(np.linalg.solve(safe, first[1]), (-2, -1), (1, 0))
    shrink = 2.0 * _times(gain, L.swapaxes(0, 1))
    shrink[range(len(M)), range(len(M))] += 1.0
    kept = _times(shrink, _times(M, shrink.swapaxes(0, 1)))
    return kept - 2.0 * _times(gain, gain.swapaxes(0, 1))


def _batch_last(matrices: Array) -> Array:
    """[..., n, n] as [n, n, ...]: a product of entries is one of rows."""
    return np.ascontiguousarray(np.moveaxis(matrices, (-2, -1), (0, 1)))


def _times(A: Array, B: Array) -> Array:
    product: Array = np.einsum("ij...,jk...->ik...", A, B)
    return product


def _marched(is_safe: Callable[[Array, Array], Flags], h: Array) -> Array:
    """How far safe steps lead from 0: from s to s + h while ``is_safe(s + h, h)``."""
    s, last = np.zeros(h.shape), 2.0**_LARGEST_STEP * h
    while (searching := (s < last) & (h > _CLOSE * s)).any():
        good = searching & is_safe(s + h, h)
        s = np.where(good, s + h, s)
        h = np.where(searching, np.where(good, 1.5 * h, h / 3.0), h)
    return np.where(s < last, s, np.inf)


def _halved(
    is_beyond: Callable[[Array], Flags], low: Array, high: Array
) -> tuple[Array, Array]:
    """The last point before and the first beyond a border between low and high."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        beyond = is_beyond(middle)
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return low, high


def _trace(M: Array) -> Array:
    return np.trace(M, axis1=-2, axis2=-1)


def _checked(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    cov_behaviour: ArrayLike | None,
    horizon: int,
) -> _Weight:
    _validate.instance("lqr", lqr, LQR)
    target = lqr.gain(K)
    behaviour = _validate.stack("K_behaviour", K_behaviour, (lqr.m, lqr.n))
    Sigma = _validate.covariance("cov", cov, lqr.m, strict=True)
    T = _validate.count("horizon", horizon)
    _validate.leading("K_behaviour", behaviour, 2, target.shape[:-2])
    with np.errstate(over="ignore"):
        weight = _Weight(lqr, behaviour, target - behaviour, Sigma, None, T)
    _validate.leading("cov", Sigma, 2, weight.change.shape[:-2])
    if cov_behaviour is None:
        return weight
    other = _validate.covariance("cov_behaviour", cov_behaviour, lqr.m, strict=True)
    _validate.leading("cov_behaviour", other, 2, weight.lead)
    return weight._replace(Sigma_behaviour=other)


def _orders(order: ArrayLike, lead: tuple[int, ...]) -> Array:
    q = _validate.real_array("order", order)
    if not (q > 0.0).all():
        raise _validate.error("order", "numbers above 0", order)
    _validate.leading("order", q[..., None, None], 2, lead)
    return q
