r"""Data: trajectories of a linear world under a policy, and the transitions in them.

A trajectory x_0, u_0, x_1, …, u_{T−1}, x_T obeys u_t = K x_t + L_Σ ξ_t and
x_{t+1} = A x_t + B u_t + L_W ζ_t, where L_Σ L_Σ' = Σ, L_W L_W' = W, and the rows
(ξ_t, ζ_t) of the *noise* are standard normal. Given the same noise and starts, data of
different gains, covariances and models can be compared sample by sample.

What is returned has samples as rows: views on memory ordered (T, n+m, N).
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _steps, _validate
from lqrlib._validate import Array, Flags
from lqrlib.policy import GaussianPolicy, LinearPolicy, StagePolicy
from lqrlib.problem import LQR

Policy = LinearPolicy | GaussianPolicy | StagePolicy

# Fits multiply up to four entries of a row; beyond this the product leaves the floats.
_LARGEST = 1e60


class Trajectories(NamedTuple):
    """N trajectories of T steps, and the policy that made each of them.

    Parameters
    ----------
    x : array, shape [..., N, T+1, n]
        States, the last one included.
    u : array, shape [..., N, T, m]
        Actions.
    cost : array, shape [..., N, T]
        Stage costs x'Qx + u'Ru; inf where too large for a float.
    diverged : array of bool, shape [..., N]
        Whether the cost became infinite; the states may then be infinite, too.
    policy : LinearPolicy, GaussianPolicy or StagePolicy
        Leading axes of its K broadcast against [..., N]: none for one policy, N
        for one policy a trajectory.
    """

    x: Array
    u: Array
    cost: Array
    diverged: Flags
    policy: Policy


class Transitions(NamedTuple):
    """M single steps (x, u, cost, x').

    Parameters
    ----------
    x : array, shape [..., M, n]
    u : array, shape [..., M, m]
    cost : array, shape [..., M]
    x_next : array, shape [..., M, n]
    """

    x: Array
    u: Array
    cost: Array
    x_next: Array


def rollout(
    dynamics: LQR,
    policy: Policy,
    n_trajectories: int,
    horizon: int,
    rng: np.random.Generator,
    *,
    x0: ArrayLike | None = None,
    noise: ArrayLike | None = None,
) -> Trajectories:
    """Let a policy act in a world: u_t ~ π(x_t), x_{t+1} = A x_t + B u_t + w_t.

    Parameters
    ----------
    dynamics : LQR
        The world, or a fitted model with the known cost (`LinearModel.problem`).
    policy : LinearPolicy, GaussianPolicy or StagePolicy
        With leading axes […]: a batch of policies, each with its own starts and noise
        unless they are given. Stage gains have a stage for each step.
    n_trajectories : int
        N.
    horizon : int
        T.
    rng : numpy.random.Generator
    x0 : array, shape [..., N, n], optional
        Initial states; drawn from N(0, X0) if not given.
    noise : array, shape [..., N, T, m+n], optional
        Standard normals; the first m of a row move the action, the n after them the
        state. Drawn if not given. `draw_noise` lays them out for speed.

    Returns
    -------
    Trajectories

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, by name.
    """
    N = _validate.count("n_trajectories", n_trajectories)
    T = _validate.count("horizon", horizon)
    rng = _validate.generator("rng", rng)
    matrices, lead = _step_matrices(dynamics, policy, T)
    width = dynamics.n + dynamics.m
    if x0 is not None:
        x0 = _validate.view("x0", x0, (N, dynamics.n), lead)
        lead = np.broadcast_shapes(lead, x0.shape[:-2])
    if noise is not None:
        noise = _validate.view("noise", noise, (N, T, width), lead)
        lead = np.broadcast_shapes(lead, noise.shape[:-3])
    starts = draw_starts(dynamics, N, rng, lead) if x0 is None else x0
    z, cost = _steps.simulate(
        matrices,
        stage_matrix(dynamics),
        np.broadcast_to(starts, (*lead, N, dynamics.n)),
        fresh_noise(rng) if noise is None else given_noise(noise),
        T,
    )
    return packed(z, cost, dynamics.n, _by_trajectory(policy))


def draw_starts(
    lqr: LQR, n_trajectories: int, rng: np.random.Generator, lead: Sequence[int] = ()
) -> Array:
    """Initial states x₀ ~ N(0, X0).

    Parameters
    ----------
    lqr : LQR
    n_trajectories : int
    rng : numpy.random.Generator
    lead : sequence of int
        Leading axes, each with its own draw.

    Returns
    -------
    array, shape [*lead, N, n]

    Raises
    ------
    ValueError
        If an argument has a wrong type or entry, by name.
    """
    _validate.instance("lqr", lqr, LQR)
    N = _validate.count("n_trajectories", n_trajectories)
    sizes = [_validate.count("lead", size) for size in _validate.listed("lead", lead)]
    rng = _validate.generator("rng", rng)
    normals = rng.standard_normal((*sizes, N, lqr.n))
    return normals @ _steps.root(lqr.X0).T


def draw_noise(
    n_trajectories: int, horizon: int, width: int, rng: np.random.Generator
) -> Array:
    """Standard normals for `rollout`, laid out in memory as the rollout reads them.

    Parameters
    ----------
    n_trajectories, horizon : int
    width : int
        m + n.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape [N, T, m+n]
        A view on memory ordered (T, m+n, N).

    Raises
    ------
    ValueError
        If an argument has a wrong type or entry, by name.
    """
    N = _validate.count("n_trajectories", n_trajectories)
    shape = _validate.count("horizon", horizon), _validate.count("width", width), N
    rng = _validate.generator("rng", rng)
    return np.moveaxis(rng.standard_normal(shape), -1, 0)


def draw_each(
    lqr: LQR, n_trajectories: int, horizon: int, rngs: Sequence[np.random.Generator]
) -> tuple[Array, Array]:
    """Starts and noise of a batch, each drawn as `rollout` alone would draw them.

    So a batch of policies, each with a generator of its own, makes the data that one
    rollout after the other would make.

    Parameters
    ----------
    lqr : LQR
    n_trajectories, horizon : int
    rngs : sequence of numpy.random.Generator
        One for each policy of the batch; one after the other, if they are the same.

    Returns
    -------
    x0 : array, shape [S, N, n]
    noise : array, shape [S, N, T, m+n]
        A view on memory ordered (S, T, m+n, N).

    Raises
    ------
    ValueError
        If an argument has a wrong type or entry, by name.
    """
    _validate.instance("lqr", lqr, LQR)
    N = _validate.count("n_trajectories", n_trajectories)
    T = _validate.count("horizon", horizon)
    each = [
        _validate.generator("rngs", rng) for rng in _validate.sequence("rngs", rngs)
    ]
    x0 = np.empty((len(each), N, lqr.n))
    noise = np.empty((len(each), T, lqr.m + lqr.n, N))
    for place, rng in enumerate(each):
        x0[place] = draw_starts(lqr, N, rng)
        rng.standard_normal(out=noise[place])
    return x0, np.moveaxis(noise, -1, 1)


def given_noise(noise: Array) -> _steps.Noise:
    """Noise that was drawn before, for `lqrlib._steps.simulate`.

    Parameters
    ----------
    noise : array, shape [..., N, T, m+n]

    Returns
    -------
    callable
    """

    def fill(t: int, out: Array) -> None:
        out[...] = noise[..., :, t, :].mT

    return fill


def fresh_noise(rng: np.random.Generator) -> _steps.Noise:
    """New normals at every step, for `lqrlib._steps.simulate`.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    callable
    """

    def fill(t: int, out: Array) -> None:  # noqa: ARG001
        if out.flags.c_contiguous:
            rng.standard_normal(out=out)
        else:
            out[...] = rng.standard_normal(out.shape)

    return fill


def packed(z: Array, cost: Array, n: int, policy: Policy) -> Trajectories:
    """What `lqrlib._steps.simulate` returns, as trajectories with samples as rows.

    Parameters
    ----------
    z : array, shape [..., T+1, n+m, N]
    cost : array, shape [..., T, N]
    n : int
    policy : LinearPolicy, GaussianPolicy or StagePolicy

    Returns
    -------
    Trajectories
        Views.
    """
    rows = np.moveaxis(z, -1, -3)
    with np.errstate(over="ignore"):
        diverged = ~np.isfinite(cost.sum(axis=-2))
    return Trajectories(rows[..., :n], rows[..., :-1, n:], cost.mT, diverged, policy)


def concatenate(parts: Sequence[Trajectories]) -> Trajectories:
    """Trajectories of one length side by side; each keeps the policy that made it.

    Parameters
    ----------
    parts : sequence of Trajectories
        Equal in all axes but N; all by policies of one kind.

    Returns
    -------
    Trajectories

    Raises
    ------
    ValueError
        If there is none, or sizes or kinds of policies differ.
    """
    parts = [attributed("parts", part) for part in _validate.sequence("parts", parts)]
    for part in parts:
        _validate.flags("parts.diverged", part.diverged, part.cost.shape[:-1])
    sizes = {(p.u.shape[:-3], *p.u.shape[-2:], p.x.shape[-1]) for p in parts}
    if len(sizes) > 1:
        raise _validate.error("parts", "equal T, n, m and leading axes", sizes)
    return Trajectories(
        np.concatenate([part.x for part in parts], axis=-3),
        np.concatenate([part.u for part in parts], axis=-3),
        np.concatenate([part.cost for part in parts], axis=-2),
        np.concatenate([part.diverged for part in parts], axis=-1),
        _joined_policy(parts),
    )


def transitions(trajectories: Trajectories) -> Transitions:
    """Every step of every trajectory as one row, trajectory after trajectory.

    Parameters
    ----------
    trajectories : Trajectories

    Returns
    -------
    Transitions
        With M = N T.

    Raises
    ------
    ValueError
        If the parts of the trajectories do not fit together.
    """
    trajectories = checked("trajectories", trajectories)
    x, u, cost = trajectories.x, trajectories.u, trajectories.cost
    rows = (*cost.shape[:-2], -1)
    return Transitions(
        x[..., :-1, :].reshape(*rows, x.shape[-1]),
        u.reshape(*rows, u.shape[-1]),
        cost.reshape(rows),
        x[..., 1:, :].reshape(*rows, x.shape[-1]),
    )


def checked(
    name: str, trajectories: Trajectories, lqr: LQR | None = None
) -> Trajectories:
    """Trajectories whose x, u and cost are what they should be, and fit together.

    Parameters
    ----------
    name : str
        What an error calls them.
    trajectories : Trajectories
        Their x may be a part of the state that the policy has seen.
    lqr : LQR, optional
        Whose sizes they have to have.

    Returns
    -------
    Trajectories
        With float64 arrays.

    Raises
    ------
    ValueError
        If they are none, a part has a wrong shape or type, or x, u or cost holds nan.
    """
    _validate.instance(name, trajectories, Trajectories)
    x, u, cost = (
        _validate.rows(f"{name}.{part}", getattr(trajectories, part), core)
        for part, core in (("x", 3), ("u", 3), ("cost", 2))
    )
    rows, T = cost.shape[:-1], cost.shape[-1]
    n, m = (x.shape[-1], u.shape[-1]) if lqr is None else (lqr.n, lqr.m)
    for part, found, shape in (
        ("x", x.shape, (*rows, T + 1, n)),
        ("u", u.shape, (*rows, T, m)),
    ):
        if found != shape:
            raise _validate.error(f"{name}.{part}", f"shape {shape}", found)
    return trajectories._replace(x=x, u=u, cost=cost)


def attributed(
    name: str, trajectories: Trajectories, lqr: LQR | None = None
) -> Trajectories:
    """`checked`, and of a policy that can have made them: for who asks who it was.

    Parameters
    ----------
    name : str
        What an error calls them.
    trajectories : Trajectories
    lqr : LQR, optional
        Whose sizes they have to have.

    Returns
    -------
    Trajectories
        With float64 arrays.

    Raises
    ------
    ValueError
        If `checked` refuses them, or the policy has other sizes or leading axes.
    """
    found = checked(name, trajectories, lqr)
    core = found.u.shape[-1], found.x.shape[-1]
    _check_policy(f"{name}.policy", found.policy, core, found.cost.shape[:-1])
    return found


def usable(transitions: Transitions) -> tuple[Transitions, Flags]:
    """The rows that can be computed with; the others, of diverged trajectories, as 0.

    Parameters
    ----------
    transitions : Transitions

    Returns
    -------
    transitions : Transitions
        Checked, with rows of zeros where an entry exceeds 10⁶⁰ or is not finite.
    used : array of bool, shape [..., M]
        Which rows were kept.

    Raises
    ------
    ValueError
        If the parts do not fit together.
    """
    _validate.instance("transitions", transitions, Transitions)
    x, u, cost, x_next = (
        _validate.rows(f"transitions.{name}", part, core)
        for name, part, core in zip(
            Transitions._fields, transitions, (2, 2, 1, 2), strict=True
        )
    )
    parts = {"u": u[..., 0], "cost": cost}
    for name, part in parts.items():
        if part.shape != x.shape[:-1]:
            raise _validate.error(
                f"transitions.{name}", f"one row for each of x {x.shape}", part.shape
            )
    if x_next.shape != x.shape:
        raise _validate.error("transitions.x_next", f"shape {x.shape}", x_next.shape)
    used = np.ones(cost.shape, dtype=bool)
    every = (x, u, cost[..., None], x_next)
    # Mostly all of them can: two passes tell, without looking at single rows.
    if not all(part.min() > -_LARGEST and part.max() < _LARGEST for part in every):
        for part in every:
            used &= (np.abs(part) < _LARGEST).all(axis=-1)
        keep = used[..., None]
        x, u, x_next = (np.where(keep, part, 0.0) for part in (x, u, x_next))
        cost = np.where(used, cost, 0.0)
    return Transitions(x, u, cost, x_next), used


def stage_matrix(lqr: LQR) -> Array:
    """blockdiag(Q, R), the matrix of the stage cost in z = (x, u).

    Parameters
    ----------
    lqr : LQR

    Returns
    -------
    array, shape [n+m, n+m]

    Raises
    ------
    ValueError
        If ``lqr`` is no world.
    """
    _validate.instance("lqr", lqr, LQR)
    stage = np.zeros((lqr.n + lqr.m, lqr.n + lqr.m))
    stage[: lqr.n, : lqr.n], stage[lqr.n :, lqr.n :] = lqr.Q, lqr.R
    return stage


def _step_matrices(
    dynamics: LQR, policy: Policy, horizon: int
) -> tuple[Iterable[Array], tuple[int, ...]]:
    """The matrix of each step, and the policy's leading axes."""
    _validate.instance("dynamics", dynamics, LQR)
    _validate.instance("policy", policy, LinearPolicy, GaussianPolicy, StagePolicy)
    if policy.K.shape[-2:] != (dynamics.m, dynamics.n):
        wanted = f"a gain of shape (…, {dynamics.m}, {dynamics.n})"
        raise _validate.error("policy", wanted, policy.K.shape)
    cov = getattr(policy, "cov", np.zeros((dynamics.m, dynamics.m)))
    if isinstance(policy, StagePolicy) and policy.horizon != horizon:
        wanted = f"a gain for each of {horizon} steps"
        raise _validate.error("policy", wanted, f"{policy.horizon} stages")
    matrices = _steps.step_matrix(
        dynamics.A, dynamics.B, _steps.root(dynamics.W), policy.K, _steps.root(cov)
    )
    if isinstance(policy, StagePolicy):
        return np.moveaxis(matrices, -3, 0), matrices.shape[:-3]
    return itertools.repeat(matrices), matrices.shape[:-2]


def _check_policy(
    name: str, policy: Policy, core: tuple[int, int], rows: tuple[int, ...]
) -> None:
    """Refuse a policy that cannot have made trajectories [*rows] of these sizes."""
    _validate.instance(name, policy, LinearPolicy, GaussianPolicy, StagePolicy)
    if policy.K.shape[-2:] != core:
        wanted = f"a gain of shape (…, {core[0]}, {core[1]})"
        raise _validate.error(name, wanted, policy.K.shape)
    axes = [policy.K.shape[: -3 if isinstance(policy, StagePolicy) else -2]]
    if isinstance(policy, GaussianPolicy):
        axes.append(policy.cov.shape[:-2])
    try:
        fits = np.broadcast_shapes(rows, *axes) == rows
    except ValueError:
        fits = False
    if not fits:
        raise _validate.error(name, f"leading axes that broadcast to {rows}", axes)


def _by_trajectory(policy: Policy) -> Policy:
    """The policy with an axis for its trajectories, where it has leading axes."""

    def spread(M: Array, core: int = 2) -> Array:
        return np.expand_dims(M, -core - 1) if M.ndim > core else M

    if isinstance(policy, StagePolicy):
        return StagePolicy(spread(policy.K, core=3))
    if isinstance(policy, LinearPolicy):
        return LinearPolicy(spread(policy.K))
    return GaussianPolicy(spread(policy.K), spread(policy.cov))


def _joined_policy(parts: Sequence[Trajectories]) -> Policy:
    kinds = {type(part.policy) for part in parts}
    if len(kinds) > 1:
        names = sorted(kind.__name__ for kind in kinds)
        raise _validate.error("parts", "policies of one kind", names)

    def each(name: str, core: int = 2) -> Array:
        matrices = [getattr(part.policy, name) for part in parts]
        spread = [
            np.broadcast_to(M, (*part.cost.shape[:-1], *M.shape[-core:]))
            for M, part in zip(matrices, parts, strict=True)
        ]
        return np.concatenate(spread, axis=-core - 1)

    if kinds == {StagePolicy}:
        return StagePolicy(each("K", core=3))
    if kinds == {LinearPolicy}:
        return LinearPolicy(each("K"))
    return GaussianPolicy(each("K"), each("cov"))
