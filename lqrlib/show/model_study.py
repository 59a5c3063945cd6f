"""What fitted models know, over covariance, amount and kind of data, computed.

A row (x, u, x') of N(Kx, σ²I) is a row without noise in the action plus σ times what
that noise does. So one rollout of each serves all covariances, and the triangles of a
QR factorisation of both side by side stand for the rows: least squares cannot tell.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, ensemble, exact, finite_horizon, lyapunov, model, rates
from lqrlib._steps import root
from lqrlib._validate import Array
from lqrlib.model import LinearModel
from lqrlib.policy import GaussianPolicy, LinearPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Transitions, concatenate, rollout, transitions

COVS = tuple(float(f"{10**e:.3g}") for e in np.arange(-4, 2.1, 0.5))
COUNTS = (10, 30, 100, 300)
# Which gains make the data, as shares of the way from K₀ to K*; equally often.
SHARES = {
    "one": (0.0,),
    "two": (-0.05, 0.05),
    "five": (0.0, 0.25, 0.5, 0.75, 1.0),
}
READINGS = ("A + BK₀", "A", "B", "gradient", "planned gain", "J above J*")
HORIZON, SEEDS, TOGETHER = 60, 200, 50
_DRAWS, _STEP = 4000, 1e-5


class ModelStudy(NamedTuple):
    """Relative errors of fitted models and of what is computed from them.

    The leading axes are the kind of data, covariances and amounts.

    Parameters
    ----------
    covs : tuple of float
        σ² of the actions.
    counts : tuple of int
        Trajectories of 60 steps.
    error : dict of str to array, shape [3, C, N, seeds]
        Of A, B and A + BK₀; of the model's exact gradient at K₀; of its optimal gain;
        (J − J*)/J* of that gain in the true world. inf where there is none.
    law : dict of str to array, shape [3, C, N]
        Medians of the same by the asymptotic law of (A, B), from exact state moments,
        to first order (the cost: to second order). What an error of W adds to that of
        the gradient is left out: less than a hundredth in the double integrator.
    condition : array, shape [3, C, N]
        Median condition number of z = (x, u).
    """

    covs: tuple[float, ...]
    counts: tuple[int, ...]
    error: dict[str, Array]
    law: dict[str, Array]
    condition: Array


def model_data(
    lqr: LQR,
    K0: ArrayLike,
    *,
    data: str,
    cov: float,
    n: float,
    rng: np.random.Generator,
) -> Transitions:
    """Rows of a state of the explorer, from rollouts of 60 steps.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
    data : str
        "one": the gain K₀; "two": K₀ and a twentieth of the way to K* to either side;
        "five": five gains from K₀ to K*.
    cov : float
        σ² of the actions; may be 0.
    n : float
        Trajectories in all, rounded to a multiple of the number of gains.
    rng : numpy.random.Generator

    Returns
    -------
    Transitions

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or there are no such data.
    """
    if data not in SHARES:
        raise _validate.error("data", " or ".join(SHARES), repr(data))
    gains = _gains(lqr, K0, SHARES[data])
    each = max(round(n / len(gains)), 1)
    policies = [GaussianPolicy(K, cov) if cov else LinearPolicy(K) for K in gains]
    parts = [rollout(lqr, policy, each, HORIZON, rng) for policy in policies]
    return transitions(concatenate(parts))


def model_study(
    lqr: LQR, K0: ArrayLike, *, executor: Executor | None = None
) -> ModelStudy:
    """Compute what `lqrlib.show.model_explorer` shows.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
    executor : concurrent.futures.Executor, optional
        Where the data sets are worked on; the numbers do not depend on it.

    Returns
    -------
    ModelStudy

    Raises
    ------
    ValueError
        If K0 is not one stable gain, or is the optimal one.
    """
    first = _validate.matrix("K0", K0, (lqr.m, lqr.n))
    if np.allclose(first, exact.optimal_gain(lqr)):
        raise _validate.error("K0", "a gain other than the optimal one", K0)
    if not exact.is_stable(lqr, first):
        raise _validate.error("K0", "a stable gain", K0)
    each = map if executor is None else executor.map
    error: dict[str, list[Array]] = {name: [] for name in READINGS}
    condition = []
    for shares in SHARES.values():
        parts = list(each(partial(_part, lqr, first, shares), _seeds()))
        for name, kinds in error.items():
            kinds.append(np.concatenate([found[name] for found, _ in parts]))
        condition.append(np.concatenate([found for _, found in parts]))
    laws = [_law(lqr, first, shares) for shares in SHARES.values()]
    return ModelStudy(
        COVS,
        COUNTS,
        {name: np.moveaxis(np.stack(kinds), 1, -1) for name, kinds in error.items()},
        {name: np.stack([law[name] for law in laws]) for name in READINGS},
        np.median(np.stack(condition), axis=1),
    )


def _seeds() -> list[range]:
    """What is worked on together: fits of many data sets cost little more than one."""
    return [range(i, min(i + TOGETHER, SEEDS)) for i in range(0, SEEDS, TOGETHER)]


def _gains(lqr: LQR, K0: ArrayLike, shares: Sequence[float]) -> Array:
    first = _validate.matrix("K0", K0, (lqr.m, lqr.n))
    way = exact.optimal_gain(lqr) - first
    return first + np.array(shares)[:, None, None] * way


def _part(
    lqr: LQR, first: Array, shares: Sequence[float], seeds: Sequence[int]
) -> tuple[dict[str, Array], Array]:
    """Errors and conditions [seeds, C, N] of nested data sets."""
    fitted = _fits(lqr, _gains(lqr, first, shares), COVS, COUNTS, seeds)
    return _errors(lqr, first, fitted), fitted.condition


def _fits(
    lqr: LQR,
    K: Array,
    covs: Sequence[float],
    counts: Sequence[int],
    seeds: Iterable[int],
) -> LinearModel:
    """Least squares of nested data of the gains K [G, m, n], for all covariances."""
    triangles = np.stack(
        [_triangles(_rows(lqr, K, counts[-1], i), counts) for i in seeds]
    )
    width = triangles.shape[-1] // 2
    sigma = np.sqrt(covs)[:, None, None, None]
    rows = triangles[:, None, ..., :width] + sigma * triangles[:, None, ..., width:]
    x, u, x_next = np.split(rows, [lqr.n, lqr.n + lqr.m], axis=-1)
    fitted = model.fit(Transitions(x, u, np.zeros(x.shape[:-1]), x_next))
    # Divided by what is left of the rows that the triangles stand for.
    spare, true = 2 * width - lqr.n - lqr.m, HORIZON * np.array(counts) - lqr.n - lqr.m
    return fitted._replace(W=fitted.W * (spare / true)[:, None, None])


def _rows(lqr: LQR, K: Array, count: int, seed: int) -> Array:
    """(x, u, x') without noise in the actions, and beside them what that noise does."""
    rng, each = np.random.default_rng([seed, len(K)]), count // len(K)
    quiet = replace(lqr, W=np.zeros_like(lqr.W), X0=np.zeros_like(lqr.X0))
    own = rollout(lqr, LinearPolicy(K), each, HORIZON, rng)
    moved = rollout(quiet, GaussianPolicy(K, 1.0), each, HORIZON, rng)
    parts = [p for d in (own, moved) for p in (d.x[..., :-1, :], d.u, d.x[..., 1:, :])]
    return np.concatenate(parts, axis=-1)


def _triangles(rows: Array, counts: Sequence[int]) -> Array:
    """R of the first N trajectories of rows [G, N, T, k], shared by the gains."""
    share, width = len(rows), rows.shape[-1]
    before, found = 0, [np.zeros((width, width))]
    for N in counts:
        fresh = rows[:, before : N // share].reshape(-1, width)
        stacked = np.concatenate([found[-1], fresh])
        found.append(np.asarray(np.linalg.qr(stacked, mode="r")))
        before = N // share
    return np.stack(found[1:])


def _errors(lqr: LQR, first: Array, fitted: LinearModel) -> dict[str, Array]:
    """Relative errors of models and of what follows from them."""
    best, slope = exact.optimal_gain(lqr), exact.gradient(lqr, first)
    plan = ensemble.optimal_gain(lqr, ensemble.stack([fitted])).K
    known = np.asarray(np.isfinite(plan).all(axis=(-2, -1)))
    cost = exact.cost(lqr, np.where(known[..., None, None], plan, 0.0))
    J = float(exact.cost(lqr, best))
    loop = lqr.closed_loop(first)
    off = {
        "B": _length(fitted.B - lqr.B) / _length(lqr.B),
        "A": _length(fitted.A - lqr.A) / _length(lqr.A),
        "A + BK₀": _length(fitted.A + fitted.B @ first - loop) / _length(loop),
        "gradient": _length(_gradient(lqr, fitted, first) - slope) / _length(slope),
        "planned gain": _length(plan - best) / _length(best),
        "J above J*": np.where(known, cost / J - 1.0, np.inf),
    }
    return {name: np.where(np.isnan(v), np.inf, v) for name, v in off.items()}


def _gradient(lqr: LQR, models: LinearModel, K: Array) -> Array:
    """∇J(K) of many models at once; nan where K is not stable in one."""
    A, B, gamma = models.A, models.B, lqr.gamma
    source = lqr.X0 + gamma / (1.0 - gamma) * models.W
    F, stage = A + B @ K, lqr.Q + K.T @ lqr.R @ K
    X, P = lyapunov.both(np.sqrt(gamma) * F, source, stage)
    return 2.0 * (lqr.R @ K + gamma * B.mT @ P @ F) @ X


def _law(lqr: LQR, first: Array, shares: Sequence[float]) -> dict[str, Array]:
    """Medians [C, N] of errors that are as small and as Gaussian as with many data."""
    n, best = lqr.n, exact.optimal_gain(lqr)
    slope, gain = _slopes(lqr, first)
    C, X = rates.curvature(lqr, best), exact.state_moment(lqr, best)
    off: dict[str, list[Array]] = {name: [] for name in READINGS}
    for cov in COVS:
        moves = _moves(lqr, _gram(lqr, _gains(lqr, first, shares), cov))
        dK = np.einsum("spq,pqkl->skl", moves, gain)
        dg = np.einsum("spq,pqkl->skl", moves, slope)
        A, B = moves[..., :n], moves[..., n:]
        off["A"].append(_length(A) / _length(lqr.A))
        off["B"].append(_length(B) / _length(lqr.B))
        off["A + BK₀"].append(_length(A + B @ first) / _length(lqr.closed_loop(first)))
        off["gradient"].append(_length(dg) / _length(exact.gradient(lqr, first)))
        off["planned gain"].append(_length(dK) / _length(best))
        rise = np.einsum("sai,ij,sbj,ab->s", dK, X, dK, C)
        off["J above J*"].append(rise / float(exact.cost(lqr, best)))
    power = {name: -1.0 if name == "J above J*" else -0.5 for name in READINGS}
    return {
        name: np.multiply.outer(
            np.median(values, axis=-1), np.power(COUNTS, power[name])
        )
        for name, values in off.items()
    }


def _gram(lqr: LQR, K: Array, cov: float) -> Array:
    """Mean of Z'Z of one trajectory, whichever the gain that makes it."""
    undiscounted, n = replace(lqr, gamma=1.0), lqr.n
    stages = finite_horizon.constant(lqr, K, HORIZON)
    moments = finite_horizon.state_moments(undiscounted, stages, cov)
    S = moments[..., :HORIZON, :, :].sum(axis=-3)
    plane = np.concatenate([np.broadcast_to(np.eye(n), S.shape), K], axis=-2)
    gram: Array = (plane @ S @ plane.mT).mean(axis=0)
    gram[n:, n:] += HORIZON * cov * np.eye(lqr.m)
    return gram


def _moves(lqr: LQR, gram: Array) -> Array:
    """Draws of the error of (A, B) that one trajectory leaves, [draws, n, n+m]."""
    rng, half = np.random.default_rng(0), np.linalg.cholesky(np.linalg.inv(gram))
    normals = rng.standard_normal((_DRAWS, lqr.n, lqr.n + lqr.m))
    return np.asarray(root(lqr.W) @ normals @ half.T)


def _slopes(lqr: LQR, first: Array) -> tuple[Array, Array]:
    """How ∇J(K₀) and K* move with each entry of (A, B), [n, n+m, m, n]."""
    n, width = lqr.n, lqr.n + lqr.m
    steps = _STEP * np.eye(n * width).reshape(n, width, n, width)
    AB = np.hstack([lqr.A, lqr.B]) + np.stack([steps, -steps])
    moved = LinearModel(AB[..., :n], AB[..., n:], lqr.W, np.ones(AB.shape[:-2]))
    plan = ensemble.optimal_gain(lqr, ensemble.stack([moved])).K
    slope = _gradient(lqr, moved, first)
    return (slope[0] - slope[1]) / (2 * _STEP), (plan[0] - plan[1]) / (2 * _STEP)


def _length(matrices: Array) -> Array:
    return np.asarray(np.linalg.norm(matrices, axis=(-2, -1)))
