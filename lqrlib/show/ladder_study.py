"""The spread of every rung of the ladder over covariance and distance, computed."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, ladder, model
from lqrlib._validate import Array, Flags
from lqrlib._weighted import discounts
from lqrlib.critic import Critic, lstdq, of_gaussian
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.remedies import actor_critic_is
from lqrlib.rollout import Trajectories, rollout, transitions
from lqrlib.weights import breakdown

COVS = tuple(float(f"{10**e:.3g}") for e in np.arange(-3, 2.1, 0.5))
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9)
LEARNED = (
    "TD error",
    "advantage",
    "deterministic gradient",
    "natural gradient",
    "model gradient",
)
HORIZON, SIZE, DATA_SETS = 60, 200, 100
_NORMAL = 1.349  # between the quartiles of a normal law, in standard deviations


class LadderStudy(NamedTuple):
    """Standard deviations of one trajectory's estimate, over covariance and distance.

    Parameters
    ----------
    covs : tuple of float
        σ² of the data of K₀, and of the policy whose gradient is wanted.
    shares : tuple of float
        Where that policy's gain lies on the way from K₀ to K*.
    true : dict of str to array, shape [C, S]
        With true values, exactly; inf without a second moment.
    off : dict of str to array, shape [C, S]
        How far the exact mean is from ∇J(K, Σ).
    learned : dict of str to array, shape [C, S]
        With critics and models from 200 trajectories, times √200: the quartiles of 100
        data sets, in deviations of a normal law, good to about a tenth. inf where
        weights have no second moment. Of the natural gradient relative to 2E_K.
    walls : array, shape [C]
        The share of the way at which the weights lose their second moment.
    length : array, shape [C, S]
        |∇J(K, Σ)|, in which all but the natural gradient are measured.
    """

    covs: tuple[float, ...]
    shares: tuple[float, ...]
    true: dict[str, Array]
    off: dict[str, Array]
    learned: dict[str, Array]
    walls: Array
    length: Array


def ladder_study(
    lqr: LQR, K0: ArrayLike, *, executor: Executor | None = None
) -> LadderStudy:
    """Compute what `lqrlib.show.ladder_explorer` shows.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
        The gain of the policy that makes the data.
    executor : concurrent.futures.Executor, optional
        Where the data sets are worked on.

    Returns
    -------
    LadderStudy

    Raises
    ------
    ValueError
        If K0 is not one gain, is the optimal one, or a gain on the way is not stable.
    """
    first = _validate.matrix("K0", K0, (lqr.m, lqr.n))
    way = exact.optimal_gain(lqr) - first
    if np.allclose(way, 0.0):
        raise _validate.error("K0", "a gain other than the optimal one", K0)
    shares = np.array(SHARES)
    K = first + shares[:, None, None] * way
    cov = np.array(COVS)[:, None, None, None]
    slope = exact.gradient(lqr, K, cov)
    length = np.linalg.norm(slope, axis=(-2, -1))
    true, off = {}, {}
    for rung in ladder.RUNGS:
        found = ladder.spread(lqr, K, first, cov, HORIZON, rung)
        true[rung] = found.deviation / length
        off[rung] = np.linalg.norm(found.mean - slope, axis=(-2, -1)) / length
    walls = breakdown(lqr, first, way, cov[:, 0], HORIZON)
    each = map if executor is None else executor.map
    natural = np.linalg.norm(exact.natural_gradient(lqr, K), axis=(-2, -1))
    rows = [
        _learned(lqr, first, K, c, shares < wall, each)
        for c, wall in zip(COVS, walls, strict=True)
    ]
    learned = {
        name: np.stack([row[name] for row in rows])
        / (natural if name == "natural gradient" else length)
        for name in LEARNED
    }
    return LadderStudy(COVS, SHARES, true, off, learned, walls, length)


def _learned(
    lqr: LQR,
    first: Array,
    K: Array,
    cov: float,
    inside: Flags,
    each: Callable[..., Any],
) -> dict[str, Array]:
    """Spreads at the gains K, scaled to one trajectory."""
    sets = each(partial(_estimates, lqr, first, K, cov, inside), range(DATA_SETS))
    found = {name: np.stack(values) for name, values in _by_name(sets).items()}
    spreads = {}
    for name, values in found.items():
        low, high = np.quantile(values, (0.25, 0.75), axis=0)
        spread = np.sqrt(SIZE) * np.linalg.norm(high - low, axis=(-2, -1)) / _NORMAL
        weighted = name in ("TD error", "advantage")
        kept = inside if weighted else np.ones_like(inside)
        spreads[name] = np.where(kept & np.isfinite(spread), spread, np.inf)
    return spreads


def _by_name(sets: Iterable[dict[str, Array]]) -> dict[str, list[Array]]:
    together: dict[str, list[Array]] = {name: [] for name in LEARNED}
    for estimates in sets:
        for name, values in estimates.items():
            together[name].append(values)
    return together


@np.errstate(over="ignore", invalid="ignore")
def _estimates(
    lqr: LQR, first: Array, K: Array, cov: float, inside: Flags, seed: int
) -> dict[str, Array]:
    """Each learned rung's estimate at the gains K, from one data set.

    Those with weights only inside of the wall; beyond it they are not shown, and 0.
    """
    rng = np.random.default_rng([seed, SIZE])
    data = rollout(lqr, GaussianPolicy(first, cov), SIZE, HORIZON, rng)
    rows = transitions(data)
    found = lstdq(lqr, rows, K)
    Theta, const, rank, condition = of_gaussian(lqr, found, cov)
    own = Critic(Theta[inside], const[inside], rank[inside], condition[inside])
    weighted = {signal: np.zeros_like(K) for signal in ("TD error", "advantage")}
    for signal, values in weighted.items():
        near = actor_critic_is(lqr, data, K[inside], cov=cov, critic=own, signal=signal)
        values[inside] = near.gradient
    natural = 2.0 * found.gain_error(K)
    fitted = model.fit(rows).problem(lqr)
    return weighted | {
        "deterministic gradient": natural @ _moment(lqr, data),
        "natural gradient": natural,
        "model gradient": exact.gradient(fitted, K, cov),
    }


def _moment(lqr: LQR, data: Trajectories) -> Array:
    """The discounted second moment of the data's states."""
    x = data.x[:, :-1] * np.sqrt(discounts(lqr, data))[:, None]
    return np.asarray(np.einsum("itk,itl->kl", x, x) / len(x))
