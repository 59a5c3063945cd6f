"""One row for each public array argument: who takes it, and what is good or wrong.

All worlds here have three states and two actions, so that a transposed or confused
size cannot pass unseen.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from systems import gaussian_data, plain_world

from lqrlib import (
    GaussianPolicy,
    History,
    LinearModel,
    LinearPolicy,
    MBPOSettings,
    StagePolicy,
    ensemble,
    exact,
    finite_horizon,
    forecast,
    gradients,
    lyapunov,
    observed,
    rates,
    soft,
)
from lqrlib.check import check_gradient
from lqrlib.critic import exact_critic, linearised, lstdq, of_gaussian
from lqrlib.descent import (
    backtracking,
    backtracking_stages,
    descend,
    descend_stages,
)
from lqrlib.diagnose import diagnose, diagnoses
from lqrlib.envs import LQREnv, LQRVectorEnv
from lqrlib.importance import estimated_cost
from lqrlib.ladder import spread
from lqrlib.mbpo import mbpo
from lqrlib.model import fit, fit_ensemble, prediction_error
from lqrlib.rollout import Transitions, rollout, transitions
from lqrlib.studies.hack_paths import HackSettings, hack_path
from lqrlib.studies.queries import query_gradient
from lqrlib.weights import (
    breakdown,
    critical_covariance,
    effective_sample_size,
    log_moment,
    moment,
    second_moment,
    tail_index,
)

WORLD = plain_world()
GAIN = np.array([[0, -1, 0], [0, 0, -1]])  # A + BK = 0
STATES = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 0, 1]])
ACTIONS = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
COV = np.array([[2, 1], [1, 2]])
LOOP = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
STAGES = np.stack([GAIN, GAIN, GAIN, GAIN])
PATH, COSTS = np.ones((3, 2, 1, 2), int), np.array([[3, 3], [2, 2], [1, 2]])

WRONG_K = [(), (3,), (3, 2), (2, 2), (6,), (4, 3, 2)]
WRONG_STAGES = [(), (3,), (2, 3), (4, 3, 2), (4, 2, 2), (4, 6), (5, 4, 1, 3)]
WRONG_COV = [(2,), (3,), (1, 1), (3, 3), (2, 3), (4, 4)]
WRONG_SQUARE = [(), (3,), (2, 2), (3, 2), (3, 3, 1), (1, 3, 3)]
WRONG_ROWS = [(), (3,), (2,), (4, 1), (4, 4), (4, 3, 1)]


class Argument(NamedTuple):
    """A public argument: who takes it, a good value, and shapes that are wrong."""

    owner: str
    name: str
    call: Callable[[Any], Any]
    good: Any
    wrong_shapes: list[tuple[int, ...]]
    symmetric: bool = False
    strict: bool = False
    nonfinite: tuple[float, ...] = (np.nan, np.inf, -np.inf)


def stored(name):
    return lambda value: getattr(plain_world(**{name: value}), name)


def problem_arguments():
    for name in ("Q", "W", "X0"):
        good = getattr(WORLD, name)
        yield Argument("LQR", name, stored(name), good, WRONG_SQUARE, True)
    yield Argument("LQR", "A", stored("A"), WORLD.A, [(), (3,), (3, 2), (1, 3, 3)])
    yield Argument("LQR", "B", stored("B"), WORLD.B, [(), (3,), (2, 3), (1, 3, 2)])
    wrong = [(), (2,), (1, 1), (3, 3), (2, 3), (1, 2, 2)]
    yield Argument("LQR", "R", stored("R"), WORLD.R, wrong, True, True)
    yield Argument("LQR.gain", "K", WORLD.gain, GAIN, WRONG_K)
    yield Argument("LQR.closed_loop", "K", WORLD.closed_loop, GAIN, WRONG_K)


def exact_arguments():
    of_gain_and_cov = (
        exact.state_moment,
        exact.cost,
        exact.gradient,
        exact.evaluate,
        exact.average_cost,
    )
    of_gain = (
        exact.is_stable,
        exact.value_matrix,
        exact.q_matrix,
        exact.gain_error,
        exact.natural_gradient,
        exact.gauss_newton,
    )
    for function in of_gain + of_gain_and_cov:
        yield Argument(
            function.__name__, "K", lambda K, f=function: f(WORLD, K), GAIN, WRONG_K
        )
    for function in of_gain_and_cov:
        yield Argument(
            function.__name__,
            "cov",
            lambda cov, f=function: f(WORLD, GAIN, cov),
            COV,
            WRONG_COV,
            symmetric=True,
        )
    yield Argument(
        "moment_source",
        "cov",
        lambda cov: exact.moment_source(WORLD, cov),
        COV,
        WRONG_COV,
        symmetric=True,
    )


def finite_horizon_arguments():
    def constant(K):
        return finite_horizon.constant(WORLD, K, 4)

    def optimum(S):
        return finite_horizon.optimal_gains(WORLD, 4, terminal=S)

    def last(S):
        return finite_horizon.terminal_cost(WORLD, S)

    yield Argument("constant", "K", constant, GAIN, WRONG_K)
    for owner, call in (("optimal_gains", optimum), ("terminal_cost", last)):
        yield Argument(owner, "terminal", call, WORLD.W, WRONG_SQUARE, True)
    with_cov = ("state_moments", "cost", "gradient", "evaluate")
    with_terminal = ("value_matrices", "gain_errors", "cost", "gradient", "evaluate")
    for owner in ("stages", *dict.fromkeys(with_cov + with_terminal)):

        def call(K=STAGES, owner=owner, **given):
            return getattr(finite_horizon, owner)(WORLD, K, **given)

        yield Argument(owner, "K", call, STAGES, WRONG_STAGES)
        if owner in with_cov:
            yield Argument(
                owner, "cov", lambda cov, f=call: f(cov=cov), COV, WRONG_COV, True
            )
        if owner in with_terminal:
            yield Argument(
                owner,
                "terminal",
                lambda S, f=call: f(terminal=S),
                WORLD.W,
                WRONG_SQUARE,
                symmetric=True,
            )


def rates_arguments():
    def change(K=GAIN, other=GAIN, cov=COV):
        return rates.cost_change(WORLD, K, other, cov)

    def domination(K=GAIN, cov=COV):
        return rates.domination(WORLD, K, cov)

    def contraction(K=GAIN, cov=COV):
        return rates.contraction(WORLD, K, "gauss_newton", 0.5, cov)

    gains = {
        "cost_change": change,
        "domination": domination,
        "contraction": contraction,
        "curvature": lambda K: rates.curvature(WORLD, K),
    }
    for owner, call in gains.items():
        yield Argument(owner, "K", call, GAIN, WRONG_K)
    yield Argument("cost_change", "K_new", lambda K: change(other=K), GAIN, WRONG_K)
    covariances = {
        "cost_change": lambda cov: change(cov=cov),
        "domination": lambda cov: domination(cov=cov),
        "contraction": lambda cov: contraction(cov=cov),
    }
    for method in rates.METHODS:
        covariances |= {
            f"direction {method}": lambda v, f=method: rates.direction(WORLD, f, v)(
                GAIN
            ),
            f"step_limit {method}": lambda v, f=method: np.array(
                rates.step_limit(WORLD, f, v)
            ),
            f"local_rate {method}": lambda v, f=method: rates.local_rate(
                WORLD, f, 0.1, v
            ),
        }
    for owner, call in covariances.items():
        yield Argument(owner, "cov", call, COV, WRONG_COV, symmetric=True)
    yield Argument(
        "local_rate",
        "step",
        lambda step: rates.local_rate(WORLD, "gradient", step),
        np.array([[1, 2], [3, 4]]),
        [],
    )


def soft_arguments():
    of_gain_and_cov = {
        "soft.cost": lambda K=GAIN, cov=COV: soft.cost(WORLD, K, cov, 0.5),
        "action_value": lambda K=GAIN, cov=COV: (
            soft.action_value(WORLD, K, cov, 0.5).const
        ),
        "policy_iteration": lambda K=GAIN, cov=COV: (
            soft.policy_iteration(WORLD, K, cov, 0.5, 2).cov
        ),
        "soft.gradient": lambda K=GAIN, cov=COV: soft.gradient(WORLD, K, cov, 0.5).K,
        "fisher_gradient": lambda K=GAIN, cov=COV: (
            soft.fisher_gradient(WORLD, K, cov, 0.5).K
        ),
        "pathwise_spread": lambda K=GAIN, cov=COV: (
            soft.pathwise_spread(WORLD, K, GAIN, cov, 3).variance
        ),
    }
    for owner, call in of_gain_and_cov.items():
        strict = owner != "fisher_gradient"
        yield Argument(owner, "K", call, GAIN, WRONG_K)
        yield Argument(
            owner, "cov", lambda cov, f=call: f(cov=cov), COV, WRONG_COV, True, strict
        )
    yield Argument(
        "best_covariance",
        "K",
        lambda K: soft.best_covariance(WORLD, K, 0.5),
        GAIN,
        WRONG_K,
    )
    yield Argument(
        "pathwise_spread",
        "K_behaviour",
        lambda K: soft.pathwise_spread(WORLD, GAIN, K, COV, 3).variance,
        GAIN,
        WRONG_K,
    )
    yield Argument(
        "entropy", "cov", lambda cov: soft.entropy(cov, 2), COV, WRONG_COV, True, True
    )


def forecast_arguments():
    functions = {
        "step_moments": lambda K=GAIN, cov=COV: forecast.step_moments(WORLD, K, cov, 3),
        "identifiable": lambda K=GAIN, cov=COV: np.array(
            forecast.identifiable(WORLD, K, cov, 3)
        ),
        "effective_rows": lambda K=GAIN, cov=COV: np.array(
            forecast.effective_rows(WORLD, K, cov, 3)
        ),
        "model_law": lambda K=GAIN, cov=COV: forecast.model_law(WORLD, K, cov, 3),
        "critic_law": lambda K=GAIN, cov=COV: (
            forecast.critic_law(WORLD, K, cov, 3).gain
        ),
        "diagnose": lambda K=GAIN, cov=COV: np.array(
            diagnose(WORLD, K, cov, 3, 10).model.excess
        ),
    }
    for owner, call in functions.items():
        yield Argument(owner, "K", call, GAIN, WRONG_K)
        yield Argument(
            owner, "cov", lambda cov, f=call: f(cov=cov), COV, WRONG_COV, True
        )


def policy_arguments():
    line, cloud = LinearPolicy(GAIN), GaussianPolicy(GAIN, COV)
    for name, build in {
        "LinearPolicy": lambda K: LinearPolicy(K).K,
        "GaussianPolicy": lambda K: GaussianPolicy(K, 1.0).K,
    }.items():
        yield Argument(name, "K", build, GAIN, [(), (3,)])
    wrong = [(), (3,), (2, 3)]
    yield Argument("StagePolicy", "K", lambda K: StagePolicy(K).K, STAGES, wrong)
    yield Argument(
        "GaussianPolicy",
        "cov",
        lambda cov: GaussianPolicy(GAIN, cov).cov,
        COV,
        WRONG_COV,
        symmetric=True,
        strict=True,
    )
    for owner, call in {
        "LinearPolicy.act": line.act,
        "StagePolicy.act": lambda x: StagePolicy(STAGES).act(x, stage=1),
        "GaussianPolicy.act": lambda x: cloud.act(x, np.random.default_rng(0)),
        "log_prob": lambda x: cloud.log_prob(x, ACTIONS),
        "score": lambda x: cloud.score(x, ACTIONS),
    }.items():
        yield Argument(owner, "x", call, STATES, WRONG_ROWS)
    for owner, method in {"log_prob": cloud.log_prob, "score": cloud.score}.items():
        wrong = [*WRONG_ROWS, (4, 3), (3, 2)]
        yield Argument(owner, "u", lambda u, f=method: f(STATES, u), ACTIONS, wrong)


def lyapunov_arguments():
    wrong, only_dtype = [(), (3,), (2, 3), (4, 3, 2)], ()
    size = [(1, 1), (2, 2), (4, 4)]
    for owner, name, call, shapes in [
        ("spectral_radius", "F", lyapunov.spectral_radius, wrong),
        ("lyapunov.is_stable", "F", lyapunov.is_stable, wrong),
        ("forward", "F", lambda F: lyapunov.forward(F, WORLD.W), wrong),
        ("adjoint", "F", lambda F: lyapunov.adjoint(F, WORLD.W), wrong),
        ("both", "F", lambda F: lyapunov.both(F, WORLD.W, WORLD.Q), wrong),
        ("forward", "D", lambda D: lyapunov.forward(LOOP, D), wrong + size),
        ("adjoint", "C", lambda C: lyapunov.adjoint(LOOP, C), wrong + size),
        ("both", "D", lambda D: lyapunov.both(LOOP, D, WORLD.Q), wrong + size),
        ("both", "C", lambda C: lyapunov.both(LOOP, WORLD.W, C), wrong + size),
    ]:
        good = LOOP if name == "F" else WORLD.W
        yield Argument(owner, name, call, good, shapes, nonfinite=only_dtype)


def history_arguments():
    yield Argument(
        "judge", "K", lambda K: History.judge(K, COSTS, 1.0).K, PATH, [(), (3,), (3, 2)]
    )
    yield Argument(
        "judge stages",
        "K",
        lambda K: History.judge(K, COSTS, 1.0, stages=True).K,
        np.ones((3, 2, 4, 1, 2), int),
        [(), (3,), (3, 2), (3, 1, 2)],
    )
    yield Argument(
        "judge",
        "cost",
        lambda cost: History.judge(PATH, cost, 1.0).status,
        COSTS,
        [(), (3,), (2, 3), (3, 1), (3, 2, 1)],
        nonfinite=(np.nan, -np.inf),
    )


def rollout_arguments():
    def rolled(**given):
        rng = np.random.default_rng(0)
        return rollout(WORLD, GaussianPolicy(GAIN, COV), 4, 2, rng, **given).x

    wrong = [(), (3,), (3, 3), (4, 2), (4, 3, 1)]
    yield Argument("rollout", "x0", lambda x0: rolled(x0=x0), STATES, wrong)
    noise = np.arange(40).reshape(4, 2, 5) % 3 - 1
    wrong = [(), (5,), (2, 5), (4, 2, 4), (4, 3, 5), (3, 2, 5), (2, 4, 5)]
    yield Argument("rollout", "noise", lambda v: rolled(noise=v), noise, wrong)


def moments_arguments():
    """A row for each array argument of each function of moments."""
    near = GAIN + np.eye(2, 3, dtype=int)
    gains = {"K": GAIN + 0.05, "K_behaviour": GAIN, "horizon": 3}
    pair = {**gains, "cov": 3000 * COV}
    ray = {**pair, "direction": near, "order": 1.5}
    del ray["K"]
    good = {"K": near, "K_behaviour": GAIN, "direction": near, "order": [2, 3]}
    good |= {"cov": COV, "cov_behaviour": 3 * COV}
    wrong = {"order": [], "cov": WRONG_COV, "cov_behaviour": WRONG_COV}
    beside = {"K": {"K_behaviour": near + 0.05}, "cov_behaviour": {"cov": 2 * COV}}
    for function, given, also in [
        (second_moment, pair, ["cov_behaviour"]),
        (moment, pair | {"order": 1.5}, ["cov_behaviour"]),
        (log_moment, pair | {"order": 1.5}, ["cov_behaviour"]),
        (tail_index, pair, ["cov_behaviour"]),
        (breakdown, ray, []),
        (critical_covariance, gains, []),
    ]:
        for name in [*given, *also]:
            others, is_cov = given | beside.get(name, {}), name.startswith("cov")

            def call(value, function=function, others=others, name=name):
                return function(WORLD, **(others | {name: value}))

            if name != "horizon":
                row = good[name], wrong.get(name, WRONG_K), is_cov, is_cov
                yield Argument(function.__name__, name, call, *row)


def weights_arguments():
    yield from moments_arguments()
    yield Argument(
        "effective_sample_size",
        "log_w",
        effective_sample_size,
        np.array([[0, -1, -2], [3, 3, 3]]),
        [()],
        nonfinite=(np.nan, np.inf),
    )


def data_arguments():
    draw = np.random.default_rng(0).integers
    rows = Transitions(*(draw(-3, 4, s) for s in ((40, 3), (40, 2), 40, (40, 3))))
    wrong = {
        "x": [(), (3,)],
        "u": [(), (2,), (39, 2), (2, 40, 2)],
        "cost": [(), (39,), (40, 1)],
        "x_next": [(), (3,), (39, 3)],
    }

    def elite(some):
        return fit_ensemble(some, 3, np.random.default_rng(0), elites=1)[0].A

    fits = {
        "fit": lambda some: fit(some).A,
        "fit_ensemble": elite,
        "prediction_error": lambda some: prediction_error(fit(rows), some),
        "lstdq": lambda some: lstdq(WORLD, some, GAIN).Theta,
    }
    for owner, call in fits.items():
        for name, shapes in wrong.items():
            yield Argument(
                owner,
                f"transitions.{name}",
                lambda part, n=name, f=call: f(rows._replace(**{n: part})),
                getattr(rows, name),
                shapes,
                nonfinite=(np.nan,),  # inf is data: such rows are left out
            )


def gradient_arguments():
    data = gaussian_data(WORLD, GAIN, COV, 60, 4)
    rows, critic = transitions(data), lstdq(WORLD, transitions(data), GAIN)
    yield Argument("lstdq", "K", lambda K: lstdq(WORLD, rows, K).Theta, GAIN, WRONG_K)
    for owner in ("gain_error", "gauss_newton"):
        wrong = [(), (3,), (6,), (2, 2), (3, 3)]
        yield Argument(owner, "K", getattr(critic, owner), GAIN, wrong)
    hacks = {
        "trajectory_is": {"baseline": True},
        "per_decision_is": {},
        "self_normalised_is": {},
        "mixture_is": {},
        "clipped_is": {"limit": 1.5},
        "per_step_is": {},
        "ppo_is": {},
        "doubly_robust_is": {},
        "actor_critic_is": {},
    }
    for owner in (*hacks, "dpg", "natural_dpg", "gauss_newton_dpg"):

        def call(K=GAIN, cov=COV, owner=owner):
            options = hacks.get(owner, {})
            return getattr(gradients, owner)(
                WORLD, data, K, cov=cov, **options
            ).gradient

        yield Argument(owner, "K", call, GAIN, WRONG_K)
        if owner in hacks:
            yield Argument(
                owner, "cov", lambda cov, f=call: f(cov=cov), COV, WRONG_COV, True, True
            )

    def estimated(K=GAIN, cov=COV):
        return estimated_cost(WORLD, data, K, cov=cov, weighting="per-decision")

    yield Argument("estimated_cost", "K", estimated, GAIN, WRONG_K)
    yield Argument(
        "estimated_cost",
        "cov",
        lambda cov: estimated(cov=cov),
        COV,
        WRONG_COV,
        symmetric=True,
        strict=True,
    )


def ladder_arguments():
    def deviation(K=GAIN, made_by=GAIN, cov=COV):
        return spread(WORLD, K, made_by, cov, 2, "TD error").deviation

    yield Argument("spread", "K", deviation, GAIN, WRONG_K)
    yield Argument(
        "spread", "K_behaviour", lambda K: deviation(made_by=K), GAIN, WRONG_K
    )
    yield Argument(
        "spread", "cov", lambda cov: deviation(cov=cov), COV, WRONG_COV, True, True
    )

    def critic(K=GAIN, cov=COV):
        return exact_critic(WORLD, K, cov).const

    yield Argument("exact_critic", "K", critic, GAIN, WRONG_K)
    yield Argument(
        "exact_critic", "cov", lambda cov: critic(cov=cov), COV, WRONG_COV, True
    )
    known = exact_critic(WORLD, GAIN)
    yield Argument(
        "of_gaussian",
        "cov",
        lambda cov: of_gaussian(WORLD, known, cov).const,
        COV,
        WRONG_COV,
        symmetric=True,
    )


def check_arguments():
    size = {"n_trajectories": 3, "horizon": 2, "data_sets": 15}

    def checked(K=GAIN, cov=COV):
        function, rng = gradients.per_decision_is, np.random.default_rng(0)
        report = check_gradient(function, WORLD, K, cov=cov, rng=rng, **size)
        return report.K, report.off_policy.mean

    yield Argument("check_gradient", "K_behaviour", checked, GAIN, WRONG_K)
    yield Argument(
        "check_gradient",
        "cov",
        lambda cov: checked(cov=cov),
        COV,
        WRONG_COV,
        symmetric=True,
        strict=True,
    )


def query_arguments():
    options = {"radius": 0.1, "n_trajectories": 2}

    def queried(K):
        rng = np.random.default_rng(0)
        return gradients.zeroth_order(WORLD, K, horizon=3, rng=rng, **options).gradient

    def by_stages(K=STAGES, terminal=None):
        rng = np.random.default_rng(0)
        return gradients.zeroth_order_stages(
            WORLD, K, terminal=terminal, rng=rng, **options
        ).gradient

    yield Argument("zeroth_order", "K", queried, GAIN, WRONG_K)
    yield Argument("zeroth_order_stages", "K", by_stages, STAGES, WRONG_STAGES)
    yield Argument(
        "zeroth_order_stages",
        "terminal",
        lambda S: by_stages(terminal=S),
        WORLD.W,
        WRONG_SQUARE,
        symmetric=True,
    )


def model_arguments():
    agreed = ensemble.stack([LinearModel(WORLD.A, WORLD.B, WORLD.W, np.array(1.0))] * 2)
    for function in (
        ensemble.value_matrix,
        ensemble.is_stable,
        ensemble.second_moment_map,
    ):
        call = partial(function, WORLD, agreed)
        yield Argument(f"ensemble.{function.__name__}", "K", call, GAIN, WRONG_K)
    wrong = [(), (3,), (3, 2), (2, 4)]
    widen, best = partial(observed.widen, WORLD), partial(observed.best_gain, WORLD)
    yield Argument("observed.widen", "K", widen, GAIN, wrong)
    yield Argument("observed.best_gain", "K", best, GAIN, [*wrong, (4, 2, 3)])


def descent_arguments():
    def planned(K=GAIN, cov=COV):
        settings = MBPOSettings(K, "model", cov, n_trajectories=9, horizon=3, updates=1)
        return mbpo(WORLD, settings, np.random.default_rng(0)).K

    def descended(K):
        return descend(WORLD, K, lambda K: exact.gradient(WORLD, K), 0.01, updates=2).K

    def by_stages(K=STAGES, S=None):
        def gradient(K):
            return finite_horizon.gradient(WORLD, K, terminal=S)

        return descend_stages(WORLD, K, gradient, 0.01, terminal=S, updates=2).K

    def searched(cov):
        return backtracking(WORLD, cov=cov)(exact.gradient(WORLD, GAIN), GAIN)

    yield Argument("descend", "K0", descended, GAIN, WRONG_K)
    yield Argument("descend_stages", "K0", by_stages, STAGES, WRONG_STAGES)
    yield Argument(
        "descend_stages",
        "terminal",
        lambda S: by_stages(S=S),
        WORLD.W,
        WRONG_SQUARE,
        symmetric=True,
    )
    yield Argument("backtracking", "cov", searched, COV, WRONG_COV, symmetric=True)
    yield Argument("mbpo", "K0", planned, GAIN, WRONG_K[:-1])
    yield Argument(
        "mbpo", "cov", lambda cov: planned(cov=cov), COV, WRONG_COV, symmetric=True
    )


def env_arguments():
    one, many = LQREnv(WORLD), LQRVectorEnv(4, WORLD)
    one.reset(seed=0)
    many.reset(seed=0)
    limits, wrong = np.array([2, 3]), [(1,), (3,), (2, 2)]
    for owner, build in {
        "LQREnv": lambda limit: LQREnv(WORLD, action_limit=limit),
        "LQRVectorEnv": lambda limit: LQRVectorEnv(4, WORLD, action_limit=limit),
    }.items():

        def call(limit, build=build):
            return build(limit).action_space.high

        yield Argument(owner, "action_limit", call, limits, wrong)

    def step(env, actions):
        env.reset(seed=0)
        return env.step(actions)[0]

    shapes = [(), (1,), (3,), (2, 2)]
    yield Argument("LQREnv.step", "action", partial(step, one), ACTIONS[0], shapes)
    shapes = [(), (2,), (4,), (3, 2), (4, 3), (1, 4, 2)]
    yield Argument("LQRVectorEnv.step", "actions", partial(step, many), ACTIONS, shapes)


def start_arguments():
    options = {"radius": 0.1, "n_trajectories": 4}

    def queried(x0):
        rng = np.random.default_rng(0)
        found = gradients.zeroth_order(
            WORLD, GAIN, horizon=3, rng=rng, x0=x0, **options
        )
        return found.gradient

    def by_stages(x0):
        rng = np.random.default_rng(0)
        found = gradients.zeroth_order_stages(WORLD, STAGES, rng=rng, x0=x0, **options)
        return found.gradient

    wrong = [(), (3,), (3, 3), (4, 2), (4, 3, 1)]
    yield Argument("zeroth_order", "x0", queried, STATES, wrong)
    yield Argument("zeroth_order_stages", "x0", by_stages, STATES, wrong)


def other_arguments():
    data = gaussian_data(WORLD, GAIN, COV, 60, 4)

    def asked(K):
        rng, kinds = np.random.default_rng(0), {"points": "two", "gains": "stages"}
        return query_gradient(WORLD, K, radius=0.1, m=2, rng=rng, **kinds).gradient

    def searched(S):
        rule = backtracking_stages(WORLD, terminal=S)
        return rule(finite_horizon.gradient(WORLD, STAGES), STAGES)

    def descended(K):
        short = {"n_trajectories": 9, "settings": HackSettings(3, 2)}
        return hack_path(WORLD, K, cov=1.0, data="Gaussian", **short).K

    def diagnosed(K):
        return np.array(diagnoses(WORLD, K, [COV], 3, 10)[0].model.excess)

    def moved(K):
        return linearised(WORLD, data, K)[1]

    yield Argument("linearised", "K", moved, GAIN, WRONG_K)
    yield Argument("diagnoses", "K", diagnosed, GAIN, WRONG_K)
    wrong = [shape for shape in WRONG_K if shape != (4, 3, 2)]
    yield Argument("query_gradient", "K", asked, GAIN, wrong)
    yield Argument("hack_path", "K0", descended, GAIN, [*WRONG_K, (4, 2, 3)])
    yield Argument(
        "backtracking_stages", "terminal", searched, WORLD.W, WRONG_SQUARE, True
    )


ARGUMENTS = [
    *problem_arguments(),
    *exact_arguments(),
    *finite_horizon_arguments(),
    *rates_arguments(),
    *soft_arguments(),
    *forecast_arguments(),
    *policy_arguments(),
    *lyapunov_arguments(),
    *history_arguments(),
    *rollout_arguments(),
    *weights_arguments(),
    *data_arguments(),
    *gradient_arguments(),
    *ladder_arguments(),
    *check_arguments(),
    *query_arguments(),
    *model_arguments(),
    *descent_arguments(),
    *env_arguments(),
    *start_arguments(),
    *other_arguments(),
]
