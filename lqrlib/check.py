"""A check for a gradient function of your own: whether its mean is the exact value.

One estimate tells little. From 200 trajectories of the double integrator (σ² = 0.4, 50
steps) the standard error of a weighted gradient is two to four times the gradient. So
the check asks for many estimates, and takes out what chance did to each data set: they
are regressed on estimates of this library from the same data, whose exact means are
known. The intercept estimates the function's mean, and its error holds only the luck
that the library's estimates do not share.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lqrlib import _validate, exact, finite_horizon, lyapunov
from lqrlib._validate import Array
from lqrlib._weighted import discounts, to_go, weighted
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, draw_each, rollout
from lqrlib.weight_moments import breakdown, second_moment
from lqrlib.weights import residual

TARGETS = {
    "gaussian": "2 Σ_t E_t X_t, the gradient of the cost of T steps of N(Kx, Σ)",
    "deterministic": "2 E_K X_K, the gradient of the cost of u = Kx",
    "dpg": "2 E_K X_b, with the discounted second moment X_b of the data's states",
    "natural": "2 E_K, the natural gradient",
    "gauss_newton": "(R + γB'PB)⁻¹ E_K, the step of policy iteration",
}
PLACES = ("on_policy", "elsewhere", "optimum", "off_policy")

_OF_A_GAIN = {
    "deterministic": exact.gradient,
    "natural": exact.natural_gradient,
    "gauss_newton": exact.gauss_newton,
}
_FEWEST = 15  # data sets: a regression takes up to nine of them
_ROUNDING = 1e-9  # relative to the largest exact value: no standard error is smaller
_TINY = np.finfo(np.float64).tiny


class Comparison(NamedTuple):
    """A mean over data sets, and the exact value that it should have.

    Parameters
    ----------
    mean : array, shape [...]
        Without the luck that the library's estimates share.
    standard_error : array, shape [...]
        Of that mean.
    exact : array, shape [...]
    size : float
        What the tolerance is a share of.
    """

    mean: Array
    standard_error: Array
    exact: Array
    size: float

    @property
    def z(self) -> Array:
        """(mean − exact) / standard error, shape [...]."""
        return (self.mean - self.exact) / self.standard_error


@dataclass(frozen=True, eq=False)
class GradientReport:
    """What `check_gradient` found; ``print`` shows it with the verdict in words.

    Parameters
    ----------
    target : str
        What the exact values are, one of those of `check_gradient`.
    K : array, shape [4, m, n]
        The gains, in the order of `PLACES`.
    on_policy : Comparison
        Of gradients [m, n] at K_b, from its own data.
    elsewhere : Comparison
        At a gain near K*, from its own data.
    optimum : Comparison
        At K*, from its own data. The gradient of T steps is small there, not zero.
    off_policy : Comparison
        At a gain near K_b, from data of K_b.
    slope : Comparison
        Least squares through 0 of the means on the exact values, over all entries at
        the three gains with data of their own; should be 1.
    mean_weight : Comparison
        Of whole trajectories of K_b, for the gain near K_b; should be 1. It says
        nothing about the function, but whether such data can judge it.
    cosine : float
        Between means and exact values at the three gains with data of their own.
    second_moment : float
        E[w²] of these weights, exactly.
    threshold : float
        How many standard errors pass.
    tolerance : float
        Which share of ``size`` passes on top of that.
    failed : tuple of str
        Names of the comparisons that differ by more; ``mean_weight`` for the target
        ``"gaussian"`` only, and also if there is no second moment.
    reason : str
        The verdict in words.
    """

    target: str
    K: Array
    on_policy: Comparison
    elsewhere: Comparison
    optimum: Comparison
    off_policy: Comparison
    slope: Comparison
    mean_weight: Comparison
    cosine: float
    second_moment: float
    threshold: float
    tolerance: float
    failed: tuple[str, ...]
    reason: str

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def __str__(self) -> str:
        lines = [
            f"{'passed' if self.passed else 'FAILED'}: {self.reason}",
            f"compared with {TARGETS[self.target]}",
            f"slope {self.slope.mean:.3f}, cosine {self.cosine:.3f}",
        ]
        for name in (*PLACES, "slope", "mean_weight"):
            mean, error, exact, size = getattr(self, name)
            off, error = (np.abs(x).max() / size for x in (mean - exact, error))
            mark = "FAILED" if name in self.failed else "ok"
            lines.append(
                f"  {name:12}{mark:7}off by {off:.1%}, standard error {error:.1%}"
            )
        return "\n".join(lines)


def check_gradient(
    gradient: Callable[..., Any],
    lqr: LQR,
    K_behaviour: ArrayLike,
    *,
    rng: np.random.Generator,
    cov: ArrayLike = 0.4,
    target: str = "gaussian",
    n_trajectories: int = 200,
    horizon: int = 50,
    data_sets: int = 30,
    reach: float = 0.25,
    tolerance: float = 0.02,
    level: float = 0.01,
) -> GradientReport:
    """Compare the mean of a gradient function with exact values, at four gains.

    The function is called as ``gradient(lqr, data, K, cov=cov)`` with fresh data each
    time. The gains are K_b, one near K*, and K*, each with data of its own policy
    N(Kx, Σ); and one near K_b, with data of K_b. What is near lies in a random
    direction, so that no symmetry of the first gain hides a mistake.

    Parameters
    ----------
    gradient : callable
        (lqr, data, K, cov=cov) → array [m, n] or a `GradientEstimate`; data are
        `lqrlib.rollout.Trajectories`.
    lqr : LQR
    K_behaviour : array, shape [m, n]
        K_b.
    rng : numpy.random.Generator
    cov : float or array, shape [m, m]
        Σ ≻ 0, handed on as it is. With 1 a forgotten Σ⁻¹ changes nothing.
    target : str
        Which exact value the function is to have for its mean: ``"gaussian"``,
        ``"deterministic"``, ``"dpg"``, ``"natural"`` or ``"gauss_newton"``.
    n_trajectories : int
        N of each data set.
    horizon : int
        T of each trajectory.
    data_sets : int
        How many at each gain, at least 15.
    reach : float
        Distance of the last gain from K_b, as a share of the distance at which the
        weights lose their second moment. For targets without weights it may be above 1.
    tolerance : float
        The difference that passes, as a share of the largest entry of the exact values.
        Learned critics, fitted baselines and normalised weights have a bias of order
        1/N; with more trajectories it goes away, and a mistake does not.
    level : float
        The probability that an unbiased function fails is at most this, as far as
        estimates from N trajectories are normally distributed.

    Returns
    -------
    GradientReport

    Raises
    ------
    ValueError
        If an argument has a wrong shape, type or entry; if the function returns
        anything but real [m, n]; if an exact value is not finite, as for the gradient
        without end of an unstable gain.

    Notes
    -----
    Regression on quantities of known mean is the method of control variates: Owen
    (2013), "Monte Carlo theory, methods and examples", ch. 8. The level is shared out
    among all comparisons by Bonferroni's inequality.
    """
    _validate.instance("lqr", lqr, LQR)
    _validate.function("gradient", gradient)
    target = _validate.choice("target", target, TARGETS)
    N = _validate.count("n_trajectories", n_trajectories)
    T = _validate.count("horizon", horizon)
    if _validate.count("data_sets", data_sets) < _FEWEST:
        raise _validate.error("data_sets", f"at least {_FEWEST}", data_sets)
    reach = _validate.above_zero("reach", reach)
    if _validate.number("tolerance", tolerance) < 0.0:
        raise _validate.error("tolerance", "a number of at least 0", tolerance)
    level = _validate.number("level", level)
    if not 0.0 < level < 1.0:
        raise _validate.error("level", "a number between 0 and 1", level)
    behaviour = _validate.matrix("K_behaviour", K_behaviour, (lqr.m, lqr.n))
    if _validate.covariance("cov", cov, lqr.m, strict=True).ndim > 2:
        raise _validate.error("cov", "one covariance", f"shape {np.shape(cov)}")
    rng = _validate.generator("rng", rng)
    with _validate.within_floats("K_behaviour"):
        K = _gains(lqr, behaviour, cov, T, reach, rng)
        task = _Task(lqr, cov, N, T, K, np.stack([*K[:3], behaviour]))
        exact_values = task.exact_values(target)
    if not np.isfinite(exact_values).all():
        wanted = "finite exact values there and nearby"
        raise _validate.error("K_behaviour", wanted, exact_values.min())
    with np.errstate(over="ignore", invalid="ignore"):
        found, known, weight = _sampled(task, gradient, data_sets, rng)
        with _validate.within_floats("K_behaviour"):
            compared = _compare(exact_values, found, known, weight)
        spare = data_sets - 1 - known.shape[-1]
        return _report(task, target, compared, spare, tolerance, level)


class _Task(NamedTuple):
    """What is asked, with gains in the order of `PLACES`."""

    lqr: LQR
    cov: Any  # as given, since the function under test may want a number
    n_trajectories: int
    horizon: int
    K: Array  # [4, m, n]
    made_by: Array  # [4, m, n], the gains that make the data

    def exact_values(self, target: str) -> Array:
        """Of a target at the four gains, [4, m, n]."""
        lqr, K = self.lqr, self.K
        if target == "gaussian":
            stages = finite_horizon.constant(lqr, K, self.horizon)
            return finite_horizon.gradient(lqr, stages, self.cov).sum(axis=-3)
        if target == "dpg":
            stages = finite_horizon.constant(lqr, self.made_by, self.horizon)
            X = finite_horizon.state_moments(lqr, stages, self.cov)[:, :-1].sum(axis=1)
            return exact.natural_gradient(lqr, K) @ X
        return _OF_A_GAIN[target](lqr, K)


def _gains(
    lqr: LQR, K_b: Array, cov: ArrayLike, T: int, reach: float, rng: np.random.Generator
) -> Array:
    """K_b; a gain near K*; K*; a gain within reach of the data of K_b."""
    away, near = rng.standard_normal((2, *K_b.shape))
    best = exact.optimal_gain(lqr)
    away *= np.linalg.norm(K_b - best) / np.linalg.norm(away)
    closer = best + 0.5 ** np.arange(1, 60)[:, None, None] * away
    # Well inside the stable set: at its border every estimate is poor.
    inside = _radius(lqr, closer) <= 0.5 + 0.5 * _radius(lqr, best)
    elsewhere = closer[np.argmax(inside)]
    edge = breakdown(lqr, K_b, near, cov, T)
    step = reach * np.where(np.isfinite(edge), edge, 1.0)
    return np.stack([K_b, elsewhere, best, K_b + step * near])


def _radius(lqr: LQR, K: Array) -> Array:
    return np.sqrt(lqr.gamma) * lyapunov.spectral_radius(lqr.closed_loop(K))


def _sampled(
    task: _Task, gradient: Callable[..., Any], D: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Estimates [D, 4, m, n]; the library's [D, 4, m, n, p]; mean weights [D, 4]."""
    lqr, cov, N, T, gains, made_by = task
    found = np.empty((D, *gains.shape))
    known, weight = np.empty((*found.shape, 4)), np.empty((D, 4))
    known_means = task.exact_values("gaussian")
    policy = GaussianPolicy(made_by, cov)
    policies = [GaussianPolicy(K, cov) for K in made_by]
    for d in range(D):  # the four places side by side
        x0, noise = draw_each(lqr, N, T, [rng] * 4)
        data = rollout(lqr, policy, N, T, rng, x0=x0, noise=noise)
        own, weight[d] = _own(lqr, data, gains, cov)
        known[d] = np.moveaxis(own, 0, -1)
        for i, K in enumerate(gains):
            parts = data.x[i], data.u[i], data.cost[i], data.diverged[i]
            alone = Trajectories(*parts, policies[i])
            found[d, i] = _as_matrix(gradient(lqr, alone, K.copy(), cov=cov), K.shape)
    known[..., :2] -= known_means[..., None]
    if lqr.m == lqr.n > 1:  # a transposed estimate shares the luck of other entries
        known = np.concatenate([known, known.swapaxes(2, 3)], axis=-1)
    return found, known, weight


def _own(lqr: LQR, data: Trajectories, K: Array, cov: ArrayLike) -> tuple[Array, Array]:
    """`per_decision_is` and `trajectory_is`, and the mean weight of whole trajectories.

    Both also for a cost that is always 1: what a constant baseline adds. In one pass,
    since the four [4, ..., m, n] share weights and scores, and no error is wanted.
    """
    policy, part, _ = weighted(lqr, data, K, cov)
    always = np.broadcast_to(discounts(lqr, data)[:, None], part.cost.shape)
    costs = np.stack([part.cost, always])
    last, returns = part.w[..., -1:, :], costs.sum(axis=-2, keepdims=True)
    whole = np.broadcast_to(last * returns, costs.shape)
    paid = np.concatenate([to_go(part.w * costs), whole])[[0, 2, 1, 3]]
    e = residual(policy.K[..., None], part.x, part.u)
    total = ((paid[..., None, :] * e) @ part.x.mT).sum(axis=-3) / e.shape[-1]
    return np.linalg.solve(policy.cov, total), last.mean(axis=(-2, -1))


def _as_matrix(found: Any, shape: tuple[int, ...]) -> Array:
    """What a function returned, as [m, n]; nan and inf are kept."""
    try:
        array = np.asarray(getattr(found, "gradient", found))
        what = f"shape {array.shape} of {array.dtype}"
    except ValueError:
        array, what = np.empty(0), "rows of unequal length"
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise _validate.error("gradient", f"a real array of shape {shape}", what)
    return array.astype(np.float64)


@np.errstate(over="ignore", invalid="ignore")
def _compare(
    exact_values: Array, found: Array, known: Array, weight: Array
) -> dict[str, Comparison]:
    own, size = exact_values[:3], float(np.abs(exact_values).max())

    def along(x: Array) -> Array:
        direction = own / np.maximum(np.square(own).sum(), _TINY)
        return np.einsum("kij,dkij...->d...", direction, x[:, :3])

    none, one = np.empty((len(weight), 0)), np.ones(())
    compared = {
        name: _comparison(found[:, i], known[:, i], exact_values[i], size)
        for i, name in enumerate(PLACES)
    }
    compared["slope"] = _comparison(along(found), along(known), one, 1.0)
    compared["mean_weight"] = _comparison(weight[:, 3], none, one, 1.0)
    return compared


def _comparison(samples: Array, known: Array, exact: Array, size: float) -> Comparison:
    """The intercept of samples [D, ...] on known [D, ..., p] of mean 0."""
    y, X = np.moveaxis(samples - exact, 0, -1)[..., None], np.moveaxis(known, 0, -2)
    X = X / np.maximum(np.abs(X).max(axis=-2, keepdims=True), _TINY)
    X = np.concatenate([np.ones_like(y), X], axis=-1)
    inverse = np.linalg.pinv(X, rcond=_ROUNDING)
    coefficients = inverse @ y
    D, p = X.shape[-2:]
    variance = np.square(y - X @ coefficients).sum(axis=(-2, -1)) / (D - p)
    error = np.sqrt(variance * np.square(inverse[..., 0, :]).sum(axis=-1))
    error = np.maximum(error, _ROUNDING * size + _TINY)
    return Comparison(exact + coefficients[..., 0, 0], error, exact, size)


def _passes(comparison: Comparison, threshold: float, tolerance: float) -> bool:
    mean, error, exact, size = comparison
    # False for nan.
    return bool((np.abs(mean - exact) <= threshold * error + tolerance * size).all())


def _report(
    task: _Task,
    target: str,
    compared: dict[str, Any],
    spare: int,
    tolerance: float,
    level: float,
) -> GradientReport:
    from scipy.special import stdtrit  # here, as SciPy is slow to import

    alone = level / sum(np.size(comparison.mean) for comparison in compared.values())
    threshold = float(stdtrit(spare, 1.0 - alone / 2.0))
    second = second_moment(task.lqr, task.K[3], task.made_by[3], task.cov, task.horizon)
    failed = tuple(
        name
        for name, comparison in compared.items()
        # Weights are no concern of the others, which may be asked further away.
        if (name != "mean_weight" or target == "gaussian")
        and (
            not _passes(comparison, threshold, tolerance)
            or (name == "mean_weight" and not np.isfinite(second))
        )
    )
    own = [compared[name] for name in PLACES[:3]]
    mean, values = (np.stack([c[i] for c in own]) for i in (0, 2))
    lengths = np.linalg.norm(mean) * np.linalg.norm(values)
    report = GradientReport(
        target=target,
        K=task.K,
        **compared,
        cosine=float((mean * values).sum() / np.maximum(lengths, _TINY)),
        second_moment=float(second),
        threshold=threshold,
        tolerance=tolerance,
        failed=failed,
        reason="",
    )
    return dataclasses.replace(report, reason=_reason(task, report))


def _reason(task: _Task, report: GradientReport) -> str:
    failed, slope = {*report.failed}, report.slope
    if not failed:
        known = report.threshold * slope.standard_error + report.tolerance
        return f"no difference found; the length is known to {known:.1%}"
    if not all(np.isfinite(getattr(report, name).mean).all() for name in PLACES):
        return "some estimates are nan or inf"
    if failed == {"off_policy"}:
        return "right on its own data; on another policy's: whose score, which weights?"
    if failed <= {"off_policy", "mean_weight"}:
        return "the data do not reach so far: their weights do not average 1"
    if _fits(report, np.zeros_like(task.exact_values(report.target))):
        return "the mean is zero: does an action change what its score is paid?"
    fits = [words for words, value in _suspects(task, report) if _fits(report, value)]
    if fits:
        return f"the mean agrees with {', or with '.join(fits)}"
    if _fits(report, slope.mean * task.exact_values(report.target)):
        return f"the right direction, {slope.mean:.3g} times as long"
    return f"another direction: the cosine is {report.cosine:.3f}"


def _fits(report: GradientReport, values: Array) -> bool:
    """Whether the means from their own data pass for other values."""
    own = (report.on_policy, report.elsewhere, report.optimum)
    return all(
        _passes(place._replace(exact=value), report.threshold, report.tolerance)
        for place, value in zip(own, values[:3], strict=True)
    )


def _suspects(task: _Task, report: GradientReport) -> Iterator[tuple[str, Array]]:
    """What common mistakes make of the exact values, [4, m, n]."""
    right = task.exact_values(report.target)
    Sigma = _validate.covariance("cov", task.cov, task.lqr.m)
    gamma, N, T = task.lqr.gamma, task.n_trajectories, task.horizon
    yield "minus the exact value", -right
    yield "half the exact value", 0.5 * right
    yield "twice the exact value", 2.0 * right
    yield "γ times the exact value: discounted once too often?", gamma * right
    yield "1 − γ times the exact value", (1.0 - gamma) * right
    yield "N times the exact value: a sum over trajectories?", N * right
    yield "1/T of the exact value: a mean over steps?", right / T
    yield "Σ times the exact value: a score without Σ⁻¹?", Sigma @ right
    root = np.linalg.cholesky(Sigma).T
    yield "σ times the exact value: σ for σ² in the score?", root @ right
    plain = task._replace(lqr=dataclasses.replace(task.lqr, gamma=1.0))
    yield "the gradient without discount", plain.exact_values("gaussian")
    for other in TARGETS:
        # Without discount the cost of a noisy world without end is no number.
        if other != report.target and (gamma < 1.0 or other != "deterministic"):
            yield f"the exact value for {other!r}", task.exact_values(other)
