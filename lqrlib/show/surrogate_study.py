"""What one data set says that gains cost: four surrogates of the cost, and the cost."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, critic, exact, finite_horizon, importance
from lqrlib._validate import Array
from lqrlib.descent import descend, of_length
from lqrlib.model import fit
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, rollout, transitions

SURROGATES = {
    "trajectory": "weighted trajectories",
    "self-normalised": "self-normalised weights",
    "critic": "critic of each gain",
    "model": "fitted model",
    "true": "true cost",
}
COVS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
COUNTS = (100, 1000)
HORIZON = 60
_BLOCK = 16_000  # trajectories times gains in one computation, which stay in cache

Costs = Callable[[Array], Array]
Directions = Callable[[Array], Array]


class SurrogatePath(NamedTuple):
    """Where descent on a surrogate goes, what it claims on the way, and what is true.

    Parameters
    ----------
    K : array, shape [updates + 1, m, n]
        A path that leaves the stable set stays where it left.
    claim : array, shape [updates + 1]
    truth : array, shape [updates + 1]
        inf where the gain is unstable.
    """

    K: Array
    claim: Array
    truth: Array


class Surrogate(NamedTuple):
    """A claimed cost, a function of the gain, and the true one that it is to be.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
        The gain that made the data.
    claim : callable
        Gains [..., m, n] → costs [...]; inf where there is no claim of a cost.
    gradient : callable
        Gains [..., m, n] → directions [..., m, n] uphill of the claim.
    truth : callable
        Gains [..., m, n] → true costs [...] of the same kind; inf where unstable.
    """

    lqr: LQR
    K0: Array
    claim: Costs
    gradient: Directions
    truth: Costs

    @property
    def optimum(self) -> float:
        """The true cost of K*."""
        return float(self.truth(exact.optimal_gain(self.lqr)))

    def descend(self, *, updates: int = 60, length: float = 0.05) -> SurrogatePath:
        """Steps of one length down the claim, from K₀.

        Parameters
        ----------
        updates : int
        length : float

        Returns
        -------
        SurrogatePath

        Raises
        ------
        ValueError
            If an argument is not a number of its kind.
        """
        step = of_length(length)
        K = descend(self.lqr, self.K0, self.gradient, step, updates=updates).K
        return SurrogatePath(K, self.claim(K), self.truth(K))


def surrogate(
    lqr: LQR,
    K0: ArrayLike,
    *,
    cov: float,
    n_trajectories: float,
    which: str,
    seed: int = 0,
) -> Surrogate:
    """What N trajectories of N(K₀x, σ²I), 60 steps each, say that a gain costs.

    ``"trajectory"`` and ``"self-normalised"`` are the weightings of
    `importance.estimated_cost`. They claim the cost of 60 steps of N(Kx, σ²I), its
    noise included; the truth beside them is of the same kind. (Steps after the 60th
    would add a few per cent.)

    ``"critic"`` and ``"model"`` speak of u = Kx without noise and without a horizon.
    The critic is LSTDQ's of each gain: with Θ̂ from the same data, V̂(x) = x'P̂x + const
    for P̂ = [I K']Θ̂[I; K], averaged over X0. Where it is not plausible, there is no
    claim. The direction down it is that of its natural gradient, Ê_K. The model is
    fitted by least squares.

    ``"true"`` is the cost of N(Kx, σ²I) itself.

    Parameters
    ----------
    lqr : LQR
    K0 : array, shape [m, n]
        A stable gain.
    cov : float
        σ², above 0.
    n_trajectories : float
        N, rounded.
    which : str
        One of the five.
    seed : int
        Of the data. Starts and noise are the same for every covariance.

    Returns
    -------
    Surrogate

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, K0 is not one stable gain, or
        there is no such surrogate.
    """
    if not isinstance(which, str) or which not in SURROGATES:
        raise _validate.error("which", f"one of {[*SURROGATES]}", repr(which))
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise _validate.error("seed", "a whole number, at least 0", seed)
    N = round(_validate.number("n_trajectories", n_trajectories))
    first = _validate.stack("K0", K0, (lqr.m, lqr.n))
    if first.ndim > 2 or not exact.is_stable(lqr, first):
        raise _validate.error("K0", "one stable gain", K0)
    policy = GaussianPolicy(first, _validate.number("cov", cov))
    rng = np.random.default_rng(seed)
    data = rollout(lqr, policy, N, HORIZON, rng)
    if which in importance.WEIGHTINGS:
        return Surrogate(lqr, first, *_weighted(lqr, data, which, cov))
    made_of = {"critic": _critic, "model": _model}
    if which in made_of:
        return Surrogate(lqr, first, *made_of[which](lqr, data), _exact(lqr)[0])
    return Surrogate(lqr, first, *_exact(lqr, cov), _exact(lqr, cov)[0])


def _exact(lqr: LQR, cov: float = 0.0) -> tuple[Costs, Directions]:
    return (
        lambda K: exact.cost(lqr, K, cov),
        lambda K: exact.gradient(lqr, K, cov),
    )


def _weighted(
    lqr: LQR, data: Trajectories, weighting: str, cov: float
) -> tuple[Costs, Directions, Costs]:
    N, T = data.cost.shape

    def claim(K: Array) -> Array:
        rows = K.reshape(-1, *K.shape[-2:])
        parts = np.array_split(rows, len(rows) * N // _BLOCK + 1)
        found = [
            importance.estimated_cost(lqr, data, part, cov=cov, weighting=weighting)
            for part in parts
        ]
        return np.concatenate(found).reshape(K.shape[:-2])

    def gradient(K: Array) -> Array:
        if weighting == "trajectory":
            return importance.trajectory_is(lqr, data, K, cov=cov).gradient
        return importance.self_normalised_is(
            lqr, data, K, cov=cov, time_baseline=True
        ).gradient

    def truth(K: Array) -> Array:
        stages = finite_horizon.constant(lqr, K, T)
        total = finite_horizon.cost(lqr, stages, cov=cov)
        return np.where(exact.is_stable(lqr, K), total, np.inf)

    return claim, gradient, truth


def _critic(lqr: LQR, data: Trajectories) -> tuple[Costs, Directions]:
    collected = critic.sums(lqr, transitions(data))

    def claim(K: Array) -> Array:
        found = critic.solve(lqr, collected, K)
        eye = np.broadcast_to(np.eye(lqr.n), (*K.shape[:-2], lqr.n, lqr.n))
        lift = np.concatenate([eye, K], axis=-2)
        P = lift.mT @ found.Theta @ lift
        mean = np.trace(P @ lqr.X0, axis1=-2, axis2=-1) + found.const
        return np.where(found.plausible, mean, np.inf)

    return claim, lambda K: critic.solve(lqr, collected, K).gain_error(K)


def _model(lqr: LQR, data: Trajectories) -> tuple[Costs, Directions]:
    return _exact(fit(transitions(data)).problem(lqr))
