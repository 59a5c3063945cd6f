"""Every public function that takes arrays: what it is given, and what it promises.

A row names the inputs by their kinds (`random_inputs.KINDS`). What shape a result has
is not said here: it is read in the docstring.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from random_inputs import HORIZON, SIZE, UPDATES

from lqrlib import (
    LQR,
    GaussianPolicy,
    History,
    LinearPolicy,
    MBPOSettings,
    StagePolicy,
    Status,
    check,
    critic,
    descent,
    ensemble,
    envs,
    estimate,
    exact,
    finite_horizon,
    forecast,
    gradients,
    importance,
    ladder,
    lyapunov,
    model,
    observed,
    rates,
    remedies,
    rollout,
    soft,
    weight_moments,
    weights,
    worlds,
)
from lqrlib.critic import Critic
from lqrlib.diagnose import diagnose, diagnoses
from lqrlib.mbpo import mbpo, sweep
from lqrlib.studies import arrivals, forecasts, hack, hack_paths, queries, runs, verdict
from lqrlib.studies.setting import Setting

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Row(NamedTuple):
    """A way to call a public function; world, setting and generator are seen to.

    ``unstable`` says what becomes of each part of the result for an unstable gain: inf,
    nan, False, finite, or any where nothing is promised but that the call returns;
    "refused" where it raises; nothing where no gain is given.
    """

    name: str
    call: Callable[..., Any]
    given: str = ""  # inputs, each a name or name=kind
    options: Mapping[str, Any] = NOTHING
    single: str = ""  # inputs without leading axes
    unstable: str = ""
    shapes: tuple[str, ...] = ()  # where the docstring does not name them all
    no_loop: str = ""  # why a call for many is not a loop
    writes: str = ""  # the input that is documented to be written to
    alike: bool = False  # whether all inputs have the same leading axes

    @property
    def kinds(self) -> dict[str, str]:
        """Input → its kind."""
        pairs = (word.partition("=") for word in self.given.split())
        return {name: kind or name for name, _, kind in pairs}

    @property
    def batched(self) -> bool:
        """Whether a call for many is to be compared with a loop."""
        return not self.no_loop and bool(self.kinds.keys() - set(self.single.split()))


def row(function, given="", name="", **fields):
    """A row of a function, named as where it is defined."""
    home = name or f"{function.__module__}.{function.__qualname__}"
    return Row(home.removeprefix("lqrlib."), function, given, **fields)


def rows(functions, given, **fields):
    return [row(function, given, **fields) for function in functions]


def variants(function, given, option, choices, **fields):
    """A row for each choice of an option."""
    other = fields.pop("options", {})
    return [
        row(function, given, options={**other, option: choice}, **fields)
        for choice in choices
    ]


STEPS = {"horizon": HORIZON}
OWN_NOISE = "every gain of a batch has its own draws"


EXACT = [
    row(exact.is_stable, "K", unstable="False"),
    *rows([exact.value_matrix, exact.q_matrix, exact.gain_error], "K", unstable="nan"),
    *rows([exact.natural_gradient, exact.gauss_newton], "K", unstable="nan"),
    *rows([exact.cost, exact.average_cost], "K cov", unstable="inf"),
    *rows([exact.state_moment, exact.gradient], "K cov", unstable="nan"),
    row(exact.evaluate, "K cov", unstable="inf nan nan nan nan False"),
    row(exact.moment_source, "cov"),
    row(exact.optimal_gain),
]


def stages_rows():
    last = {"single": "terminal", "unstable": "finite"}
    for function in (finite_horizon.value_matrices, finite_horizon.gain_errors):
        yield row(function, "K=stages terminal=form", **last)
    for function in (finite_horizon.cost, finite_horizon.gradient):
        yield row(function, "K=stages cov terminal=form", **last)
    last["unstable"] = "finite finite finite finite finite"
    yield row(finite_horizon.evaluate, "K=stages cov terminal=form", **last)
    last["unstable"] = ""
    yield row(finite_horizon.optimal_gains, "terminal=form", options=STEPS, **last)
    yield row(finite_horizon.terminal_cost, "terminal=form", **last)
    yield row(finite_horizon.state_moments, "K=stages cov", unstable="finite")
    yield row(finite_horizon.stages, "K=stages", unstable="finite")
    yield row(finite_horizon.constant, "K", options=STEPS, unstable="finite")


def rates_rows():
    def along(lqr, K, cov, method):
        return rates.direction(lqr, method, cov)(K)

    def of_method(function, given="", **fields):
        methods = fields.pop("methods", rates.METHODS)
        return variants(function, given, "method", methods, **fields)

    yield from of_method(
        along,
        "K cov",
        name="rates.direction",
        shapes=("..., m, n",),
        unstable="nan",
        methods=["gradient"],
    )
    yield from of_method(
        along,
        "K cov",
        name="rates.direction",
        single="cov",
        shapes=("..., m, n",),
        unstable="nan",
        methods=rates.METHODS[1:],
    )
    yield row(rates.curvature, "K", unstable="nan")
    yield row(rates.cost_change, "K K_new=K cov", unstable="nan")
    yield row(rates.domination, "K cov", unstable="inf nan nan")
    yield from of_method(rates.step_limit, "cov", single="cov")
    yield from of_method(rates.local_rate, "step cov", single="cov")
    yield from of_method(
        rates.contraction,
        "K cov",
        options={"step": 0.05},
        unstable="nan",
        methods=rates.METHODS[1:],
    )


def soft_rows():
    tau = {"temperature": 0.5}

    def entropy(lqr, cov):
        return soft.entropy(cov, lqr.m)

    yield row(entropy, "cov", "soft.entropy", shapes=("...",))
    yield row(soft.cost, "K cov", options=tau, unstable="inf")
    yield row(soft.best_covariance, "K", options=tau, unstable="nan")
    yield row(soft.optimal_policy, options=tau, shapes=("m, n", "m, m"))
    yield row(soft.optimal_cost, options=tau)
    found = "nan nan finite finite"
    yield row(soft.action_value, "K cov", options=tau, unstable=found)
    yield row(soft.gradient, "K cov", options=tau, unstable="nan nan")
    yield row(soft.fisher_gradient, "K cov", options=tau, unstable="nan nan")
    yield row(
        soft.policy_iteration,
        "K cov",
        options={**tau, "steps": UPDATES},
        unstable="refused",
    )
    pair = "K K_behaviour=K cov"
    yield row(soft.pathwise_spread, pair, options=STEPS, unstable="refused")


def policy_rows():
    def drawn(K, cov, x, rng):
        return GaussianPolicy(K, cov).act(x, rng)

    def at_stage(K, x):
        return StagePolicy(K).act(x, stage=1)

    x, xu, K = "x=states", "x=states u=actions", "..., m, n"
    yield row(lambda K: LinearPolicy(K).K, "K", "policy.LinearPolicy", shapes=(K,))
    yield row(
        lambda K: StagePolicy(K).K,
        "K=stages",
        "policy.StagePolicy",
        shapes=("..., T, m, n",),
    )
    yield row(
        GaussianPolicy,
        "K cov",
        "policy.GaussianPolicy",
        shapes=(K, "..., m, m"),
        alike=True,
    )
    acts = "..., N, m"
    yield row(
        lambda K, x: LinearPolicy(K).act(x),
        f"K {x}",
        "policy.LinearPolicy.act",
        shapes=(acts,),
        unstable="finite",
    )
    yield row(at_stage, f"K=stages {x}", "policy.StagePolicy.act", shapes=(acts,))
    yield row(
        drawn,
        f"K cov {x}",
        "policy.GaussianPolicy.act",
        shapes=(acts,),
        no_loop=OWN_NOISE,
    )
    yield row(
        lambda K, cov, x, u: GaussianPolicy(K, cov).log_prob(x, u),
        f"K cov {xu}",
        "policy.GaussianPolicy.log_prob",
        shapes=("..., N",),
        unstable="finite",
    )
    yield row(
        lambda K, cov, x, u: GaussianPolicy(K, cov).score(x, u),
        f"K cov {xu}",
        "policy.GaussianPolicy.score",
        shapes=("..., N, m, n",),
        unstable="finite",
    )


def problem_rows():
    def built(lqr, A, B, Q, R, W, X0):
        return LQR(A, B, Q, R, W, X0, lqr.gamma)

    def wide(lqr, K):
        return observed.widen(lqr, K)

    yield row(
        built,
        "A B Q R W X0",
        "problem.LQR",
        single="A B Q R W X0",
        shapes=("n, n", "n, m", "n, n", "m, m", "n, n", "n, n", ""),
    )
    yield row(LQR.gain, "K", unstable="finite")
    yield row(LQR.closed_loop, "K", unstable="finite")
    yield row(wide, "K=narrow", "observed.widen", shapes=("..., m, n",))
    yield row(
        lambda lqr, K: observed.widen(lqr, observed.best_gain(lqr, K)),
        "K",
        "observed.best_gain",
        single="K",
        shapes=("m, n",),
        unstable="refused",
    )
    yield row(
        lambda lqr: worlds.with_lag(lqr, 0.5).closed_loop(
            np.zeros((lqr.m, lqr.n + lqr.m))
        ),
        "",
        "worlds.with_lag",
        shapes=("n+m, n+m",),
    )


LYAPUNOV = [
    row(lyapunov.spectral_radius, "F=loop"),
    row(lyapunov.is_stable, "F=loop"),
    row(lyapunov.forward, "F=loop D=form"),
    row(lyapunov.adjoint, "F=loop C=form"),
    row(lyapunov.both, "F=loop D=form C=form"),
]


def history_rows():
    def share(K, cost):
        return History.judge(K, cost, 1.0).share(Status.STALLED)

    path = {"single": "K cost"}
    yield row(
        History.judge,
        "K=path cost=costs",
        options={"optimum": 1.0},
        shapes=("updates + 1, m, n", "updates + 1", "", ""),
        **path,
    )
    yield row(share, "K=path cost=costs", "history.History.share", shapes=("",), **path)


def rollout_rows():
    def rolled(lqr, K, cov, x0, noise, rng):
        policy = GaussianPolicy(K, cov)
        return rollout.rollout(lqr, policy, SIZE, HORIZON, rng, x0=x0, noise=noise)[:4]

    def filled(noise):
        out = np.empty((*noise.shape[:-3], noise.shape[-1], SIZE))
        rollout.given_noise(noise)(1, out)
        return out

    def fresh(lqr, rng):
        out = np.empty((lqr.m + lqr.n, SIZE))
        rollout.fresh_noise(rng)(1, out)
        return out

    def packed(lqr, z, cost, policy):
        return rollout.packed(z, np.square(cost), lqr.n, policy)[:4]

    parts = ("..., N, T+1, n", "..., N, T, m", "..., N, T", "..., N")
    yield row(
        rolled,
        "K cov x0=states noise=normals",
        "rollout.rollout",
        shapes=parts,
        unstable="finite finite finite False",
    )
    size = {"n_trajectories": SIZE}
    yield row(rollout.draw_starts, options=size, shapes=("N, n",))
    yield row(
        lambda lqr, rng: rollout.draw_noise(SIZE, HORIZON, lqr.n + lqr.m, rng),
        "",
        "rollout.draw_noise",
        shapes=("N, T, m+n",),
    )
    yield row(
        lambda lqr, rng: rollout.draw_each(lqr, SIZE, HORIZON, [rng, rng]),
        "",
        "rollout.draw_each",
        shapes=("2, N, n", "2, N, T, m+n"),
    )
    noise = ("..., m+n, N",)
    yield row(filled, "noise=normals", "rollout.given_noise", shapes=noise)
    yield row(fresh, "", "rollout.fresh_noise", shapes=("m+n, N",))
    yield row(
        packed,
        "z=paths_last cost=sums_last policy",
        "rollout.packed",
        single="policy",
        shapes=parts,
        alike=True,
    )
    twice = tuple(part.replace("N", "2*N") for part in parts)
    yield row(
        lambda parts: rollout.concatenate(parts)[:4],
        "parts=two_data",
        "rollout.concatenate",
        shapes=twice,
    )
    yield row(rollout.transitions, "trajectories=data")
    yield row(rollout.usable, "transitions")
    yield row(rollout.stage_matrix)


def weights_rows():
    gains, T = "K K_behaviour=K cov", STEPS
    other = f"{gains} cov_behaviour=cov"
    for function in (weight_moments.log_moment, weight_moments.moment):
        yield row(function, f"{other} order", options=T, unstable="any")
    for function in (weight_moments.second_moment, weight_moments.tail_index):
        yield row(function, gains, options=T, unstable="any")
        yield row(function, other, options=T, unstable="any")
    ray = "K_behaviour=K direction cov order"
    yield row(weight_moments.breakdown, ray, options=T)
    pair = "K K_behaviour=K"
    yield row(weight_moments.critical_covariance, pair, options=T, unstable="any")

    def weighed(trajectories, policy, mixture):
        found = list(weights.weighed(trajectories, policy, mixture=mixture))
        return np.concatenate([steps.log_w for steps in found], axis=-2)

    def cut(trajectories, policy):
        at = list(weights.few_steps(trajectories, policy))
        return np.concatenate([np.arange(HORIZON)[each] for each in at])

    made = "trajectories=data policy"
    yield from variants(weights.log_weights, made, "mixture", [False, True])
    yield row(weights.log_ratios, made)
    yield from variants(
        weighed,
        made,
        "mixture",
        [False, True],
        name="weights.weighed",
        shapes=("..., T, N",),
    )
    yield row(weights.effective_sample_size, "log_w=logs")
    yield row(
        cut, made, "weights.few_steps", single="trajectories policy", shapes=("T",)
    )
    yield row(
        weights.of_steps,
        "trajectories=data",
        options={"at": slice(1, HORIZON)},
        shapes=("..., T-1, n, N", "..., T-1, m, N"),
    )
    yield row(weights.add_up, "steps=sums_last", shapes=("..., T, N",), writes="steps")
    yield row(weights.running_sum, "steps=sums_last")
    last = "x=states_last u=actions_last"
    yield row(weights.residual, f"K=gain_last {last}")
    yield row(weights.log_density, f"K=gain_last cov=cov_last {last}")


def critic_rows():
    def property_of(name):
        return lambda critic: getattr(critic, name)

    for name in ("determined", "plausible"):
        yield row(property_of(name), "critic", f"critic.Critic.{name}", shapes=("...",))
    for method in (Critic.gain_error, Critic.gauss_newton):
        yield row(method, "self=critic K", unstable="finite")
    yield row(critic.lstdq, "transitions K", unstable="any")
    yield row(critic.sums, "transitions")
    law = ("..., n+m, n+m", "...", "...", "...", "..., N, n+m, n+m")
    yield row(critic.linearised, "data K", shapes=law, unstable="any")
    yield row(critic.exact_critic, "K cov", unstable="nan nan finite finite")
    yield row(critic.of_gaussian, "critic cov")
    yield row(critic.required, "critic")
    yield row(
        critic.moments,
        "z=z_last cost=costs_last x_next=next_states_last weight=weights_last",
        shapes=("..., d, d", "..., d, p", "..., d"),
        alike=True,
    )
    yield row(
        lambda lqr, z, cost: critic.path_moments(z, cost, lqr.n),
        "z=paths_last cost=sums_last",
        "critic.path_moments",
        shapes=("..., d, d", "..., d, p", "..., d"),
        alike=True,
    )
    yield row(critic.products, "x=next_states_last", shapes=("..., p, M",))
    yield row(critic.lift, "K", unstable="finite")
    yield row(critic.solve, "collected=moments K", unstable="any")


def model_rows():
    parts = ("..., n, n", "..., n, m", "..., n, n", "...")

    def ensembled(transitions, rng):
        return model.fit_ensemble(transitions, 3, rng, elites=2)

    yield row(model.fit, "transitions")
    yield row(model.prediction_error, "model transitions")
    yield row(ensembled, "transitions", "model.fit_ensemble", shapes=2 * parts)
    yield row(
        model.LinearModel.problem,
        "self=model",
        single="self",
        shapes=("n, n", "n, m", "n, n", "m, m", "n, n", "n, n", ""),
    )
    first = tuple(f"3, {part}" for part in parts)
    yield row(ensemble.stack, "members=models", shapes=first)
    yield row(ensemble.second_moment_map, "members K", unstable="finite")
    yield row(ensemble.is_stable, "members K", unstable="False")
    yield row(ensemble.value_matrix, "members K", unstable="nan")
    yield row(ensemble.q_matrix, "members P=form")
    yield row(ensemble.optimal_gain, "members")


def data_rows():
    d = gradients
    data, hack = "data K", "data K cov"
    for function in (d.dpg, d.natural_dpg, d.gauss_newton_dpg):
        yield row(function, data, unstable="any")
        yield row(function, f"{data} critic", unstable="any", alike=True)
    i, r = importance, remedies
    for function in (i.trajectory_is, r.per_step_is):
        yield from variants(function, hack, "baseline", [False, True], unstable="any")
    for option in ("time_baseline", "value_baseline"):
        yield from variants(i.per_decision_is, hack, option, [True], unstable="any")
    yield row(i.per_decision_is, hack, unstable="any")
    for option in ("time_baseline", "mixture"):
        yield from variants(i.self_normalised_is, hack, option, [True], unstable="any")
    yield row(i.mixture_is, hack, unstable="any")
    yield row(i.clipped_is, hack, options={"limit": 1.5}, unstable="any")
    yield row(r.ppo_is, hack, unstable="any")
    yield row(r.doubly_robust_is, f"{hack} critic", unstable="any", alike=True)
    yield from variants(
        r.actor_critic_is,
        f"{hack} critic",
        "signal",
        r.SIGNALS,
        unstable="any",
        alike=True,
    )
    yield from variants(
        i.estimated_cost, hack, "weighting", i.WEIGHTINGS, unstable="any"
    )
    yield row(estimate.mean_and_error, "terms=logs shift=logs", alike=True)
    asks = {"radius": 0.1, "n_trajectories": 4, "two_point": True}
    drawn = {"no_loop": OWN_NOISE, "unstable": "any any finite"}
    yield row(d.zeroth_order, "K", options={**asks, **STEPS}, **drawn)
    yield row(
        d.zeroth_order_stages,
        "K=stages terminal=form",
        options=asks,
        single="terminal",
        shapes=("..., T, m, n", "..., T, m, n", "..., T"),
        **drawn,
    )


def forecast_rows():
    gain = {"single": "K cov", "options": STEPS}
    f = forecast
    for function in (f.step_moments, f.identifiable, f.effective_rows, f.model_law):
        yield row(function, "K cov", **gain, unstable="finite")
    yield row(f.critic_law, "K cov", **gain, unstable="finite finite")
    yield row(f.gain_slope)
    yield row(f.median_rise, "law", single="law")
    yield row(f.weighted_median, "weights=positive", single="weights")
    yield row(f.weighted_cdf, "weights=positive", single="weights", options={"x": 9.0})
    numbers = ("",) * 20
    yield row(
        diagnose,
        "K cov",
        single="K cov",
        options={**STEPS, "n": 9},
        shapes=numbers,
        unstable="refused",
    )
    yield row(
        lambda lqr, K, cov: diagnoses(lqr, K, [cov, 1.0], HORIZON, 9),
        "K cov",
        "diagnose.diagnoses",
        single="K cov",
        shapes=2 * numbers,
        unstable="refused",
    )


def ladder_rows():
    pair = "K K_behaviour=K cov"
    yield from variants(
        ladder.spread, pair, "rung", ladder.RUNGS, options=STEPS, unstable="refused"
    )

    def deviation(lqr, K, K_behaviour, cov):
        return ladder.spread(lqr, K, K_behaviour, cov, HORIZON, "TD error").deviation

    yield row(
        deviation, pair, "ladder.Spread.deviation", shapes=("...",), unstable="refused"
    )


def descent_rows():
    def descended(lqr, K0):
        def gradient(K):
            return exact.gradient(lqr, K)

        return descent.descend(lqr, K0, gradient, 0.01, updates=UPDATES)

    def by_stages(lqr, K0, terminal):
        def gradient(K):
            return finite_horizon.gradient(lqr, K, terminal=terminal)

        options = {"terminal": terminal, "updates": UPDATES}
        return descent.descend_stages(lqr, K0, gradient, 0.01, **options)

    def searched(lqr, gradient, K, cov):
        return descent.backtracking(lqr, cov=cov)(gradient, K)

    def searched_stages(lqr, gradient, K, terminal):
        return descent.backtracking_stages(lqr, terminal=terminal)(gradient, K)

    path = ("updates + 1, ..., {}m, n", "updates + 1, ...", "...", "")
    yield row(
        descended,
        "K0=K",
        "descent.descend",
        shapes=tuple(part.format("") for part in path),
        unstable="finite inf finite finite",
    )
    yield row(
        by_stages,
        "K0=stages terminal=form",
        "descent.descend_stages",
        single="terminal",
        shapes=tuple(part.format("T, ") for part in path),
    )
    change = {"shapes": ("..., m, n",)}
    yield row(
        lambda gradient, K: descent.of_length(0.1)(gradient, K),
        "gradient=direction K",
        "descent.of_length",
        single="K",
        **change,
    )
    yield row(searched, "gradient=direction K cov", "descent.backtracking", **change)
    yield row(
        searched_stages,
        "gradient=directions K=stages terminal=form",
        "descent.backtracking_stages",
        single="terminal",
        shapes=("..., T, m, n",),
    )
    yield row(
        descent.moved,
        "K change=direction going=flag",
        shapes=("..., m, n",),
        alike=True,
    )


def mbpo_rows():
    def settings(K0, cov, expression):
        tau = 0.5 if expression == "soft" else None
        return MBPOSettings(
            K0,
            expression,
            cov,
            real_ratio=0.5,
            n_trajectories=SIZE,
            horizon=HORIZON,
            updates=UPDATES,
            temperature=tau,
        )

    def run(lqr, K0, cov, rng, expression):
        found = mbpo(lqr, settings(K0, cov, expression), rng)
        return found.K, found.cost, found.cov, found.model_error

    def swept(lqr, K0, cov):
        axes = {"real_ratio": (0.0, 0.5)}
        found = sweep(lqr, settings(K0, cov, "dpg"), axes, [0]).history
        return found.K, found.cost

    once = {"given": "K0=K cov", "single": "K0 cov"}
    yield from variants(
        run,
        option="expression",
        choices=("hack", "dpg", "pathwise", "model", "soft"),
        name="mbpo.mbpo",
        shapes=("updates + 1, m, n", "updates + 1", "updates + 1, m, m", "1"),
        **once,
    )
    yield row(
        swept,
        name="mbpo.sweep",
        shapes=("updates + 1, 2, 1, m, n", "updates + 1, 2, 1"),
        **once,
    )


def check_rows():
    def checked(lqr, K_behaviour, cov, rng):
        size = {"n_trajectories": 8, "horizon": 2, "data_sets": 15}
        function = importance.per_decision_is
        report = check.check_gradient(
            function, lqr, K_behaviour, cov=cov, rng=rng, **size
        )
        return report.K, report.on_policy.mean, report.on_policy.z

    def z(mean, error):
        return check.Comparison(mean, error, np.zeros(()), 1.0).z

    yield row(
        checked,
        "K_behaviour=K cov",
        "check.check_gradient",
        single="K_behaviour cov",
        shapes=("4, m, n", "m, n", "m, n"),
    )
    yield row(z, "mean=number error=number", "check.Comparison.z", shapes=("...",))


def envs_rows():
    def alone(lqr, x0, action):
        env = envs.LQREnv(lqr)
        x, _ = env.reset(seed=0, options={"x0": x0})
        return x, *env.step(action)[:4]

    def together(lqr, x0, actions):
        env = envs.LQRVectorEnv(SIZE, lqr)
        x, _ = env.reset(seed=0, options={"x0": x0})
        return x, *env.step(actions)[:4]

    for name in ("reset", "step"):
        yield row(
            alone,
            "x0=state action",
            f"envs.LQREnv.{name}",
            single="x0 action",
            shapes=("n", "n", "", "", ""),
        )
        yield row(
            together,
            "x0=states actions",
            f"envs.LQRVectorEnv.{name}",
            single="x0 actions",
            shapes=("N, n", "N, n", "N", "N", "N"),
        )


def studies_rows():
    def setting(lqr, K):
        return Setting(lqr, K.reshape(-1, lqr.m, lqr.n)[0], HORIZON)

    def iterated(lqr, data, K):
        return arrivals.policy_iteration(setting(lqr, K), data)(K)

    def hacked(lqr, data, K):
        return hack.expression(setting(lqr, K), "trajectory", 0.5)(data, K)

    def path(lqr, K0, data):
        settings = hack_paths.HackSettings(HORIZON, UPDATES)
        return hack_paths.hack_path(
            lqr, K0, cov=1.0, n_trajectories=SIZE, data=data, settings=settings
        )

    def descents(lqr, K0):
        settings = hack_paths.HackSettings(HORIZON, UPDATES)
        block = hack_paths.Block("Gaussian", SIZE, [(1.0, 0), (2.0, 1)])
        return hack_paths.descents(lqr, K0, settings, block)

    def asked(lqr, first, gains):
        counts = {"seed": 0, "updates": UPDATES, "seeds": 2, "runs": 3}
        return queries.asked(lqr, first, "two", gains, 0.1, 4, **counts)

    def along(lqr, K, gains):
        kind = queries.kind_of(lqr, K, gains)
        cost = queries.excess_along(lqr, kind, kind.start, kind.gradient, UPDATES)
        return kind.start, kind.slope, cost

    def followed(lqr, data, K0):
        def gradient(data, K):
            return importance.per_decision_is(lqr, data, K, cov=1.0)

        return runs.frozen(
            Setting(lqr, K0, HORIZON), data, gradient, 0.01, updates=UPDATES
        )

    def growing(lqr, K0, rng):
        def gradient(data, K):
            return importance.per_decision_is(lqr, data, K, cov=1.0)

        setting, size = Setting(lqr, K0, HORIZON), {"collections": 2, "updates": 2}
        return runs.collecting(setting, 1.0, SIZE, gradient, 0.01, rng, **size)

    def ended(lqr, K0):
        setting = Setting(lqr, K0, HORIZON)
        return verdict.normalised(setting, lambda K: exact.gradient(lqr, K), updates=4)

    def batch(lqr, K0):
        return runs.batch(Setting(lqr, K0, HORIZON), 1.0, SIZE, 0)[:4]

    def distance(lqr, K0):
        setting = Setting(lqr, K0, HORIZON)
        return setting.distance, setting.optimum, setting.length

    def asked_once(lqr, K, rng, gains):
        options = {"points": "two", "radius": 0.1, "m": 4.0, "rng": rng}
        return queries.query_gradient(lqr, K, gains=gains, **options)

    s = "studies."
    known = {"name": f"{s}arrivals.policy_iteration", "shapes": ("..., m, n",)}
    yield row(iterated, "data K", **known)
    parts = ("..., m, n", "..., m, n", "...")
    yield row(hacked, "data K", f"{s}hack.expression", shapes=parts)
    first = {"given": "K0=K", "single": "K0"}
    yield from variants(
        path,
        option="data",
        choices=hack_paths.DATA,
        name=f"{s}hack_paths.hack_path",
        shapes=("updates + 1, m, n", "updates + 1", "updates + 1"),
        unstable="refused",
        **first,
    )
    yield row(
        descents,
        name=f"{s}hack_paths.descents",
        shapes=("updates + 1, 2, m, n", "updates + 1, 2", "updates + 1, 2"),
        **first,
    )
    yield row(
        hack_paths.stable_gain,
        unstable="refused",
        **first,
    )
    yield row(
        forecasts.mean_cosine,
        "ratio=number",
        options={"dimension": 4},
        shapes=("...",),
    )
    kinds = {"option": "gains", "choices": ("constant", "stages")}
    yield from variants(
        asked,
        "first=K",
        single="first",
        name=f"{s}queries.asked",
        shapes=("2", "updates + 1, 3"),
        **kinds,
    )
    for name in ("kind_of", "excess_along"):
        yield row(
            along,
            "K",
            f"{s}queries.{name}",
            single="K",
            options={"gains": "constant"},
            shapes=("m, n", "m, n", "updates + 1"),
        )
    yield row(
        asked_once,
        "K",
        f"{s}queries.query_gradient",
        options={"gains": "constant"},
        shapes=parts,
        no_loop=OWN_NOISE,
    )
    yield row(
        followed,
        "data K0=K",
        f"{s}runs.frozen",
        single="data K0",
        shapes=("updates + 1",),
    )
    yield row(growing, name=f"{s}runs.collecting", shapes=("updates + 1",), **first)
    yield row(ended, name=f"{s}verdict.normalised", shapes=("",), **first)
    made = ("N, T+1, n", "N, T, m", "N, T", "N")
    yield row(batch, name=f"{s}runs.batch", shapes=made, **first)
    for name in ("distance", "optimum", "length"):
        yield row(
            distance, name=f"{s}setting.Setting.{name}", shapes=("", "", ""), **first
        )


ROWS = [
    *EXACT,
    *stages_rows(),
    *rates_rows(),
    *soft_rows(),
    *policy_rows(),
    *problem_rows(),
    *LYAPUNOV,
    *history_rows(),
    *rollout_rows(),
    *weights_rows(),
    *critic_rows(),
    *model_rows(),
    *data_rows(),
    *forecast_rows(),
    *ladder_rows(),
    *descent_rows(),
    *mbpo_rows(),
    *check_rows(),
    *envs_rows(),
    *studies_rows(),
]

# Public, and in no row: the reason, and the names.
LEFT_OUT = {
    "a record: its parts are what functions return": """
        check.Comparison check.GradientReport critic.Critic critic.Moments
        diagnose.Costs diagnose.Weights diagnose.Excitation diagnose.Forecast
        diagnose.Diagnosis ensemble.Plan estimate.GradientEstimate exact.Evaluation
        finite_horizon.StageEvaluation forecast.CriticLaw history.History
        ladder.Spread mbpo.MBPOHistory mbpo.SweepResult model.LinearModel
        rates.Domination rollout.Trajectories rollout.Transitions soft.Slope
        soft.Iterates weights.Steps studies.forecasts.CriticForecast
        studies.hack_paths.HackPath studies.hack_paths.Block studies.phases.Loop
        studies.queries.Kind studies.record.Study studies.record.Record
        studies.remedies.Remedy studies.setting.Setting studies.verdict.Task
    """,
    "settings: numbers and names": """
        mbpo_settings.MBPOSettings mbpo_settings.MBPOSettings.sizes
        mbpo_settings.split_batch studies.hack_paths.HackSettings
        studies.phases.loop_settings studies.hack.step_rule studies.phases.points
        studies.hack_paths.blocks_of
        studies.verdict.updates
    """,
    "an enumeration": "history.Status",
    "a number or words, read off a record": """
        check.GradientReport.passed diagnose.Forecast.arrives
        diagnose.Diagnosis.arrives diagnose.Diagnosis.recommended
        diagnose.Diagnosis.without_model diagnose.Diagnosis.reasons
        diagnose.Diagnosis.of diagnose.Diagnosis.report history.History.reason
        mbpo.MBPOHistory.reason policy.StagePolicy.horizon problem.LQR.n problem.LQR.m
        critic.feature_count studies.record.Record.at
    """,
    "takes no array": """
        worlds.double_integrator worlds.scalar worlds.laplacian worlds.three_rooms
        worlds.recht_double_integrator worlds.hambly worlds.random worlds.fazel
        studies.setting.settings
    """,
    "a class whose methods are in rows": "envs.LQREnv envs.LQRVectorEnv",
    "a study: long, and of sizes of its own": """
        studies.arrivals.passes studies.arrivals.arrival
        studies.forecasts.critic_forecast studies.forecasts.model_forecast
        studies.forecasts.hack_forecast studies.hack.sanity studies.hack.law
        studies.hack_paths.hack_paths studies.phases.plane studies.phases.variant
        studies.puzzle.first_check studies.queries.queries studies.remedies.remedy
        studies.verdict.ending
    """,
    "checks what it is handed, and hands it on": """
        critic.fitting rollout.attributed rollout.checked studies.setting.checked
    """,
    "reads or writes files": """
        studies.record.load studies.record.read studies.record.run studies.record.store
    """,
}
