"""Every expression of the book on the same data: where each one ends.

Those that use one batch are given the same one, of the seed. Those that need data of
their own policy divide the same number of real trajectories among their updates.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from lqrlib import _validate, critic, exact, gradients, importance, model
from lqrlib._validate import Array
from lqrlib.critic import Critic
from lqrlib.descent import descend, of_length
from lqrlib.policy import GaussianPolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, rollout, transitions
from lqrlib.studies.arrivals import policy_iteration
from lqrlib.studies.remedies import REMEDIES
from lqrlib.studies.runs import batch
from lqrlib.studies.setting import Setting, checked

# (share of the updates, length in fortieths of the way to K*). With about the shortest
# path by which the exact gradient arrives in all three worlds: on longer ones weights
# end worse, and what has arrived stays.
LENGTHS = ((0.5, 1.0), (0.2, 0.5), (0.15, 0.25), (0.15, 0.125))
UPDATES = 100
_HALF_STEPS = 40
_RADIUS = 0.1  # of a query, as a share of the way to K*


class Task(NamedTuple):
    """What every expression is given.

    Parameters
    ----------
    setting : Setting
    cov : float
        σ² of the data, and of every policy that draws actions.
    size : int
        N real trajectories.
    data : Trajectories
        N of N(K₀x, σ²I).
    rng : numpy.random.Generator
        For whatever is drawn besides.
    """

    setting: Setting
    cov: float
    size: int
    data: Trajectories
    rng: np.random.Generator


Direction = Callable[[Array], Array]
# From a task, the world that is run, a number of trajectories and a gain.
Estimate = Callable[[Task, LQR, int, Array], Array]


def normalised(
    setting: Setting,
    direction: Direction,
    updates: int = UPDATES,
    runs: int | None = None,
) -> Array:
    """Cost after steps along a direction, whose lengths do not depend on its size.

    Parameters
    ----------
    setting : Setting
    direction : callable
    updates : int
        U. Half of them have the length |K* − K₀|/40 · 100/U; then `LENGTHS`.
    runs : int, optional
        So many paths side by side: the direction is asked for all gains at once.

    Returns
    -------
    array, shape [] or [runs]
        inf where the path left the stable set.

    Raises
    ------
    ValueError
        As `lqrlib.descent.descend`, or as the direction does.
    """
    setting, updates = checked(setting), _validate.count("updates", updates)
    _validate.function("direction", direction)
    lead = () if runs is None else (_validate.count("runs", runs),)
    K = np.broadcast_to(setting.K0, (*lead, *setting.K0.shape))
    unit, done = setting.length * UPDATES / updates, 0.0
    for share, length in LENGTHS:
        n = round((done + share) * updates) - round(done * updates)
        done += share
        if n:
            rule = of_length(length * unit)
            K = descend(setting.lqr, K, direction, rule, updates=n).K[-1]
    return exact.cost(setting.lqr, K)


def _weights(name: str, task: Task) -> Array:
    """A likelihood ratio with importance weights, as `lqrlib.studies.remedy` has it."""
    estimate, lqr = REMEDIES[name].estimate, task.setting.lqr

    def direction(K: Array) -> Array:
        return estimate(lqr, task.data, K, cov=task.cov).gradient

    return normalised(task.setting, direction)


def _critic(
    direction: Callable[[Critic, Array, Array, Task], Array], task: Task
) -> Array:
    """Steps along what LSTDQ on the data says at the current gain."""
    lqr, x = task.setting.lqr, task.data.x[..., :-1, :].reshape(-1, task.setting.lqr.n)
    sums = critic.sums(lqr, transitions(task.data))

    def here(K: Array) -> Array:
        found = critic.solve(lqr, sums, K)
        return np.where(found.determined, direction(found, K, x, task), np.nan)

    return normalised(task.setting, here)


def _deterministic(found: Critic, K: Array, x: Array, task: Task) -> Array:  # noqa: ARG001
    return found.gain_error(K) @ (x.T @ x)


def _natural(found: Critic, K: Array, x: Array, task: Task) -> Array:  # noqa: ARG001
    return found.gain_error(K)


def _pathwise(found: Critic, K: Array, x: Array, task: Task) -> Array:
    m, n = K.shape
    e = np.sqrt(task.cov) * task.rng.standard_normal((len(x), m))
    return found.gain_error(K) @ (x.T @ x) + found.Theta[n:, n:] @ (e.T @ x)


def _policy_iteration(task: Task) -> Array:
    step = policy_iteration(task.setting, task.data)
    return _half_steps(task.setting, step)


def _half_steps(setting: Setting, step: Direction) -> Array:
    path = descend(setting.lqr, setting.K0, step, 0.5, updates=_HALF_STEPS)
    return np.asarray(path.cost[-1])


def _fitted(task: Task) -> LQR:
    return model.fit(transitions(task.data)).problem(task.setting.lqr)


def _model_gradient(task: Task) -> Array:
    return _half_steps(task.setting, partial(exact.gauss_newton, _fitted(task)))


def _planning(task: Task) -> Array:
    return exact.cost(task.setting.lqr, exact.optimal_gain(_fitted(task)))


def _ratio(task: Task, world: LQR, size: int, K: Array) -> Array:
    """The likelihood ratio on its own fresh rollouts: all weights are 1."""
    policy = GaussianPolicy(K, task.cov)
    data = rollout(world, policy, size, task.setting.horizon, task.rng)
    found = importance.per_decision_is(world, data, K, cov=task.cov, time_baseline=True)
    return found.gradient


def _two_point(task: Task, world: LQR, size: int, K: Array) -> Array:
    setting = task.setting
    found = gradients.zeroth_order(
        world,
        K,
        radius=_RADIUS * setting.distance,
        n_trajectories=size,
        horizon=setting.horizon,
        rng=task.rng,
        two_point=True,
    )
    return found.gradient


def _in_model(estimate: Estimate, task: Task) -> Array:
    """N rollouts of the fitted model at every update."""
    return normalised(task.setting, partial(estimate, task, _fitted(task), task.size))


def _fresh(estimate: Estimate, task: Task) -> Array:
    """N trajectories of the world in all, an even number at every update."""
    each = _at_a_time(task.size)
    direction = partial(estimate, task, task.setting.lqr, each)
    return normalised(task.setting, direction, task.size // each)


def _at_a_time(size: int) -> int:
    """An even number, so that there are at most `UPDATES` updates."""
    return 2 * -(-size // (2 * UPDATES))


METHODS: dict[str, Callable[[Task], Array]] = {
    "one weight a trajectory": partial(_weights, "as in the question"),
    "weight a cost, baseline": partial(_weights, "time baseline"),
    "self-normalised weights": partial(_weights, "self-normalised"),
    "per-step ratio": partial(_weights, "per-step ratio"),
    "PPO clipping": partial(_weights, "PPO clipping"),
    "doubly robust": partial(_weights, "doubly robust"),
    "deterministic gradient": partial(_critic, _deterministic),
    "natural gradient": partial(_critic, _natural),
    "pathwise gradient": partial(_critic, _pathwise),
    "policy iteration": _policy_iteration,
    "likelihood ratio in the model": partial(_in_model, _ratio),
    "two points in the model": partial(_in_model, _two_point),
    "model gradient": _model_gradient,
    "planning": _planning,
    "likelihood ratio, fresh data": partial(_fresh, _ratio),
    "two points, fresh data": partial(_fresh, _two_point),
}

# What they ask for: a density of the behaviour, nothing but steps, a form of the
# dynamics, new data of each policy.
FAMILIES = {
    "weights": tuple(METHODS)[:6],
    "critic": tuple(METHODS)[6:10],
    "model": tuple(METHODS)[10:14],
    "fresh data": tuple(METHODS)[14:],
}
_HALVED = ("policy iteration", "model gradient")


def updates(method: str, size: int) -> int:
    """How many updates a method makes.

    Parameters
    ----------
    method : str
        A name of `METHODS`.
    size : int
        N, at least 2.

    Returns
    -------
    int
        1 for planning, which solves once.

    Raises
    ------
    ValueError
        If there is no such method, or too few trajectories.
    """
    _check(method, size)
    if method in FAMILIES["fresh data"]:
        return size // _at_a_time(size)
    return {"planning": 1}.get(method, _HALF_STEPS if method in _HALVED else UPDATES)


def ending(setting: Setting, method: str, cov: float, size: int, seed: int) -> Array:
    """Where one expression ends with N real trajectories.

    Parameters
    ----------
    setting : Setting
    method : str
        A name of `METHODS`.
    cov : float
        σ² of the data, and of every policy that draws actions.
    size : int
        N, at least 2.
    seed : int

    Returns
    -------
    array, shape []
        Exact cost of the last gain without noise; inf where the path left the stable
        set, or the gain that was planned is not stable.

    Raises
    ------
    ValueError
        If there is no such method, or an argument is out of its range.
    """
    _check(method, size)
    setting = checked(setting)
    data = batch(setting, cov, size, seed)
    rng = np.random.default_rng([seed, size, 2])
    return METHODS[method](Task(setting, cov, size, data, rng))


def _check(method: str, size: int) -> None:
    _validate.choice("method", method, METHODS)
    if _validate.count("size", size) < 2:
        raise _validate.error("size", "at least 2", size)
