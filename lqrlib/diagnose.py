r"""What will work on your system: a diagnosis before any data are made.

Everything is computed from the world, the gain K that will make the data, its
covariance Σ, and the size of the data; nothing is drawn. The world must be the true
one, or stand for it: a fitted model gives the diagnosis of that model.
"""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, forecast, ladder, weight_moments
from lqrlib._validate import Array
from lqrlib.problem import LQR

# Who ends within 1 % of J* has arrived: what all of the book's records count.
WITHIN = 0.01
# `book/phases.md`: with fresh batches, sixty updates meet a negative curvature in a
# quarter of the runs from this relative error on; at .19 none of fifty left, at .49
# nearly nine in ten.
CURVATURE_ERROR = 0.38
# `book/diagnose.md`: from five effective rows for each unknown on medians are within a
# factor of two of the forecast; below .7 they are off by more than a hundred.
ROWS = 5.0
# Of |K*|: a gain that is nearer than this is K*, and its gradient rounding.
_ROUNDING = 1e-9

_NAMES = {"model": "fitted model", "dpg": "deterministic gradient with LSTDQ"}


class Costs(NamedTuple):
    """Where the data start from, and what there is to be won.

    Parameters
    ----------
    start : float
        J(K) of the gain without its noise.
    data : float
        J(K, Σ), what the noisy policy costs while it makes the data.
    optimum : float
        J*.
    distance : float
        |K* − K|, in the Frobenius norm.
    """

    start: float
    data: float
    optimum: float
    distance: float


class Weights(NamedTuple):
    """What importance weights of T steps can do on these data.

    Parameters
    ----------
    breakdown : float
        First share of the way from K to K* at which E[w²] is infinite; 0 where there
        is no density, inf if the whole ray has a second moment.
    critical_cov : float
        σ² from which on K* has one; inf if no σ² suffices.
    tail_index : float
        sup{q : E[w^q] < ∞} at K*; 1 where there is no density.
    error : float
        Standard error of the hack's first gradient with a time baseline, over the
        gradient; inf unless E[w²] is finite all the way to K*, and inf at K*, where
        the gradient is zero.
    """

    breakdown: float
    critical_cov: float
    tail_index: float
    error: float


class Excitation(NamedTuple):
    """How much the data move: S = Σ_t E[z_t z_t'] / T with z = (x, u).

    Parameters
    ----------
    smallest : float
        Smallest eigenvalue of S.
    condition : float
        Of S; inf where it is singular.
    given_state : float
        Smallest eigenvalue of Σ: what u does that x does not tell.
    identifiable : bool
        Whether (A, B) and the critic follow from enough such data.
    """

    smallest: float
    condition: float
    given_state: float
    identifiable: bool


class Forecast(NamedTuple):
    """Where an expression should end with n trajectories, to first order.

    Parameters
    ----------
    excess : float
        Median of J − J* over J*; inf where the data do not determine it.
    rows : float
        Effective rows (`forecast.effective_rows`) for each unknown that is fitted:
        n + m for a row of (A, B), (n + m)(n + m + 1)/2 + 1 for a critic. Below `ROWS`
        the forecast is too good.
    needed : float
        Trajectories for a median of `WITHIN`, and for `ROWS`.
    """

    excess: float
    rows: float
    needed: float

    @property
    def arrives(self) -> bool:
        """Whether the median should be within `WITHIN`, with rows enough to say so."""
        return self.excess <= WITHIN and self.rows >= ROWS


class Diagnosis(NamedTuple):
    """What n trajectories of N(Kx, Σ) are good for; `print` it for ten lines of words.

    Parameters
    ----------
    n : int
        Trajectories.
    costs : Costs
    weights : Weights
    excitation : Excitation
    model : Forecast
        Of the optimal gain of the fitted model.
    critic : Forecast
        Of damped policy iteration with LSTDQ, the deterministic gradient.
    curvature_error : float
        Largest relative standard deviation of a diagonal entry of Θ̂_uu at K*.
    """

    n: int
    costs: Costs
    weights: Weights
    excitation: Excitation
    model: Forecast
    critic: Forecast
    curvature_error: float

    @property
    def arrives(self) -> tuple[str, ...]:
        """Of "model" and "dpg", those that should end within `WITHIN`."""
        steady = self.curvature_error < CURVATURE_ERROR
        held = {"model": self.model.arrives, "dpg": self.critic.arrives and steady}
        return tuple(name for name, arrives in held.items() if arrives)

    @property
    def recommended(self) -> str:
        """The first of those; "none" if there is none.

        In a linear world with Gaussian noise least squares are the maximum-likelihood
        fit, so that to first order no critic is ahead of the plan.
        """
        return next(iter(self.arrives), "none")

    @property
    def without_model(self) -> str:
        """What to do where no model shall be fitted, "dpg" or "none"."""
        return "dpg" if "dpg" in self.arrives else "none"

    @property
    def reasons(self) -> tuple[str, ...]:
        """In words, with the numbers."""
        return (
            _of_excitation(self.excitation),
            _of_forecast("model", self.model, self.n),
            _of_forecast("dpg", self.critic, self.n),
            _of_curvature(self.curvature_error),
            _of_weights(self.weights),
        )

    def of(self, n: int) -> "Diagnosis":
        """The same for another number of trajectories: first order scales with it.

        Parameters
        ----------
        n : int

        Returns
        -------
        Diagnosis

        Raises
        ------
        ValueError
            If ``n`` is no number of trajectories.
        """
        share = self.n / _validate.count("n", n)
        model, critic = (
            part._replace(excess=share * part.excess, rows=part.rows / share)
            for part in (self.model, self.critic)
        )
        error, root = self.weights.error, np.sqrt(share)
        return self._replace(
            n=n,
            weights=self.weights._replace(error=float(root * error)),
            model=model,
            critic=critic,
            curvature_error=float(root * self.curvature_error),
        )

    def report(self) -> str:
        """The diagnosis in about ten lines.

        Returns
        -------
        str
        """
        costs = self.costs
        lines = [
            f"J(K) = {costs.start:.4g}, J* = {costs.optimum:.4g}, "
            f"|K* - K| = {costs.distance:.3g}; making the data costs {costs.data:.4g}",
            *self.reasons,
            f"recommended: {_NAMES.get(self.recommended, 'none yet')}; without a "
            f"model: {_NAMES.get(self.without_model, 'none yet')}",
        ]
        wrapped = (textwrap.fill(line, 78, subsequent_indent="  ") for line in lines)
        return "\n".join(wrapped)

    def __str__(self) -> str:
        return self.report()


def diagnose(
    lqr: LQR, K: ArrayLike, cov: ArrayLike | None, horizon: int, n: int
) -> Diagnosis:
    """What n trajectories of N(Kx, Σ) are good for.

    Parameters
    ----------
    lqr : LQR
        The true world, or what stands for it.
    K : array, shape [m, n]
        Makes the data, and is the first gain to be improved. Stable,
        √γ ρ(A + BK) < 1.
    cov : float or array, shape [m, m]
        Its covariance Σ; 0 or None: deterministic.
    horizon : int
        T, steps of a trajectory.
    n : int
        Trajectories.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        If K is not stable, γ is 1, no gain is stable, J* is 0, or an argument has a
        wrong shape or entry.

    Notes
    -----
    Nearly all of the time goes into the weights, whose moments are a recursion over
    the steps, and grows with T.
    """
    return diagnoses(lqr, K, [cov], horizon, n)[0]


@_validate.within_floats("K")
def diagnoses(
    lqr: LQR, K: ArrayLike, covs: Sequence[ArrayLike | None], horizon: int, n: int
) -> tuple[Diagnosis, ...]:
    """`diagnose` for several covariances, the moments of their weights side by side.

    Parameters
    ----------
    lqr : LQR
    K : array, shape [m, n]
    covs : sequence of float, or of array, shape [m, m]
        Each as for `diagnose`.
    horizon : int
    n : int

    Returns
    -------
    tuple of Diagnosis
        One for each covariance.

    Raises
    ------
    ValueError
        As `diagnose`, or if there is no covariance.
    """
    _validate.instance("lqr", lqr, LQR)
    size = _validate.count("n", n)
    starts = [_start(lqr, K, cov) for cov in _validate.sequence("covs", covs)]
    T = _validate.count("horizon", horizon)
    gain, every = starts[0][0], np.stack([Sigma for _, Sigma in starts])
    weights = _weights(lqr, gain, every, T)
    return tuple(
        _diagnosis(lqr, gain, Sigma, T, weight).of(size)
        for Sigma, weight in zip(every, weights, strict=True)
    )


def _diagnosis(
    lqr: LQR, gain: Array, Sigma: Array, T: int, weights: Weights
) -> Diagnosis:
    """Of one trajectory, whose weights are known."""
    costs, excitation = _costs(lqr, gain, Sigma), _excitation(lqr, gain, Sigma, T)
    if costs.optimum <= 0.0:
        raise _validate.error("lqr", "J* > 0, to be compared with", costs.optimum)
    law = forecast.critic_law(lqr, gain, Sigma, T)
    effective, p = forecast.effective_rows(lqr, gain, Sigma, T), lqr.n + lqr.m
    model = _forecast(lqr, forecast.model_law(lqr, gain, Sigma, T), effective / p)
    critic = _forecast(lqr, law.gain, effective / (p * (p + 1) // 2 + 1))
    return Diagnosis(1, costs, weights, excitation, model, critic, law.curvature)


def _start(lqr: LQR, K: ArrayLike, cov: ArrayLike | None) -> tuple[Array, Array]:
    gain = _validate.matrix("K", K, (lqr.m, lqr.n))
    Sigma = _validate.covariance("cov", cov, lqr.m)
    if Sigma.ndim > 2:
        raise _validate.error("cov", "one covariance", f"shape {Sigma.shape}")
    if lqr.gamma == 1.0:
        raise _validate.error("gamma", "below 1, for a finite value", lqr.gamma)
    if not exact.is_stable(lqr, gain):
        raise _validate.error("K", "a gain with √γ ρ(A + BK) < 1", gain)
    return gain, Sigma


def _costs(lqr: LQR, K: Array, Sigma: Array) -> Costs:
    best = exact.optimal_gain(lqr)
    return Costs(
        float(exact.cost(lqr, K)),
        float(exact.cost(lqr, K, Sigma)),
        float(exact.cost(lqr, best)),
        float(np.linalg.norm(best - K)),
    )


def _excitation(lqr: LQR, K: Array, Sigma: Array, T: int) -> Excitation:
    S = forecast.step_moments(lqr, K, Sigma, T).mean(axis=0)
    values = np.linalg.eigvalsh(S)
    known = forecast.identifiable(lqr, K, Sigma, T)
    return Excitation(
        float(max(values[0], 0.0)),
        float(values[-1] / values[0]) if known else np.inf,
        float(max(np.linalg.eigvalsh(Sigma)[0], 0.0)),
        known,
    )


def _weights(lqr: LQR, K: Array, Sigma: Array, T: int) -> list[Weights]:
    """For each covariance of [C, m, m]."""
    best = exact.optimal_gain(lqr)
    critical = float(weight_moments.critical_covariance(lqr, best, K, T))
    end, alpha = np.zeros(len(Sigma)), np.ones(len(Sigma))
    error = np.full(len(Sigma), np.inf)
    dense = np.linalg.eigvalsh(Sigma)[:, 0] > 0.0
    if dense.any():
        end[dense] = weight_moments.breakdown(lqr, K, best - K, Sigma[dense], T)
        alpha[dense] = weight_moments.tail_index(lqr, best, K, Sigma[dense], T)
    far = np.linalg.norm(best - K) > _ROUNDING * np.linalg.norm(best)
    known = (end > 1.0) & far
    if known.any():
        some = Sigma[known]
        noise = ladder.spread(lqr, K, K, some, T, "time baseline").deviation
        slopes = exact.gradient(lqr, np.broadcast_to(K, (len(some), *K.shape)), some)
        error[known] = noise / np.linalg.norm(slopes, axis=(-2, -1))
    return [
        Weights(float(e), critical, float(a), float(relative))
        for e, a, relative in zip(end, alpha, error, strict=True)
    ]


def _forecast(lqr: LQR, law: Array, rows: float) -> Forecast:
    """Of one trajectory, with its effective rows for each unknown."""
    optimum = float(exact.cost(lqr, exact.optimal_gain(lqr)))
    excess = forecast.median_rise(lqr, law) / optimum
    least = ROWS / rows if rows > 0.0 else np.inf
    return Forecast(excess, rows, max(excess / WITHIN, least))


def _of_excitation(found: Excitation) -> str:
    if found.identifiable:
        return (
            f"excitation: the data determine (A, B); smallest eigenvalue of E[zz'] "
            f"{found.smallest:.2g}, condition {found.condition:.2g}"
        )
    cure = "give every action noise, or mix the data of several gains"
    if found.given_state > 0.0:
        cure = (
            "the states do not move in all directions, or the noise is lost in "
            "rounding beside them"
        )
    return f"excitation: not identifiable from one such policy: {cure}"


def _of_forecast(name: str, found: Forecast, size: int) -> str:
    if not np.isfinite(found.excess):
        return f"{_NAMES[name]}: no number of trajectories determines it"
    words = f"median {_percent(found.excess)} above J*"
    if found.rows < ROWS:
        words += f" if {found.rows:.2g} effective rows per unknown were enough"
    return (
        f"{_NAMES[name]}: {words}; number of trajectories for {_percent(WITHIN)}: "
        f"{np.ceil(found.needed):,.0f}; {size:,}: "
        f"{'enough' if found.arrives else 'too few'}"
    )


def _percent(share: float) -> str:
    """Two digits, and no exponent."""
    if share < 1e-6:
        return "less than 0.0001%" if share > 0.0 else "0%"
    if share > 10.0:
        return "more than 1,000%"
    return f"{100 * share:.2g}%" if share < 0.995 else f"{100 * share:,.0f}%"


def _of_curvature(error: float) -> str:
    if not np.isfinite(error):
        return "critic's curvature: unknown"
    verdict = "are" if error < CURVATURE_ERROR else "are not"
    return (
        f"critic's curvature: uncertain by {_percent(error)}; batches of this size, "
        f"drawn anew at each update, {verdict} enough for half Gauss-Newton steps "
        f"(limit {_percent(CURVATURE_ERROR)})"
    )


def _of_weights(found: Weights) -> str:
    if found.breakdown == 0.0:
        return "hack: an action without noise has no density, hence no weights"
    if found.breakdown <= 1.0:
        reach = f"from covariance {found.critical_cov:.3g} on"
        if not np.isfinite(found.critical_cov):
            reach = "at no covariance"
        return (
            f"hack: no second moment beyond {_percent(found.breakdown)} of the way "
            f"to K*, where the tail index is {found.tail_index:.2f}; K* is in reach "
            f"{reach}"
        )
    if not np.isfinite(found.error):
        return "hack: its first gradient is zero, since this gain is K*"
    return (
        f"hack: a second moment all the way to K*, as at every covariance above "
        f"{found.critical_cov:.3g}; its first gradient is uncertain by "
        f"{_percent(found.error)}"
    )
