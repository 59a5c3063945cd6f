r"""The action value of a gain from off-policy data: least-squares temporal differences.

Q_K(x, u) = z'Θz + const with z = (x, u) is linear in θ = (Θ_ij for i ≤ j, const), with
features φ(z) = (z_i z_j, twice where i < j; 1). For every transition, whoever chose u,

    E[φ(z) (φ(z) − γ φ(z₊))'] θ = E[φ(z) c],   z₊ = (x₊, K x₊),

and LSTDQ puts sums over data for the means. z₊z₊' is linear in x₊x₊', so that what the
data contribute, `Moments`, does not depend on K: sums over rows serve every gain.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrlib import _steps, _validate, exact
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR
from lqrlib.rollout import (
    Trajectories,
    Transitions,
    checked,
    transitions,
    usable,
)

# Of the features' Gram matrix, whose condition number is that of the features squared.
_NEGLIGIBLE = 1e-14
_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


class Critic(NamedTuple):
    """An estimated action value Q(x, u) = z'Θz + const of a gain.

    Parameters
    ----------
    Theta : array, shape [..., n+m, n+m]
        Symmetric.
    const : array, shape [...]
    rank : array of int, shape [...]
        Rank of the features in the data. Below (n+m)(n+m+1)/2 + 1 the data do not
        determine Θ, which is then the least-norm solution and not an estimate. (At
        γ = 1, where no constant is fitted, one less.)
    condition : array, shape [...]
        Condition number of the features, scaled to equal size; inf at short rank.
    """

    Theta: Array
    const: Array
    rank: NDArray[np.int64]
    condition: Array

    @property
    def determined(self) -> NDArray[np.bool_]:
        """Whether the features have full rank, so that the data determine Θ."""
        return np.isfinite(self.condition)

    @property
    def plausible(self) -> NDArray[np.bool_]:
        """Determined, and Θ ⪰ 0 with Θ_uu ≻ 0 as every action value of a cost is.

        LSTDQ at an unstable gain, or from too little data, returns a finite Θ all the
        same; most such Θ are indefinite.
        """
        # A Θ that is not finite counts as 0, which is not definite.
        finite = np.isfinite(self.Theta).all(axis=(-2, -1), keepdims=True)
        lowest = np.linalg.eigvalsh(np.where(finite, self.Theta, 0.0))[..., 0]
        return self.determined & (lowest > 0.0)

    @_overflow_is_data
    def gain_error(self, K: ArrayLike) -> Array:
        """Ê_K = Θ_uu K + Θ_ux; half of ∂Q/∂u at u = Kx is Ê_K x.

        Parameters
        ----------
        K : array, shape [..., m, n]

        Returns
        -------
        array, shape [..., m, n]

        Raises
        ------
        ValueError
            If K is not real and finite with n + m columns and rows in all.
        """
        n, gain = self._split(K)
        return self.Theta[..., n:, n:] @ gain + self.Theta[..., n:, :n]

    @_overflow_is_data
    def gauss_newton(self, K: ArrayLike) -> Array:
        """Θ_uu⁻¹ (Θ_uu K + Θ_ux): from K, one step of policy iteration backwards.

        Parameters
        ----------
        K : array, shape [..., m, n]

        Returns
        -------
        array, shape [..., m, n]

        Raises
        ------
        ValueError
            If K is not real and finite with n + m columns and rows in all.
        """
        n, gain = self._split(K)
        # Exactly singular where the data hold no action at all: then there is no step.
        return _steps.solved(self.Theta[..., n:, n:], self.gain_error(gain))

    def _split(self, K: ArrayLike) -> tuple[int, Array]:
        gain = _validate.real_array("K", K)
        if gain.ndim < 2 or sum(gain.shape[-2:]) != self.Theta.shape[-1]:
            wanted = f"m + n = {self.Theta.shape[-1]}"
            raise _validate.error("K", f"shape (…, m, n) with {wanted}", gain.shape)
        return int(gain.shape[-1]), gain


class Moments(NamedTuple):
    """Sums over rows of what LSTDQ needs, in d features and p products of x₊.

    Parameters
    ----------
    G : array, shape [..., d, d]
        Σ φ φ'.
    C : array, shape [..., d, p]
        Σ φ ψ', with ψ = (x₊_k x₊_l for k ≤ l; 1).
    b : array, shape [..., d]
        Σ φ c.
    """

    G: Array
    C: Array
    b: Array


def lstdq(lqr: LQR, transitions: Transitions, K: ArrayLike) -> Critic:
    """Θ̂ of the deterministic policy u = Kx from transitions of any other policy.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes; its law of motion is not used.
    transitions : Transitions
        With leading axes, one data set for each. Rows of trajectories that diverged
        beyond 10⁶⁰ are left out.
    K : array, shape [..., m, n]
        Gains to be evaluated; leading axes broadcast against those of the data.

    Returns
    -------
    Critic

    Raises
    ------
    ValueError
        If K or a part of the transitions has a wrong shape or entry.

    Notes
    -----
    Needs features of full rank, γ λ_i λ_j(A + BK) ≠ 1, and √γ ρ(A + BK) < 1; look at
    `Critic.determined` and `Critic.plausible`. Bradtke (1993); Lagoudakis & Parr
    (2003), "Least-squares policy iteration".
    """
    collected, gain = sums(lqr, transitions), lqr.gain(K)
    _validate.leading("K", gain, 2, collected.b.shape[:-1])
    return solve(lqr, collected, gain)


def sums(lqr: LQR, transitions: Transitions) -> Moments:
    """All that LSTDQ takes from data, for every K: collect once, then `solve`.

    Parameters
    ----------
    lqr : LQR
        Gives the sizes.
    transitions : Transitions
        With leading axes, one data set for each.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If a part of the transitions has a wrong shape or entry.
    """
    return moments(*_columns(lqr, transitions))


@_overflow_is_data
def linearised(lqr: LQR, data: Trajectories, K: ArrayLike) -> tuple[Critic, Array]:
    """LSTDQ on trajectories, and how each of them moves Θ̂ to first order.

    θ̂ = A⁻¹b with A and b sums over N trajectories, so dθ_i = N A⁻¹(b_i − A_i θ̂). The
    standard error of θ̂ is the spread of these over √N.

    Parameters
    ----------
    lqr : LQR
    data : Trajectories
    K : array, shape [..., m, n]

    Returns
    -------
    critic : Critic
    moved : array, shape [..., N, n+m, n+m]
        With mean 0 over N; no meaning where the data do not determine Θ.

    Raises
    ------
    ValueError
        As `lstdq`.
    """
    _validate.instance("lqr", lqr, LQR)
    data = checked("data", data, lqr)
    *lead, N, T = data.cost.shape
    z, cost, x_next, used = _columns(lqr, transitions(data))
    gain = lqr.gain(K)
    _validate.leading("K", gain, 2, tuple(lead))

    def each(part: Array) -> Array:
        return np.moveaxis(part.reshape(*lead, -1, N, T), -2, -3)

    cost, used = cost.reshape(*lead, N, T), used.reshape(*lead, N, T)
    single = moments(each(z), cost, each(x_next), used)
    axis = len(lead)
    critic = solve(lqr, Moments(*(part.sum(axis=axis) for part in single)), gain)
    A, b = _system(lqr, single, gain[..., None, :, :])
    i, j = np.transpose(_pairs(lqr.n + lqr.m))
    theta = np.concatenate([critic.Theta[..., i, j], critic.const[..., None]], axis=-1)
    left = b - (A @ theta[..., None, : b.shape[-1], None])[..., 0]
    total = A.sum(axis=-3)
    finite = np.isfinite(total).all(axis=(-2, -1), keepdims=True)
    inverse = np.where(finite, np.linalg.pinv(np.where(finite, total, 0.0)), np.nan)
    moved = N * left @ inverse.mT
    return critic, _symmetric(moved[..., : len(i)], lqr.n + lqr.m)


@_overflow_is_data
def exact_critic(lqr: LQR, K: ArrayLike, cov: ArrayLike | None = 0.0) -> Critic:
    """The true action value of N(Kx, Σ), as a critic.

    Its constant is γ (tr(PW) + tr(Θ_uu Σ)) / (1 − γ); Θ does not depend on Σ.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m]
        Covariance Σ of the policy; 0 for u = Kx.

    Returns
    -------
    Critic
        Of full rank and condition 1; Θ is nan for an unstable gain. At γ = 1 without a
        constant, which `lstdq` does not fit there either.

    Raises
    ------
    ValueError
        If K or cov has a wrong shape or entry.
    """
    _validate.instance("lqr", lqr, LQR)
    gain, Sigma = lqr.gain(K), _validate.covariance("cov", cov, lqr.m)
    _validate.leading("cov", Sigma, 2, gain.shape[:-2])
    Theta = exact.q_matrix(lqr, gain)
    P, curvature = exact.value_matrix(lqr, gain), Theta[..., lqr.n :, lqr.n :]
    noise = (P * lqr.W).sum(axis=(-2, -1)) + (curvature * Sigma).sum(axis=(-2, -1))
    known = 0.0 if lqr.gamma == 1.0 else lqr.gamma / (1.0 - lqr.gamma)
    lead = noise.shape
    return Critic(
        np.broadcast_to(Theta, (*lead, *Theta.shape[-2:])),
        np.asarray(known * noise),
        np.full(lead, feature_count(lqr)),
        np.ones(lead),
    )


@_overflow_is_data
def of_gaussian(lqr: LQR, critic: Critic, cov: ArrayLike) -> Critic:
    """The action value of N(Kx, Σ) from that of u = Kx: a larger constant.

    Parameters
    ----------
    lqr : LQR
    critic : Critic
        Of the deterministic policy, as from `lstdq`.
    cov : float or array, shape [..., m, m]

    Returns
    -------
    Critic
        With γ/(1 − γ) tr(Θ_uu Σ) more; the same critic at γ = 1, which has none.

    Raises
    ------
    ValueError
        If cov or a part of the critic has a wrong shape or entry.
    """
    known = fitting(lqr, critic)
    Sigma = _validate.covariance("cov", cov, lqr.m)
    _validate.leading("cov", Sigma, 2, known.const.shape)
    if lqr.gamma == 1.0:
        return critic
    noise = (known.Theta[..., lqr.n :, lqr.n :] * Sigma).sum(axis=(-2, -1))
    const = np.asarray(known.const + lqr.gamma / (1.0 - lqr.gamma) * noise)
    return Critic(
        np.broadcast_to(known.Theta, (*const.shape, *known.Theta.shape[-2:])),
        const,
        np.broadcast_to(known.rank, const.shape),
        np.broadcast_to(known.condition, const.shape),
    )


def fitting(lqr: LQR, critic: Critic, K: Array | None = None) -> Critic:
    """A critic whose parts are what they should be, and fit the world.

    Parameters
    ----------
    lqr : LQR
        Gives the sizes.
    critic : Critic
        May hold nan, as the critic of an unstable gain does.
    K : array, shape [..., m, n], optional
        Gains whose leading axes it has to face.

    Returns
    -------
    Critic
        With float64 arrays.

    Raises
    ------
    ValueError
        If it is no critic, or a part of it has a wrong shape or type.
    """
    _validate.instance("lqr", lqr, LQR)
    _validate.instance("critic", critic, Critic)
    width = lqr.n + lqr.m
    Theta = _validate.square("critic.Theta", critic.Theta, (width, width))
    const, _, condition = (
        _validate.result(f"critic.{name}", getattr(critic, name), Theta.shape[:-2])
        for name in ("const", "rank", "condition")
    )
    if K is not None:
        _validate.leading("critic", Theta, 2, K.shape[:-2])
    return critic._replace(Theta=Theta, const=const, condition=condition)


def required(lqr: LQR, critic: Critic) -> Critic:
    """The critic, if the data that it was made from determine it.

    Parameters
    ----------
    lqr : LQR
    critic : Critic

    Returns
    -------
    Critic
        The same.

    Raises
    ------
    ValueError
        If the features of the data have too small a rank.
    """
    critic = fitting(lqr, critic)
    if not critic.determined.all():
        wanted = f"features of rank {feature_count(lqr)} (more noise, or other gains)"
        raise _validate.error("data", wanted, f"rank {np.min(critic.rank)}")
    return critic


def feature_count(lqr: LQR) -> int:
    """d, the rank that the features need: (n+m)(n+m+1)/2, and 1 for the constant.

    Parameters
    ----------
    lqr : LQR

    Returns
    -------
    int
        Without the constant at γ = 1.

    Raises
    ------
    ValueError
        If ``lqr`` is no world.
    """
    _validate.instance("lqr", lqr, LQR)
    width = lqr.n + lqr.m
    return width * (width + 1) // 2 + (lqr.gamma < 1.0)


def moments(z: Array, cost: Array, x_next: Array, weight: Array | Flags) -> Moments:
    """What rows contribute to LSTDQ, summed.

    Parameters
    ----------
    z : array, shape [..., n+m, M]
    cost : array, shape [..., M]
    x_next : array, shape [..., n, M]
    weight : array, shape [..., M]
        Of each row: 0 leaves it out.

    Returns
    -------
    Moments
    """
    twice = _twice(z.shape[-2])  # φ is ψ(z) with this factor, taken out of the sums
    d, p = len(twice), len(_pairs(x_next.shape[-2])) + 1
    # Side by side, [ψ(z); ψ(x₊); c], so that all sums are one matrix product.
    columns = np.empty((*z.shape[:-2], d + p + 1, z.shape[-1]))
    _write_products(z, columns[..., :d, :])
    _write_products(x_next, columns[..., d : d + p, :])
    columns[..., -1, :] = cost
    weighted = columns[..., :d, :]
    if not (weight == 1).all():
        weighted = weighted * weight[..., None, :]
    total = twice[:, None] * (weighted @ columns.mT)
    return Moments(total[..., :d] * twice, total[..., d : d + p], total[..., -1])


def path_moments(z: Array, cost: Array, n: int) -> Moments:
    """`moments` of all steps of paths, each of which begins where the last one ended.

    The products of x_{t+1} that end a step are among those of z_{t+1} that begin the
    next: they are made once, and the sums over steps and paths are two matrix products.

    Parameters
    ----------
    z : array, shape [..., k+1, n+m, M]
        Of M paths; the last actions do not count.
    cost : array, shape [..., k, M]
    n : int

    Returns
    -------
    Moments
        Of k M rows of weight 1.
    """
    *lead, k, M = cost.shape
    width, (order, p) = z.shape[-2], _states_first(z.shape[-2], n)
    entries = z.swapaxes(-3, -2).reshape(*lead, width, (k + 1) * M)
    d = len(order)
    rows = np.empty((*lead, d + 1, (k + 1) * M))
    for (i, j), row in zip(_pairs(width), order[:-1], strict=True):
        np.multiply(entries[..., i, :], entries[..., j, :], out=rows[..., row, :])
    rows[..., p - 1, :] = 1.0
    rows[..., d, : k * M] = cost.reshape(*lead, k * M)
    here, twice = rows[..., :d, : k * M], _twice(width)
    sums = twice[:, None] * (here @ rows[..., : k * M].mT)[..., order, :]
    ahead = twice[:, None] * (here @ rows[..., :p, M:].mT)[..., order, :]
    return Moments(sums[..., order] * twice, ahead, sums[..., -1])


@functools.cache
def _states_first(width: int, n: int) -> tuple[list[int], int]:
    """Where each of ψ(z) is if those of ψ(x) come first, and how many these are."""
    pairs = _pairs(width)
    states = [place for place, (_, j) in enumerate(pairs) if j < n] + [len(pairs)]
    others = [place for place, (_, j) in enumerate(pairs) if j >= n]
    return [int(row) for row in np.argsort([*states, *others])], len(states)


def products(x: Array) -> Array:
    """ψ(x) = (x_k x_l for k ≤ l; 1).

    Parameters
    ----------
    x : array, shape [..., n, M]

    Returns
    -------
    array, shape [..., p, M]
    """
    psi = np.empty((*x.shape[:-2], len(_pairs(x.shape[-2])) + 1, x.shape[-1]))
    _write_products(x, psi)
    return psi


def lift(K: Array) -> Array:
    """The matrix of φ(x, Kx) = lift(K) ψ(x).

    Parameters
    ----------
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., d, p]
    """
    n = K.shape[-1]
    L = np.concatenate([np.broadcast_to(np.eye(n), (*K.shape[:-2], n, n)), K], axis=-2)
    i, j = np.transpose(_pairs(L.shape[-2]))
    k, l = np.transpose(_pairs(n))  # noqa: E741
    left, right = L[..., i, :], L[..., j, :]
    T = np.zeros((*K.shape[:-2], len(i) + 1, len(k) + 1))
    T[..., -1, -1] = 1.0
    square = T[..., :-1, :-1]
    square += left[..., k] * right[..., l]
    square += left[..., l] * right[..., k] * (k != l)  # x₊_k x₊_l comes in both orders
    return T * _twice(L.shape[-2])[:, None]


def solve(lqr: LQR, collected: Moments, K: Array) -> Critic:
    """LSTDQ's linear system (G − γ C lift(K)') θ = b, its features scaled alike.

    Parameters
    ----------
    lqr : LQR
    collected : Moments
        From `sums`.
    K : array, shape [..., m, n]

    Returns
    -------
    Critic
    """
    A, b = _system(lqr, collected, K)
    d = b.shape[-1]
    size = np.sqrt(np.diagonal(collected.G, axis1=-2, axis2=-1)[..., :d])
    D = 1.0 / np.where(size > 0.0, size, 1.0)
    scales = D[..., :, None] * D[..., None, :]
    rank, condition = _rank(scales * collected.G[..., :d, :d])
    theta = D * _solved(scales * A, D * b, np.isfinite(condition))
    lead, width = theta.shape[:-1], lqr.n + lqr.m
    pairs = width * (width + 1) // 2
    return Critic(
        _symmetric(theta[..., :pairs], width),
        theta[..., pairs] if d > pairs else np.zeros(lead),
        np.broadcast_to(rank, lead),
        np.broadcast_to(condition, lead),
    )


def _columns(lqr: LQR, rows: Transitions) -> tuple[Array, Array, Array, Flags]:
    """Checked z [..., n+m, M], cost, x₊ [..., n, M], and which rows count."""
    _validate.instance("lqr", lqr, LQR)
    kept, used = usable(rows)
    x, u, cost, x_next = kept
    if (x.shape[-1], u.shape[-1]) != (lqr.n, lqr.m):
        found = (x.shape[-1], u.shape[-1])
        raise _validate.error("transitions", f"(n, m) = ({lqr.n}, {lqr.m})", found)
    return np.concatenate([x.mT, u.mT], axis=-2), cost, x_next.mT, used


def _system(lqr: LQR, collected: Moments, K: Array) -> tuple[Array, Array]:
    """G − γ C lift(K)' and b; at γ = 1 without the constant, which cancels there."""
    kept = slice(None) if lqr.gamma < 1.0 else slice(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        A = collected.G - lqr.gamma * collected.C @ lift(K).mT
    return A[..., kept, kept], collected.b[..., kept]


@functools.cache
def _pairs(size: int) -> tuple[tuple[int, int], ...]:
    """(i, j) with i ≤ j, row by row."""
    return tuple(itertools.combinations_with_replacement(range(size), 2))


def _write_products(x: Array, out: Array) -> None:
    for place, (k, l) in enumerate(_pairs(x.shape[-2])):  # noqa: E741 (k ≤ l, as on paper)
        np.multiply(x[..., k, :], x[..., l, :], out=out[..., place, :])
    out[..., -1, :] = 1.0


def _twice(size: int) -> Array:
    """φ(z) over ψ(z): 2 where i < j, since Θ_ij and Θ_ji are one unknown; else 1."""
    return np.array([2.0 - (i == j) for i, j in _pairs(size)] + [1.0])


def _rank(gram: Array) -> tuple[NDArray[np.int64], Array]:
    """Rank and condition of features from their Gram matrix."""
    finite = np.isfinite(gram).all(axis=(-2, -1), keepdims=True)
    values = np.linalg.eigvalsh(np.where(finite, gram, 0.0))
    largest, smallest = values[..., -1], values[..., 0]
    rank = (values > _NEGLIGIBLE * largest[..., None]).sum(axis=-1)
    known = smallest > _NEGLIGIBLE * largest
    ratio = np.divide(largest, smallest, out=np.full(rank.shape, np.inf), where=known)
    return rank, np.sqrt(ratio)


def _solved(A: Array, b: Array, determined: Flags) -> Array:
    """θ where the data determine it, the least-norm solution elsewhere."""
    lead = np.broadcast_shapes(A.shape[:-2], b.shape[:-1])
    A, b = (
        np.broadcast_to(A, (*lead, *A.shape[-2:])),
        np.broadcast_to(b, (*lead, b.shape[-1])),
    )
    finite = np.isfinite(A).all(axis=(-2, -1))
    full = finite & determined
    theta = np.full(b.shape, np.nan)  # of a gain whose square leaves the floats
    try:
        theta[full] = np.linalg.solve(A[full], b[full][..., None])[..., 0]
    except np.linalg.LinAlgError:  # γ λ_i λ_j = 1 to the last bit
        full = np.zeros_like(full)
    rest = finite & ~full
    inverse = np.linalg.pinv(A[rest], rtol=_NEGLIGIBLE)
    theta[rest] = (inverse @ b[rest][..., None])[..., 0]
    return theta


def _symmetric(upper: Array, size: int) -> Array:
    """The symmetric matrix with the given entries on and above its diagonal."""
    Theta = np.empty((*upper.shape[:-1], size, size))
    i, j = np.transpose(_pairs(size))
    Theta[..., i, j] = Theta[..., j, i] = upper
    return Theta
