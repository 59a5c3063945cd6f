r"""Where runs on fixed data should end, from what earlier chapters know exactly.

*Critic.* Near K* the step of LSTDQ points to the gain where Ê vanishes. To first order
that gain is moved by three things, with shares r and 1 − r of the batch: the real
rows' own noise, the model's error (fitted to the same rows), and the noise of what
every update draws afresh. The first two last; the third is averaged by damped steps,
whose variance is η/(2 − η) of one draw's.

*Model.* The model's error alone.

*Hack.* Beyond the breakdown of their weights real rows drop out of the sum: what is
left is the gradient of (1 − r)N model rollouts. Steps of one length along a noisy
gradient get less far than they are long: by the mean cosine with the true one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, hyp1f1

from lqrlib import _validate, critic, exact, ladder, rates
from lqrlib._validate import Array
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import rollout
from lqrlib.studies.setting import Setting, checked

_FAR = 1e8  # of g over the noise: from here on the cosine is 1, to rounding
_TRAJECTORIES, _DRAWS, _STEP = 3000, 20_000, 1e-5


class CriticForecast(NamedTuple):
    """What first-order statistics say of damped policy iteration on a mixture.

    Parameters
    ----------
    excess : array, shape [R]
        Median of J − J* over J*.
    curvature_error : array, shape [R]
        Standard deviation, from update to update, of the critic's curvature in the
        first action, over its true value.
    """

    excess: Array
    curvature_error: Array


class _Rows(NamedTuple):
    """Of trajectories of N(Kx, Σ): what each leaves of LSTDQ's system at K*."""

    left: Array  # [N, d], b_i − A_i θ
    A: Array  # [d, d], mean over trajectories
    z: Array  # [N, T, n+m]
    noise: Array  # [N, T, n]


def critic_forecast(
    setting: Setting,
    cov: float,
    ratios: Sequence[float],
    *,
    size: int = 100,
    damping: float = 0.5,
) -> CriticForecast:
    """The end of ``"dpg"`` on fixed data, for shares of real rows.

    With A = r A_R + (1 − r) A_M, the batch's mean system, θ is moved by
    A⁻¹(r e_R + (1 − r) A_M dθ/d(A, B)[δA, δB]) for ever, and by A⁻¹ times the noise of
    one draw from update to update.

    Parameters
    ----------
    setting : Setting
    cov : float
        σ² of data and rollouts.
    ratios : sequence of float
    size : int
        N, of data and of a batch.
    damping : float
        η.

    Returns
    -------
    CriticForecast

    Raises
    ------
    ValueError
        If ``cov`` is not above 0, a ratio not in [0, 1], or ``size`` no number of
        trajectories.
    """
    setting, damping = checked(setting), _validate.above_zero("damping", damping)
    ratios = _validate.sequence("ratios", ratios)
    _check((cov,), ratios, size)
    real = _rows(setting, setting.K0, cov, 0)
    fresh = _rows(setting, exact.optimal_gain(setting.lqr), cov, 1)
    models = _model_moves(setting, real)
    excess, error = [], []
    for r in ratios:
        inverse = np.linalg.inv(r * real.A + (1.0 - r) * fresh.A).T
        lasting = (r * real.left + (1.0 - r) * models @ fresh.A.T) @ inverse
        drawn = [rows.left @ inverse for rows in (real, fresh)]
        shares = (r * (1.0 - r), 1.0 - r)  # which real rows, and the model's rows
        once = sum(
            share * _law(setting, part)
            for share, part in zip(shares, drawn, strict=True)
        )
        total = _law(setting, lasting) + damping / (2.0 - damping) * once
        excess.append(_median_rise(setting, total / size))
        spread = sum(
            share * _curvature(setting, part).var()
            for share, part in zip(shares, drawn, strict=True)
        )
        error.append(np.sqrt(spread / size))
    return CriticForecast(np.array(excess), np.array(error))


def model_forecast(setting: Setting, cov: float, *, size: int = 100) -> float:
    """Median of J − J* over J* for the optimal gain of the fitted model.

    Parameters
    ----------
    setting : Setting
    cov : float
    size : int
        N.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If ``cov`` is not above 0, or ``size`` no number of trajectories.
    """
    setting = checked(setting)
    _check((cov,), (), size)
    moves = _model_moves(setting, _rows(setting, setting.K0, cov, 0))
    return _median_rise(setting, _law(setting, moves) / size)


def hack_forecast(
    setting: Setting,
    covs: Sequence[float],
    ratios: Sequence[float],
    *,
    size: int = 100,
    updates: int = 60,
    length: float = 0.05,
) -> Array:
    """J − J* over J* at the end of ``"hack"``, as if only the model's rows counted.

    Each step goes ``length`` times the mean cosine along −∇J, by the exact spread of
    (1 − r)N trajectories with a time baseline, their model taken for the world.

    Parameters
    ----------
    setting : Setting
    covs, ratios : sequence of float
        Ratios below 1.
    size, updates : int
    length : float

    Returns
    -------
    array, shape [C, R]

    Raises
    ------
    ValueError
        If a covariance is not above 0, a ratio not in [0, 1), or ``size`` no number of
        trajectories.
    """
    setting, length = checked(setting), _validate.number("length", length)
    covs = _validate.sequence("covs", covs)
    ratios = _validate.sequence("ratios", ratios)
    _check(covs, ratios, size, most=np.nextafter(1.0, 0.0))
    lqr, T = setting.lqr, setting.horizon
    Sigma = np.multiply.outer(np.asarray(covs), np.eye(lqr.m))[:, None]
    rows = size * (1.0 - np.asarray(ratios))
    K = np.broadcast_to(setting.K0, (len(Sigma), len(rows), lqr.m, lqr.n))
    for _ in range(_validate.count("updates", updates)):
        gradient = exact.gradient(lqr, K, Sigma)
        size_of = np.linalg.norm(gradient, axis=(-2, -1))
        spread = ladder.spread(lqr, K, K, Sigma, T, "time baseline").deviation
        cosine = mean_cosine(size_of * np.sqrt(rows) / spread, lqr.n * lqr.m)
        K = K - (length * cosine / size_of)[..., None, None] * gradient
    return exact.cost(lqr, K) / setting.optimum - 1.0


def mean_cosine(ratio: Array, dimension: int) -> Array:
    """E cos∠(g + noise, g) for isotropic Gaussian noise.

    Γ((d+1)/2) / (√2 Γ(d/2+1)) x ₁F₁(½; d/2+1; −x²/2), x = |g| over the noise in each
    of the d directions.

    Parameters
    ----------
    ratio : array
        |g| over the root mean square length of the noise.
    dimension : int
        Of g, at least 1.

    Returns
    -------
    array
        In [0, 1].

    Raises
    ------
    ValueError
        If the ratio is not real, or the dimension no whole number of at least 1.
    """
    d = _validate.count("dimension", dimension)
    with np.errstate(over="ignore"):
        x = _validate.result("ratio", ratio) * np.sqrt(d)
    x = np.clip(x, -_FAR, _FAR)
    front = np.exp(gammaln((d + 1) / 2) - gammaln(d / 2 + 1)) / np.sqrt(2.0)
    found: Array = front * x * hyp1f1(0.5, d / 2 + 1, -0.5 * x * x)
    return found


def _check(
    covs: Sequence[float], ratios: Sequence[float], size: int, most: float = 1.0
) -> None:
    _validate.count("size", size)
    for cov in covs:
        if not _validate.number("cov", cov) > 0.0:
            raise _validate.error("cov", "a number above 0", cov)
    for ratio in ratios:
        if not 0.0 <= _validate.number("ratios", ratio) <= most:
            bracket = "]" if most == 1.0 else ")"
            raise _validate.error("ratios", f"numbers in [0, 1{bracket}", ratio)


def _rows(setting: Setting, K: Array, cov: float, seed: int) -> _Rows:
    lqr, best = setting.lqr, exact.optimal_gain(setting.lqr)
    rng = np.random.default_rng([seed, 99])
    policy = GaussianPolicy(K, cov)
    data = rollout(lqr, policy, _TRAJECTORIES, setting.horizon, rng)
    z = np.concatenate([data.x[:, :-1], data.u], axis=-1)
    every = np.ones(setting.horizon)
    each = critic.moments(z.mT, data.cost, data.x[:, 1:].mT, every)
    A = each.G - lqr.gamma * each.C @ critic.lift(best).T
    noise = data.x[:, 1:] - z @ np.hstack([lqr.A, lqr.B]).T
    return _Rows(each.b - A @ _theta(lqr, best), A.mean(axis=0), z, noise)


def _theta(lqr: LQR, K: Array) -> Array:
    """The entries of Θ on and above its diagonal, and the constant."""
    true = critic.exact_critic(lqr, K)
    return np.append(true.Theta[np.triu_indices(lqr.n + lqr.m)], true.const)


def _model_moves(setting: Setting, rows: _Rows) -> Array:
    """How each trajectory moves θ of the fitted model, [N, d]."""
    lqr, best = setting.lqr, exact.optimal_gain(setting.lqr)
    gram = np.einsum("itp,itq->pq", rows.z, rows.z) / len(rows.z)
    errors = np.einsum("itp,itq->ipq", rows.noise, rows.z) @ np.linalg.inv(gram)
    n, AB = lqr.n, np.hstack([lqr.A, lqr.B])
    slope = np.empty((*AB.shape, rows.left.shape[-1]))
    for at in np.ndindex(AB.shape):
        step = np.zeros(AB.shape)
        step[at] = _STEP
        up, down = (
            _theta(replace(lqr, A=M[:, :n], B=M[:, n:]), best)
            for M in (AB + step, AB - step)
        )
        slope[at] = (up - down) / (2.0 * _STEP)
    moves: Array = np.einsum("ipq,pqk->ik", errors, slope)
    W = np.einsum("itp,itq->ipq", rows.noise, rows.noise) / rows.z.shape[1] - lqr.W
    P = exact.value_matrix(lqr, best)
    moves[:, -1] += lqr.gamma / (1.0 - lqr.gamma) * np.einsum("pq,ipq->i", P, W)
    return moves


def _split(setting: Setting, moves: Array) -> tuple[Array, Array]:
    """δΘ_uu [N, m, m] and δΘ_ux [N, m, n] of δθ [N, d]."""
    n, width = setting.lqr.n, setting.lqr.n + setting.lqr.m
    Theta = np.empty((len(moves), width, width))
    i, j = np.triu_indices(width)
    Theta[:, i, j] = Theta[:, j, i] = moves[:, :-1]
    return Theta[:, n:, n:], Theta[:, n:, :n]


def _law(setting: Setting, moves: Array) -> Array:
    """Covariance of the gain that Θ̂ points to, one trajectory's share."""
    best = exact.optimal_gain(setting.lqr)
    uu, ux = _split(setting, moves)
    gains = np.linalg.solve(rates.curvature(setting.lqr, best), uu @ best + ux)
    return np.cov(gains.reshape(len(gains), -1).T)


def _curvature(setting: Setting, moves: Array) -> Array:
    """δΘ_uu of the first action over its true value, [N]."""
    true = rates.curvature(setting.lqr, exact.optimal_gain(setting.lqr))
    return _split(setting, moves)[0][:, 0, 0] / true[0, 0]


def _median_rise(setting: Setting, law: Array) -> float:
    """Median of tr(C* δ X* δ') over J* for gains off by δ ~ N(0, law)."""
    lqr, best = setting.lqr, exact.optimal_gain(setting.lqr)
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal(np.zeros(len(law)), law, _DRAWS)
    delta = draws.reshape(-1, lqr.m, lqr.n)
    C, X = rates.curvature(lqr, best), exact.state_moment(lqr, best)
    rise = np.einsum("sai,ij,sbj,ab->s", delta, X, delta, C)
    return float(np.median(rise)) / setting.optimum
