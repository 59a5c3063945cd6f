r"""Policy gradients from data and from queries: the sampled expressions.

Likelihood-ratio estimates ("the Gaussian hack", `lqrlib.importance`; what mends it,
`lqrlib.remedies`) speak of the Gaussian policy N(Kx, Σ) and of T steps. The
deterministic policy gradient speaks of u = Kx, with a critic. In both the data may come
from other policies. Zeroth-order estimates need no data: they query perturbed gains, in
a world or a model.
"""

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, finite_horizon
from lqrlib._queries import Perturbation, Queries, costs, pushes
from lqrlib._validate import Array
from lqrlib._weighted import discounts
from lqrlib.critic import Critic, fitting, linearised, required
from lqrlib.estimate import GradientEstimate, mean_and_error
from lqrlib.importance import (
    clipped_is,
    mixture_is,
    per_decision_is,
    self_normalised_is,
    trajectory_is,
)
from lqrlib.problem import LQR
from lqrlib.remedies import actor_critic_is, doubly_robust_is, per_step_is, ppo_is
from lqrlib.rollout import Trajectories, checked

__all__ = [
    "GradientEstimate",
    "actor_critic_is",
    "clipped_is",
    "doubly_robust_is",
    "dpg",
    "gauss_newton_dpg",
    "mixture_is",
    "natural_dpg",
    "per_decision_is",
    "per_step_is",
    "ppo_is",
    "self_normalised_is",
    "trajectory_is",
    "zeroth_order",
    "zeroth_order_stages",
]

_overflow_is_data = np.errstate(over="ignore", invalid="ignore")


@_overflow_is_data
def dpg(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike | None = None,  # noqa: ARG001
    critic: Critic | None = None,
) -> GradientEstimate:
    """2 Ê_K X̂_β: the off-policy deterministic policy gradient, without weights.

    Ê_K = Θ̂_uu K + Θ̂_ux, and X̂_β is the discounted second moment of the data's states.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by any policies.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m], optional
        Accepted and not used, so that expressions are alike: this is about u = Kx.
    critic : Critic, optional
        Taken as known; by default LSTDQ on the same data, whose error is counted.

    Returns
    -------
    GradientEstimate

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data do not determine Θ.

    Notes
    -----
    Silver et al. (2014), eq. (15), over the states of T steps.
    """
    gain, data = _asked(lqr, data, K)
    known, spread = _critic(lqr, data, gain, critic)
    E, moved = known.gain_error(gain), _gain_error(spread, gain)
    x = data.x[..., :-1, :] * np.sqrt(discounts(lqr, data))[:, None]
    moments = x.mT @ x
    X = moments.mean(axis=-3)
    by_states = E[..., None, :, :] @ (moments - X[..., None, :, :])
    return _linear(2.0 * E @ X, 2.0 * (moved @ X[..., None, :, :] + by_states), data)


@_overflow_is_data
def natural_dpg(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike | None = None,  # noqa: ARG001
    critic: Critic | None = None,
) -> GradientEstimate:
    """2 Ê_K = 2 (Θ̂_uu K + Θ̂_ux): `dpg` with the state moment divided out.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by any policies.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m], optional
        Accepted and not used, so that expressions are alike: this is about u = Kx.
    critic : Critic, optional
        Taken as known; by default LSTDQ on the same data, whose error is counted.

    Returns
    -------
    GradientEstimate

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data do not determine Θ.

    Notes
    -----
    Silver et al. (2014): the natural step of a compatible critic.
    """
    gain, data = _asked(lqr, data, K)
    known, spread = _critic(lqr, data, gain, critic)
    moved = 2.0 * _gain_error(spread, gain)
    return _linear(2.0 * known.gain_error(gain), moved, data, sure=critic is not None)


@_overflow_is_data
def gauss_newton_dpg(
    lqr: LQR,
    data: Trajectories,
    K: ArrayLike,
    *,
    cov: ArrayLike | None = None,  # noqa: ARG001
    critic: Critic | None = None,
) -> GradientEstimate:
    """Θ̂_uu⁻¹ (Θ̂_uu K + Θ̂_ux): a full step along it is policy iteration.

    Parameters
    ----------
    lqr : LQR
        Gives γ and the sizes.
    data : Trajectories
        Made by any policies.
    K : array, shape [..., m, n]
    cov : float or array, shape [..., m, m], optional
        Accepted and not used, so that expressions are alike: this is about u = Kx.
    critic : Critic, optional
        Taken as known; by default LSTDQ on the same data, whose error is counted.

    Returns
    -------
    GradientEstimate

    Raises
    ------
    ValueError
        If an argument has a wrong shape or entry, or the data do not determine Θ.

    Notes
    -----
    K − η Θ̂_uu⁻¹Ê_K is damped least-squares policy iteration: Bradtke (1993); Lagoudakis
    & Parr (2003), "Least-squares policy iteration".
    """
    gain, data = _asked(lqr, data, K)
    known, spread = _critic(lqr, data, gain, critic)
    step, curvature = known.gauss_newton(gain), known.Theta[..., lqr.n :, lqr.n :]
    # d(Θ_uu⁻¹ E_K) = Θ_uu⁻¹ (dΘ_uu (K − step) + dΘ_ux): an error at the improved gain.
    moved = _gain_error(spread, gain - step)
    moved = np.linalg.solve(curvature[..., None, :, :], moved)
    return _linear(step, moved, data, sure=critic is not None)


@_overflow_is_data
def zeroth_order(
    lqr: LQR,
    K: ArrayLike,
    *,
    radius: float,
    n_trajectories: int,
    horizon: int,
    rng: np.random.Generator,
    two_point: bool = False,
    x0: ArrayLike | None = None,
) -> GradientEstimate:
    """Mean of (D/r) c(K + rU) U; two-point: of (D/2r) (c(K + rU) − c(K − rU)) U.

    U is uniform on the unit sphere of the D = mn entries of a gain, and c the cost of
    one trajectory of T steps. The two costs of a pair share their start and noise.

    Parameters
    ----------
    lqr : LQR
        The world that is queried, or a fitted model (`LinearModel.problem`).
    K : array, shape [..., m, n]
    radius : float
        r > 0, the Frobenius length of a perturbation.
    n_trajectories : int
        In all; a pair counts twice, so that two points need an even number.
    horizon : int
        T.
    rng : numpy.random.Generator
    two_point : bool
    x0 : array, shape [..., M, n], optional
        Start of each of the M trajectories or pairs; drawn from N(0, X0) if not given.

    Returns
    -------
    GradientEstimate
        Its mean is the gradient of the cost of T steps averaged over the ball of radius
        r around K. nan where a trajectory left the floats.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or ``n_trajectories`` is odd.

    Notes
    -----
    Equations (one-point) and (two-point) of `book/finite_horizon.md`; Fazel et al.
    (2018), Algorithm 1; Malik et al. (2020).
    """
    _validate.instance("lqr", lqr, LQR)
    gain, T = lqr.gain(K), _validate.count("horizon", horizon)
    drawn = Queries.draw(gain.shape, radius, n_trajectories, rng, two_point)
    every = Perturbation(slice(None), drawn.signed())
    starts = drawn.starts(lqr, x0, rng)
    found = costs(
        lqr,
        np.broadcast_to(gain, (T, *gain.shape)),
        lambda t: every,  # noqa: ARG005
        np.zeros((lqr.n, lqr.n)),
        starts,
        pushes(lqr, starts, T, rng),
    )
    return _queried(drawn, found)


@_overflow_is_data
def zeroth_order_stages(
    lqr: LQR,
    K: ArrayLike,
    *,
    radius: float,
    n_trajectories: int,
    rng: np.random.Generator,
    terminal: ArrayLike | None = None,
    two_point: bool = False,
    x0: ArrayLike | None = None,
) -> GradientEstimate:
    """`zeroth_order` for each stage t on its own: trajectories that perturb K_t only.

    Parameters
    ----------
    lqr : LQR
        The world that is queried, or a fitted model (`LinearModel.problem`).
    K : array, shape [..., T, m, n]
    radius : float
        r > 0, the Frobenius length of a perturbation.
    n_trajectories : int
        For each stage, so T times as many in all; a pair counts twice.
    rng : numpy.random.Generator
    terminal : array, shape [n, n], optional
        Terminal cost ⪰ 0; zero if not given.
    two_point : bool
    x0 : array, shape [..., T, M, n], optional
        Start of each of the M trajectories or pairs of each stage; drawn from N(0, X0)
        if not given.

    Returns
    -------
    GradientEstimate
        Of the cost of `lqrlib.finite_horizon.cost`, shape [..., T, m, n].

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry, or ``n_trajectories`` is odd.

    Notes
    -----
    Hambly, Xu & Yang (2021), Algorithm 1, is the one-point form. A cost is quadratic in
    the gain of one stage, so that the mean is the exact gradient, whatever r.
    """
    gains = finite_horizon.stages(lqr, K)
    last = finite_horizon.terminal_cost(lqr, terminal)
    drawn = Queries.draw(gains.shape, radius, n_trajectories, rng, two_point)
    signed, T, M = drawn.signed(), gains.shape[-3], drawn.U.shape[-1]
    starts = drawn.starts(lqr, x0, rng)
    starts = starts.reshape(*starts.shape[:-3], T * M, lqr.n)
    found = costs(
        lqr,
        np.moveaxis(gains, -3, 0),
        lambda t: Perturbation(slice(t * M, (t + 1) * M), signed[..., t, :, :, :]),
        last,
        starts,
        pushes(lqr, starts, T, rng),
    )
    return _queried(drawn, found.reshape(*found.shape[:-1], T, M))


def _queried(asked: Queries, costs: Array) -> GradientEstimate:
    """The mean over directions, from costs [S, ..., M]."""
    terms = asked.terms(costs)
    size = np.full(terms.shape[:-3], float(asked.n_trajectories))
    return GradientEstimate(*mean_and_error(terms), size)


def _asked(lqr: LQR, data: Trajectories, K: ArrayLike) -> tuple[Array, Trajectories]:
    """The gains and the data, checked."""
    _validate.instance("lqr", lqr, LQR)
    gain, data = lqr.gain(K), checked("data", data, lqr)
    _validate.leading("K", gain, 2, data.cost.shape[:-2])
    return gain, data


def _critic(
    lqr: LQR, data: Trajectories, K: Array, critic: Critic | None
) -> tuple[Critic, Array]:
    """The critic, and how each trajectory moves it, [..., N, n+m, n+m]."""
    if critic is not None:
        known = fitting(lqr, critic, K)
        return known, np.zeros((1, *known.Theta.shape[-2:]))
    found, moved = linearised(lqr, data, K)
    return required(lqr, found), moved


def _gain_error(Theta: Array, K: Array) -> Array:
    """Θ_uu K + Θ_ux of one Θ for each trajectory, [..., N, m, n]."""
    n = K.shape[-1]
    return Theta[..., n:, n:] @ K[..., None, :, :] + Theta[..., n:, :n]


def _linear(
    gradient: Array, moved: Array, data: Trajectories, *, sure: bool = False
) -> GradientEstimate:
    """An estimate whose error is the mean over trajectories of ``moved``.

    One trajectory does not tell how others differ from it: its error is inf, unless the
    estimate is ``sure``, and takes nothing from the data.
    """
    N = data.cost.shape[-2]
    error = np.sqrt(np.square(moved).sum(axis=-3)) / N
    if N == 1 and not sure:
        error = np.full_like(error, np.inf)
    lost = ~np.isfinite(gradient)
    gradient, error = (np.where(lost, np.nan, part) for part in (gradient, error))
    return GradientEstimate(gradient, error, np.full(gradient.shape[:-2], float(N)))
