r"""The ladder: mean and variance of each gradient estimate, exactly.

One trajectory of T steps from N(K_b x, Σ) gives one estimate of the gradient at K. All
rungs but the first are sums over steps of w_t p_t, p_t = γᵗ(S_t k + s_t l + h): the
weight w_t of the first t + 1 steps, the score s_t of one, S_t = s_0 + … + s_t, and
forms k, l, h of second degree in (x_t, u_t, x_{t+1}). What comes after t has, given
x_{t+1} and S_t, a mean f_t = S_t a(x_{t+1}) + b(x_{t+1}). So the second moment is a sum
over steps of E_b[w_t² p_t (p_t + 2f_t)]; and under w_t² the trajectory is Gaussian
again, u ~ N((2K − K_b)x, Σ), with the density exp(x'Δ'Σ⁻¹Δx) once more at each step.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact
from lqrlib._forms import RUNNING, Form, Law
from lqrlib._steps import root
from lqrlib._validate import Array, Flags
from lqrlib.problem import LQR
from lqrlib.weight_moments import log_moment

RUNGS = (
    "trajectory",
    "per-decision",
    "time baseline",
    "value baseline",
    "doubly robust",
    "TD error",
    "advantage",
    "action integrated out",
    "deterministic gradient",
)


class Spread(NamedTuple):
    """Mean and variance of the estimate that one trajectory gives.

    Parameters
    ----------
    mean : array, shape [..., m, n]
    variance : array, shape [..., m, n]
        Of each entry; inf where the weights have no second moment.
    """

    mean: Array
    variance: Array

    @property
    def deviation(self) -> Array:
        """The root of the sum of all entries' variances, [...]."""
        return np.asarray(np.sqrt(self.variance.sum(axis=(-2, -1))))


class _Rung(NamedTuple):
    """The forms of a step, and one of x_0 alone; None is zero."""

    k: Form | None = None
    l: Form | None = None  # noqa: E741 (as on paper)
    h: Form | None = None
    first: Form | None = None


class _World(NamedTuple):
    """A world under a policy; K and Σ with axes [1, 1] for the gradient's entries."""

    lqr: LQR
    K: Array  # [..., 1, 1, m, n]
    Sigma: Array  # [..., 1, 1, m, m]
    G: Array  # (x_t, u_t, x_{t+1}) = G x_t + ε
    N: Array  # covariance of ε


@_validate.within_floats("K")
def spread(
    lqr: LQR,
    K: ArrayLike,
    K_behaviour: ArrayLike,
    cov: ArrayLike,
    horizon: int,
    rung: str,
) -> Spread:
    """Mean and variance of a rung's estimate from one trajectory of T steps.

    With V, Q and A = Q − V the true values of N(Kx, Σ) without end, D(x) = 2 E_K x x',
    w_{−1} = 1 and S_{−1} = 0, a trajectory's estimate is the sum over t < T of γᵗ times

    - ``"trajectory"``: w_{T−1} S_{T−1} c_t;
    - ``"per-decision"``: w_t S_t c_t;
    - ``"time baseline"``: w_t S_t (c_t − E c_t);
    - ``"value baseline"``: w_t (S_t c_t − s_t V(x_t));
    - ``"doubly robust"``: w_t S_t (c_t − Q_t) + w_{t−1} (S_{t−1} V(x_t) + D(x_t));
    - ``"TD error"``: w_t s_t (c_t + γ V(x_{t+1}) − V(x_t));
    - ``"advantage"``: w_t s_t A(x_t, u_t);
    - ``"action integrated out"``: w_{t−1} D(x_t);
    - ``"deterministic gradient"``: D(x_t), on the states of the data.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [..., m, n]
        Stable, √γ ρ(A + BK) < 1.
    K_behaviour : array, shape [..., m, n]
        Gain of the policy that makes the data.
    cov : float or array, shape [..., m, m]
        Covariance Σ ≻ 0 of both policies.
    horizon : int
        T.
    rung : str
        One of `RUNGS`.

    Returns
    -------
    Spread
        The mean of the first five is the gradient of the cost of T steps; of the next
        three, 2 E_K times the moment of the first T states of N(Kx, Σ); of the last, 2
        E_K times that of the data's states.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, γ is 1, or there is no such rung.

    Notes
    -----
    Equations (rung-second-moment) and (rung-tilt) of `book/deterministic_gradient.md`.
    """
    _validate.instance("lqr", lqr, LQR)
    rung = _validate.choice("rung", rung, RUNGS)
    if lqr.gamma == 1.0:
        raise _validate.error("gamma", "below 1, for a finite value", lqr.gamma)
    T = _validate.count("horizon", horizon)
    gain = lqr.gain(K)
    if not exact.is_stable(lqr, gain).all():
        raise _validate.error("K", "gains with √γ ρ(A + BK) < 1", gain)
    behaviour = _validate.stack("K_behaviour", K_behaviour, (lqr.m, lqr.n))
    _validate.leading("K_behaviour", behaviour, 2, gain.shape[:-2])
    Sigma = _validate.covariance("cov", cov, lqr.m, strict=True)
    together = np.broadcast_shapes(gain.shape[:-2], behaviour.shape[:-2])
    _validate.leading("cov", Sigma, 2, together)
    own, other, S = (M[..., None, None, :, :] for M in (gain, behaviour, Sigma))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _spread(lqr, own, other, S, T, rung)


def _spread(
    lqr: LQR, K: Array, K_behaviour: Array, Sigma: Array, T: int, rung: str
) -> Spread:
    target = _world(lqr, K, Sigma)
    follows = behaviour = _world(lqr, K_behaviour, Sigma)
    if rung != "deterministic gradient":
        follows = target
    steps = _steps(target, rung, T)
    ahead = _ahead(follows, steps)
    start = _start(lqr)
    first = steps[0].first
    mean = start.moment(_sum(first, ahead[0].h))
    lead = np.broadcast_shapes(K.shape[:-4], K_behaviour.shape[:-4], Sigma.shape[:-4])
    if rung == "trajectory":
        second = _each_whole(lqr, K, K_behaviour, Sigma, T, lead)
    else:
        second = start.moment(first, _sum(first, _twice(ahead[0].h)))
        second = second + _second(follows, behaviour, steps, ahead)
    variance = second - np.square(mean)
    shape = (*lead, lqr.m, lqr.n)
    # Rounding may leave a small negative number where the estimate does not vary.
    variance = np.where(np.isfinite(variance), np.maximum(variance, 0.0), np.inf)
    return Spread(*(np.broadcast_to(part, shape).copy() for part in (mean, variance)))


def _start(lqr: LQR) -> Law:
    """Of x_0, before any step."""
    none = np.zeros_like(lqr.X0)
    return Law((lqr.X0, none, none), (np.zeros(()), np.zeros(())))


def _world(lqr: LQR, K: Array, Sigma: Array) -> _World:
    n, m = lqr.n, lqr.m
    rows = [np.broadcast_to(np.eye(n), (*K.shape[:-2], n, n)), K, lqr.closed_loop(K)]
    by_action = np.concatenate([np.zeros((n, m)), np.eye(m), lqr.B])
    by_world = np.concatenate([np.zeros((n + m, n)), np.eye(n)])
    N = by_action @ Sigma @ by_action.T + by_world @ lqr.W @ by_world.T
    return _World(lqr, K, Sigma, np.concatenate(rows, axis=-2), N)


def _steps(world: _World, rung: str, T: int) -> list[_Rung]:
    """The forms of each step, without γᵗ."""
    lqr = world.lqr
    cost = _block(lqr, (lqr.Q, 0), (lqr.R, lqr.n))
    if rung in ("trajectory", "per-decision"):
        return [_Rung(k=cost)] * T
    if rung == "time baseline":
        return [_Rung(k=Form(cost.matrix, -c)) for c in _mean_costs(world, cost, T)]
    V, V_next, Q = _values(world)
    if rung == "value baseline":
        return [_Rung(k=cost, l=-1.0 * V)] * T
    if rung == "TD error":
        return [_Rung(l=cost + lqr.gamma * V_next - V)] * T
    if rung == "advantage":
        return [_Rung(l=Q - V)] * T
    slope = 2.0 * exact.gain_error(lqr, world.K)[..., 0, 0, :, :]
    first = _entries(slope, np.eye(lqr.n))
    later = lqr.gamma * _in_window(lqr, first)
    if rung == "doubly robust":
        between = _Rung(k=cost - Q + lqr.gamma * V_next, h=later, first=first)
        return [between] * (T - 1) + [between._replace(k=cost - Q, h=None)]
    return [_Rung(h=later, first=first)] * (T - 1) + [_Rung(first=first)]


def _values(world: _World) -> tuple[Form, Form, Form]:
    """V(x_t), V(x_{t+1}) and Q(x_t, u_t) of N(Kx, Σ)."""
    lqr, g = world.lqr, world.lqr.gamma
    P, Theta = exact.value_matrix(lqr, world.K), exact.q_matrix(lqr, world.K)
    curvature = Theta[..., lqr.n :, lqr.n :]
    by_action = np.einsum("...ij,...ij->...", curvature, world.Sigma)
    const = (by_action + g * np.einsum("...ij,ij->...", P, lqr.W)) / (1.0 - g)
    V, Q = _block(lqr, (P, 0)), _block(lqr, (Theta, 0))
    next_V = _block(lqr, (P, lqr.n + lqr.m))
    return (
        Form(V.matrix, const),
        Form(next_V.matrix, const),
        Form(Q.matrix, const - by_action),
    )


def _mean_costs(world: _World, cost: Form, T: int) -> list[Array]:
    """E c_t under the policy."""
    law, found = _start(world.lqr), []
    for _ in range(T):
        law = law.mapped(world.G, world.N)
        found.append(law.moment(cost))
        law = law.last(world.lqr.n)
    return found


def _ahead(world: _World, steps: list[_Rung]) -> list[_Rung]:
    """a and b of what is to come, as k and h in x_t; the last of T + 1 is empty."""
    lqr, found = world.lqr, [_Rung()]
    by_action = np.concatenate([np.zeros((lqr.n, lqr.m)), np.eye(lqr.m), lqr.B])
    for t in reversed(range(len(steps))):
        k, l, h, _ = _discounted(steps[t], lqr.gamma**t)  # noqa: E741
        a, _, b, _ = _at_next(lqr, found[-1])
        paid, rest = _sum(k, l, a), _sum(h, b)
        total, forecast = _sum(k, a), []
        if rest is not None:
            forecast.append(rest.of(world.G, world.N))
        if paid is not None:  # E[Σ⁻¹e φ] is the mean slope of φ in the action
            slope = 2.0 * by_action.T @ paid.matrix @ world.G
            forecast.append(_entries(slope[..., 0, 0, :, :], np.eye(lqr.n)))
        mean = None if total is None else total.of(world.G, world.N)
        found.append(_Rung(k=mean, h=_sum(*forecast)))
    return found[::-1]


def _second(
    world: _World, behaviour: _World, steps: list[_Rung], ahead: list[_Rung]
) -> Array:
    """Σ_t E_b[w_t² p_t (p_t + 2f_t)]; inf where there is no second moment."""
    lqr = world.lqr
    tilt, reweighted = _tilt(world, behaviour)
    pick = np.eye(2 * lqr.n + lqr.m, lqr.n)
    slope = np.linalg.solve(world.Sigma, np.eye(lqr.m, len(pick), lqr.n))
    scorer = slope - np.linalg.solve(world.Sigma, world.K) @ pick.T
    s = _entries(scorer[..., 0, 0, :, :], pick)
    law = _start(lqr)
    log_mass, total = np.zeros(()), np.zeros(())
    exists = np.ones((), dtype=bool)
    for t, step in enumerate(steps):
        possible, change = _normaliser(law.links[0], tilt)
        unused = step.k is None and step.l is None and step.h is None
        exists = exists & (possible | unused)
        law = law.tilted(np.where(possible[..., None, None], tilt, 0.0))
        log_mass = log_mass + change
        law = law.mapped(reweighted.G, reweighted.N).grown(s.matrix)
        now = _discounted(step, lqr.gamma**t)
        later = _at_next(lqr, ahead[t + 1])
        total = total + np.exp(log_mass) * _product(law, s, now, later)
        law = law.last(lqr.n)
    return np.where(exists, total, np.inf)


def _product(law: Law, s: Form, now: _Rung, later: _Rung) -> Array:
    """E[p (p + 2f)] with p = S k + s l + h and f = S a + b, product by product."""
    S, E = RUNNING, law.moment
    k, l, h, a, b = now.k, now.l, now.h, later.k, later.h  # noqa: E741
    return (
        E(S, S, k, _sum(k, _twice(a)))
        + 2.0 * E(S, s, l, _sum(k, a))
        + 2.0 * E(S, k, _sum(h, b))
        + 2.0 * E(S, a, h)
        + E(s, s, l, l)
        + 2.0 * E(s, l, _sum(h, b))
        + E(h, _sum(h, _twice(b)))
    )


def _tilt(world: _World, behaviour: _World) -> tuple[Array, _World]:
    """Δ'Σ⁻¹Δ, and the policy N((2K − K_b)x, Σ)."""
    change = world.K - behaviour.K
    tilt = change.mT @ np.linalg.solve(world.Sigma, change)
    return tilt, _world(world.lqr, world.K + change, world.Sigma)


def _normaliser(C: Array, tilt: Array) -> tuple[Flags, Array]:
    """Whether E exp(x'τx) exists for x ~ N(0, C), and its logarithm."""
    L = root(C)
    values = 1.0 - 2.0 * np.linalg.eigvalsh(L.mT @ tilt @ L)
    possible = np.asarray((values > 0.0).all(axis=-1))
    logs = np.log(np.where(possible[..., None], values, 1.0))
    return possible, -0.5 * logs.sum(axis=-1)


def _each_whole(
    lqr: LQR,
    K: Array,
    K_behaviour: Array,
    Sigma: Array,
    T: int,
    lead: tuple[int, ...],
) -> Array:
    """E_b[w² C² S²] for the weight, cost C and score S of all T steps together."""
    parts = (
        np.broadcast_to(M, (*lead, *M.shape[-4:])) for M in (K, K_behaviour, Sigma)
    )
    own, other, S = parts
    exists = np.isfinite(log_moment(lqr, own, other, S, T))[..., 0, 0]
    second = np.full((*lead, lqr.m, lqr.n), np.inf)
    for at in np.ndindex(lead):  # all at once would fill the memory
        if exists[at]:
            target, behaviour = (_world(lqr, M[at], S[at]) for M in (own, other))
            second[at] = _whole(target, behaviour, T)
    return second


def _whole(world: _World, behaviour: _World, T: int) -> Array:
    """The same of one world, with both sums as forms in the normals that drive it."""
    lqr, (tilt, reweighted) = world.lqr, _tilt(world, behaviour)
    x, u = _responses(reweighted, T)
    exponent = (x.mT @ (tilt[..., None, :, :] @ x)).sum(axis=-3)
    values, vectors = np.linalg.eigh(np.eye(x.shape[-1]) - 2.0 * exponent)
    change = (vectors / np.sqrt(values)[..., None, :])[..., None, :, :]
    x, u = x @ change, u @ change
    scale = (lqr.gamma ** np.arange(T))[:, None, None]
    C = (x.mT @ (scale * lqr.Q @ x) + u.mT @ (scale * lqr.R @ u)).sum(axis=-3)
    e = np.linalg.solve(world.Sigma[..., None, :, :], u - world.K[..., None, :, :] @ x)
    e, x = (part[..., 0, 0, :, :, :] for part in (e, x))
    S = np.einsum("...tiq,...tjr->...ijqr", e, x, optimize=True)
    mass = np.exp(-0.5 * np.log(values).sum(axis=-1))
    return np.asarray(mass * _squares(0.5 * (S + S.mT), C))


def _responses(world: _World, T: int) -> tuple[Array, Array]:
    """x_t and u_t as linear maps of all normals up to T, [..., T, n or m, J]."""
    lqr = world.lqr
    n, m = lqr.n, lqr.m
    J, noise = n + T * (n + m), root(world.Sigma)
    lead = np.broadcast_shapes(world.K.shape[:-2], noise.shape[:-2])
    x, u = np.zeros((*lead, T + 1, n, J)), np.zeros((*lead, T, m, J))
    x[..., 0, :, :n] = root(lqr.X0)
    for t in range(T):
        at = n + t * (n + m)
        u[..., t, :, :] = world.K @ x[..., t, :, :]
        u[..., t, :, at : at + m] += noise
        x[..., t + 1, :, :] = lqr.A @ x[..., t, :, :] + lqr.B @ u[..., t, :, :]
        x[..., t + 1, :, at + m : at + m + n] += root(lqr.W)
    return x[..., :-1, :, :], u


def _squares(S: Array, C: Array) -> Array:
    """E[(ξ'Sξ)² (ξ'Cξ)²] for standard normal ξ, by the cumulants of both forms."""
    SS, SC, CC = S @ S, S @ C, C @ C
    s, c = (np.einsum("...ii->...", M) for M in (S, C))
    ss, sc, cc = (2.0 * np.einsum("...ii->...", M) for M in (SS, SC, CC))
    ssc, scc = (8.0 * (M * N).sum(axis=(-2, -1)) for M, N in ((SS, C), (S, CC)))
    around = 4.0 * (SS * CC).sum(axis=(-2, -1)) + 2.0 * (SC * SC.mT).sum(axis=(-2, -1))
    found: Array = (
        8.0 * around
        + 2.0 * (s * scc + c * ssc)
        + ss * cc
        + 2.0 * sc**2
        + ss * c**2
        + cc * s**2
        + 4.0 * s * c * sc
        + s**2 * c**2
    )
    return found


def _block(lqr: LQR, *blocks: tuple[Array, int]) -> Form:
    """A form in (x_t, u_t, x_{t+1}) from diagonal blocks and where they begin."""
    size = 2 * lqr.n + lqr.m
    lead = np.broadcast_shapes(*(block.shape[:-2] for block, _ in blocks))
    M = np.zeros((*lead, size, size))
    for block, at in blocks:
        end = at + block.shape[-1]
        M[..., at:end, at:end] += block
    return Form(M, np.zeros(lead))


def _at_next(lqr: LQR, step: _Rung) -> _Rung:
    """Forms in x_{t+1}, as such in (x_t, u_t, x_{t+1})."""
    return _Rung(*(None if form is None else _in_window(lqr, form) for form in step))


def _in_window(lqr: LQR, form: Form) -> Form:
    return Form(_block(lqr, (form.matrix, lqr.n + lqr.m)).matrix, form.const)


def _entries(rows: Array, pick: Array) -> Form:
    """The forms (rows y)_i (pick' y)_j of all entries, with axes [..., i, j, d, d]."""
    M = np.einsum("...iq,pj->...ijpq", rows, pick)
    return Form(0.5 * (M + M.mT), np.zeros(M.shape[:-2]))


def _sum(*forms: Form | None) -> Form | None:
    known = [form for form in forms if form is not None]
    if not known:
        return None
    total = known[0]
    for form in known[1:]:
        total = total + form
    return total


def _twice(form: Form | None) -> Form | None:
    return None if form is None else 2.0 * form


def _discounted(step: _Rung, factor: float) -> _Rung:
    return _Rung(*(None if form is None else factor * form for form in step))
