r"""What an ensemble plans, exactly, when a member is drawn at every step.

With (A_e, B_e) drawn anew, uniformly, for every step of every rollout, the imagined
world is linear with multiplicative noise. Its second moments still obey a linear
equation, so that value, gradient error and optimum exist in closed form, with means
over members in the place of products of one (A, B).

A model that is not sure of B pays for every action: mean B'PB = B̄'PB̄ + spread.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _steps, _validate
from lqrlib._validate import Array, Flags
from lqrlib.model import LinearModel
from lqrlib.problem import LQR

_overflow_is_data = np.errstate(over="ignore", invalid="ignore")
_MOST_ITERATIONS, _SAME = 10_000, 1e-13


class Plan(NamedTuple):
    """The optimum of the imagined world.

    Parameters
    ----------
    K : array, shape [..., m, n]
        nan where no gain keeps the second moments finite.
    P : array, shape [..., n, n]
        Value matrix of K; nan likewise.
    """

    K: Array
    P: Array


def stack(members: Sequence[LinearModel]) -> LinearModel:
    """An ensemble as one model whose first axis is the member.

    Parameters
    ----------
    members : sequence of LinearModel
        Of equal shapes.

    Returns
    -------
    LinearModel
        With an axis [E] before all others.

    Raises
    ------
    ValueError
        If there is none, or shapes differ.
    """
    models = [_parts(model) for model in _validate.sequence("members", members)]
    shapes = {tuple(part.shape for part in model) for model in models}
    if len(shapes) > 1:
        raise _validate.error("members", "models of one shape", shapes)
    return LinearModel(*map(np.stack, zip(*models, strict=True)))


@_overflow_is_data
def second_moment_map(lqr: LQR, members: LinearModel, K: ArrayLike) -> Array:
    """The matrix of P → γ mean_e (A_e + B_e K)'P(A_e + B_e K) on vec(P).

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    members : LinearModel
        With the member as first axis, from `stack`.
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., n², n²]
        Second moments stay finite where its spectral radius is below 1.

    Raises
    ------
    ValueError
        If K or the members do not fit the world.
    """
    members = _checked(lqr, members)
    gain, n = lqr.gain(K), lqr.n
    A, B = (_facing(part, gain.ndim) for part in (members.A, members.B))
    F = A + B @ gain
    kron = np.einsum("...ki,...lj->...ijkl", F, F).mean(axis=0)
    return lqr.gamma * kron.reshape(*kron.shape[:-4], n * n, n * n)


def is_stable(lqr: LQR, members: LinearModel, K: ArrayLike) -> Flags:
    """Whether the cost of K is finite when a member is drawn at every step.

    Parameters
    ----------
    lqr : LQR
    members : LinearModel
        With the member as first axis, from `stack`.
    K : array, shape [..., m, n]

    Returns
    -------
    array of bool, shape [...]

    Raises
    ------
    ValueError
        If K or the members do not fit the world.
    """
    return _radius(second_moment_map(lqr, members, K)) < 1.0


@_overflow_is_data
def value_matrix(lqr: LQR, members: LinearModel, K: ArrayLike) -> Array:
    """P = Q + K'RK + γ mean_e (A_e + B_e K)'P(A_e + B_e K).

    Parameters
    ----------
    lqr : LQR
        Gives the cost and γ.
    members : LinearModel
        With the member as first axis, from `stack`.
    K : array, shape [..., m, n]

    Returns
    -------
    array, shape [..., n, n]
        nan where the cost is infinite.

    Raises
    ------
    ValueError
        If K or the members do not fit the world.
    """
    one_step = second_moment_map(lqr, members, K)
    gain, n = lqr.gain(K), lqr.n
    stage = lqr.Q + gain.mT @ lqr.R @ gain
    stable = _radius(one_step) < 1.0
    stage = np.broadcast_to(stage, (*stable.shape, n, n))
    safe = np.where(stable[..., None, None], one_step, 0.0)
    P = np.linalg.solve(np.eye(n * n) - safe, stage.reshape(*stable.shape, n * n, 1))
    found = P.reshape(*stable.shape, n, n)
    return np.where(stable[..., None, None], 0.5 * (found + found.mT), np.nan)


@_overflow_is_data
def q_matrix(lqr: LQR, members: LinearModel, P: Array) -> Array:
    """Θ = blockdiag(Q, R) + γ mean_e [A_e, B_e]'P[A_e, B_e].

    Parameters
    ----------
    lqr : LQR
        Gives the cost and γ.
    members : LinearModel
        With the member as first axis, from `stack`.
    P : array, shape [..., n, n]
        Value matrix of what comes after.

    Returns
    -------
    array, shape [..., n+m, n+m]
        Θ_uu K + Θ_ux is half of the slope of the action value at u = Kx.

    Raises
    ------
    ValueError
        If P or the members do not fit the world.
    """
    members = _checked(lqr, members)
    P = _validate.square("P", P, (lqr.n, lqr.n))
    A, B = (_facing(part, P.ndim) for part in (members.A, members.B))
    return _action_values(lqr, A, B, P)


@_overflow_is_data
def optimal_gain(lqr: LQR, members: LinearModel) -> Plan:
    """The best gain of the imagined world, by value iteration.

    Parameters
    ----------
    lqr : LQR
        Gives the cost and γ.
    members : LinearModel
        With the member as first axis, from `stack`.

    Returns
    -------
    Plan
        With one member, the optimal gain of its problem.

    Raises
    ------
    ValueError
        If the members do not fit the world.

    Notes
    -----
    De Koning (1982), "Infinite horizon optimal control of linear discrete time systems
    with stochastic parameters": value iteration converges from 0 if any gain has a
    finite cost.
    """
    members = _checked(lqr, members)
    E, *lead = np.broadcast_shapes(members.A.shape[:-2], members.B.shape[:-2])
    parts = [members.A, members.B]
    A, B = (np.broadcast_to(M, (E, *lead, *M.shape[-2:])) for M in parts)
    A, B = A.reshape(E, -1, *A.shape[-2:]), B.reshape(E, -1, *B.shape[-2:])
    K = _iterated(lqr, A, B).reshape(*lead, lqr.m, lqr.n)
    finite = np.isfinite(K).all(axis=(-2, -1), keepdims=True)
    value = value_matrix(lqr, members, np.where(finite, K, 0.0))
    known = finite & np.isfinite(value).all(axis=(-2, -1), keepdims=True)
    return Plan(np.where(known, K, np.nan), np.where(known, value, np.nan))


def _iterated(lqr: LQR, A: Array, B: Array) -> Array:
    """Gains [S, m, n] of ensembles [E, S, …] by value iteration; nan where it grows."""
    n, K = lqr.n, np.full((A.shape[1], lqr.m, lqr.n), np.nan)
    P, active = np.broadcast_to(lqr.Q, A.shape[1:]), np.arange(A.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_MOST_ITERATIONS):
            Theta = _action_values(lqr, A, B, P)
            K[active] = -_solved(Theta[..., n:, n:], Theta[..., n:, :n])
            before, P = P, Theta[..., :n, :n] + Theta[..., :n, n:] @ K[active]
            P = 0.5 * (P + P.mT)
            going = (np.abs(P - before) > _SAME * np.abs(P)).any(axis=(-2, -1))
            if not going.all():  # those that have arrived, or grown too large, are done
                active, P, A, B = active[going], P[going], A[:, going], B[:, going]
            if not active.size:
                break
    return K


def _action_values(lqr: LQR, A: Array, B: Array, P: Array) -> Array:
    """Θ of members [E, …, n, n] and [E, …, n, m] that face P."""
    n, AB = lqr.n, np.concatenate([A, B], axis=-1)
    Theta = lqr.gamma * (AB.mT @ P @ AB).mean(axis=0)
    Theta[..., :n, :n] += lqr.Q
    Theta[..., n:, n:] += lqr.R
    return np.asarray(Theta)


def _parts(model: LinearModel) -> list[Array]:
    _validate.instance("members", model, LinearModel)
    named = zip(model._fields, model, strict=True)
    return [_validate.result(f"members.{name}", part) for name, part in named]


def _checked(lqr: LQR, members: LinearModel) -> LinearModel:
    """Refuse members of other sizes than the world's, or without their own axis."""
    _validate.instance("lqr", lqr, LQR)
    _validate.instance("members", members, LinearModel)
    parts = {}
    for name, core in (("A", (lqr.n, lqr.n)), ("B", (lqr.n, lqr.m))):
        part = _validate.stack(f"members.{name}", getattr(members, name), core)
        if part.ndim < 3:
            wanted = f"shape (members, …, {core[0]}, {core[1]})"
            raise _validate.error(f"members.{name}", wanted, part.shape)
        parts[name] = part
    lead, found = parts["A"].shape[:-2], parts["B"].shape[:-2]
    if lead != found:
        raise _validate.error("members.B", f"leading axes {lead}, as A has", found)
    return members._replace(**parts)


def _facing(part: Array, ndim: int) -> Array:
    """[E, …, n, k] with axes of length 1 after E, to face arrays of ``ndim`` axes."""
    spare = max(ndim - (part.ndim - 1), 0)
    return part.reshape(len(part), *[1] * spare, *part.shape[1:])


def _solved(curvature: Array, slope: Array) -> Array:
    finite = np.isfinite(curvature).all(axis=(-2, -1), keepdims=True)
    safe = np.where(finite, curvature, np.eye(curvature.shape[-1]))
    return np.where(finite, _steps.solved(safe, slope), np.nan)


def _radius(M: Array) -> Array:
    finite = np.asarray(np.isfinite(M).all(axis=(-2, -1)))
    values = np.linalg.eigvals(np.where(finite[..., None, None], M, 0.0))
    return np.where(finite, np.abs(values).max(axis=-1), np.inf)
