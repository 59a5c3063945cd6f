"""One call for each public function, method and class, with a good value of everything.

From these calls `test_bad_options.py` makes its faults: of each argument in turn, by
the kind that its annotation says. Arrays have a table of their own in `arguments.py`,
with the shapes that are wrong; here they are given what is wrong in any shape.
"""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from arguments import ACTIONS, COSTS, COV, GAIN, LOOP, PATH, STAGES, STATES, WORLD
from systems import gaussian_data
from test_docstrings import OBJECTS

from lqrlib import (
    GaussianPolicy,
    History,
    LinearPolicy,
    MBPOSettings,
    StagePolicy,
    Status,
    diagnose,
    ensemble,
    exact,
    gradients,
    studies,
)
from lqrlib.critic import exact_critic
from lqrlib.envs import LQREnv, LQRVectorEnv
from lqrlib.model import fit
from lqrlib.rollout import transitions
from lqrlib.studies.hack_paths import HackSettings

DATA = gaussian_data(WORLD, GAIN, COV, 60, 4)
ROWS = transitions(DATA)
CRITIC, MODEL = exact_critic(WORLD, GAIN, COV), fit(ROWS)
MEMBERS = ensemble.stack([MODEL, MODEL])
SETTINGS = MBPOSettings(GAIN, "model", COV, n_trajectories=9, horizon=3, updates=1)
SETTING = studies.Setting(WORLD, GAIN, 4)
STUDY = studies.Study(studies.sanity, "double integrator", {"seed": (0,)})
RECORD = studies.load("records/puzzle.npz")
GAUSSIAN = GaussianPolicy(GAIN, COV)
NEAR = GAIN + 0.05
WIDE = 3000 * COV


def rng():
    return np.random.default_rng(0)


def slope(K):
    return exact.gradient(WORLD, K)


def stage_slope(K):
    return np.zeros(np.shape(K))


def on_data(data, K):
    return exact.gradient(WORLD, K)


_of_gain = {"lqr": WORLD, "K": GAIN}
_of_policy = _of_gain | {"cov": COV}
_of_stages = {"lqr": WORLD, "K": STAGES}
_last = {"terminal": WORLD.W}
_on_data = {"lqr": WORLD, "data": DATA, "K": GAIN, "cov": COV}
_soft = _of_policy | {"temperature": 0.5}
_pair = {"lqr": WORLD, "K": NEAR, "K_behaviour": GAIN, "cov": WIDE, "horizon": 3}
_weigh = {"trajectories": DATA, "policy": GAUSSIAN}
_imagined = {"lqr": WORLD, "members": MEMBERS}
_query = {"radius": 0.1, "n_trajectories": 2, "rng": rng, "two_point": True}
_run = {"setting": SETTING, "cov": 1.0, "size": 20, "seed": 0}
_descent = {"lqr": WORLD, "K0": GAIN, "gradient": slope, "step": 0.01}
_descent |= {"updates": 2, "within": 0.01}
_data_of = {"n_trajectories": 4, "horizon": 2, "rng": rng}

# Name, without "lqrlib.", of what is called → its good arguments, all of them. Those
# that are callables without arguments here are made anew for each call.
GOOD = {
    "check.check_gradient": {
        "gradient": gradients.per_decision_is,
        "lqr": WORLD,
        "K_behaviour": GAIN,
        "rng": rng,
        "cov": COV,
        "target": "gaussian",
        "n_trajectories": 3,
        "horizon": 2,
        "data_sets": 15,
        "reach": 0.25,
        "tolerance": 0.02,
        "level": 0.01,
    },
    "critic.Critic.gain_error": {"K": GAIN},
    "critic.Critic.gauss_newton": {"K": GAIN},
    "critic.lstdq": _of_gain | {"transitions": ROWS},
    "critic.sums": {"lqr": WORLD, "transitions": ROWS},
    "critic.linearised": _of_gain | {"data": DATA},
    "critic.exact_critic": _of_policy,
    "critic.of_gaussian": {"lqr": WORLD, "critic": CRITIC, "cov": COV},
    "critic.required": {"lqr": WORLD, "critic": CRITIC},
    "critic.feature_count": {"lqr": WORLD},
    "descent.descend": _descent,
    "descent.descend_stages": _descent
    | {"K0": STAGES, "gradient": stage_slope}
    | _last,
    "descent.of_length": {"length": 0.1},
    "descent.backtracking": {"lqr": WORLD, "first": 1.0, "cov": COV},
    "descent.backtracking_stages": {"lqr": WORLD, "first": 1.0} | _last,
    "diagnose.Diagnosis.of": {"n": 10},
    "diagnose.diagnose": _of_policy | {"horizon": 3, "n": 10},
    "diagnose.diagnoses": _of_gain | {"covs": [COV, None], "horizon": 3, "n": 10},
    "ensemble.stack": {"members": [MODEL, MODEL]},
    "ensemble.second_moment_map": _imagined | {"K": GAIN},
    "ensemble.is_stable": _imagined | {"K": GAIN},
    "ensemble.value_matrix": _imagined | {"K": GAIN},
    "ensemble.q_matrix": _imagined | {"P": WORLD.W},
    "ensemble.optimal_gain": _imagined,
    "envs.LQREnv": {"lqr": WORLD, "action_limit": 3.0, "state_limit": 10.0},
    "envs.LQREnv.reset": {"seed": 0, "options": {"x0": STATES[0]}},
    "envs.LQREnv.step": {"action": ACTIONS[0]},
    "envs.LQRVectorEnv": {
        "num_envs": 4,
        "lqr": WORLD,
        "action_limit": 3.0,
        "state_limit": 10.0,
        "max_episode_steps": 5,
    },
    "envs.LQRVectorEnv.reset": {"seed": 0, "options": {"x0": STATES[0]}},
    "envs.LQRVectorEnv.step": {"actions": ACTIONS},
    "exact.is_stable": _of_gain,
    "exact.value_matrix": _of_gain,
    "exact.state_moment": _of_policy,
    "exact.moment_source": {"lqr": WORLD, "cov": COV},
    "exact.q_matrix": _of_gain,
    "exact.gain_error": _of_gain,
    "exact.cost": _of_policy,
    "exact.gradient": _of_policy,
    "exact.evaluate": _of_policy,
    "exact.natural_gradient": _of_gain,
    "exact.gauss_newton": _of_gain,
    "exact.optimal_gain": {"lqr": WORLD},
    "exact.average_cost": _of_policy,
    "finite_horizon.constant": _of_gain | {"horizon": 4},
    "finite_horizon.value_matrices": _of_stages | _last,
    "finite_horizon.state_moments": _of_stages | {"cov": COV},
    "finite_horizon.gain_errors": _of_stages | _last,
    "finite_horizon.cost": _of_stages | {"cov": COV} | _last,
    "finite_horizon.gradient": _of_stages | {"cov": COV} | _last,
    "finite_horizon.evaluate": _of_stages | {"cov": COV} | _last,
    "finite_horizon.optimal_gains": {"lqr": WORLD, "horizon": 4} | _last,
    "finite_horizon.stages": _of_stages,
    "finite_horizon.terminal_cost": {"lqr": WORLD} | _last,
    "forecast.step_moments": _of_policy | {"horizon": 3},
    "forecast.identifiable": _of_policy | {"horizon": 3},
    "forecast.effective_rows": _of_policy | {"horizon": 3},
    "forecast.model_law": _of_policy | {"horizon": 3},
    "forecast.gain_slope": {"lqr": WORLD},
    "forecast.critic_law": _of_policy | {"horizon": 3},
    "forecast.median_rise": {"lqr": WORLD, "law": np.eye(6)},
    "forecast.weighted_median": {"weights": np.ones(3)},
    "forecast.weighted_cdf": {"weights": np.ones(3), "x": 1.0},
    "gradients.dpg": _on_data | {"critic": CRITIC},
    "gradients.natural_dpg": _on_data | {"critic": CRITIC},
    "gradients.gauss_newton_dpg": _on_data | {"critic": CRITIC},
    "gradients.zeroth_order": _of_gain | _query | {"horizon": 3, "x0": np.ones((1, 3))},
    "gradients.zeroth_order_stages": _of_stages
    | _query
    | _last
    | {"x0": np.ones((1, 3))},
    "history.History.judge": {
        "K": PATH,
        "cost": COSTS,
        "optimum": 1.0,
        "within": 0.01,
        "stages": False,
    },
    "history.History.share": {"status": Status.CONVERGED},
    "importance.trajectory_is": _on_data | {"baseline": True},
    "importance.per_decision_is": _on_data
    | {"time_baseline": False, "value_baseline": True},
    "importance.self_normalised_is": _on_data
    | {"time_baseline": True, "mixture": False},
    "importance.mixture_is": _on_data,
    "importance.clipped_is": _on_data | {"limit": 10.0},
    "importance.estimated_cost": _on_data | {"weighting": "per-decision"},
    "ladder.spread": _pair | {"rung": "TD error"},
    "lyapunov.spectral_radius": {"F": LOOP},
    "lyapunov.forward": {"F": LOOP, "D": WORLD.W},
    "lyapunov.adjoint": {"F": LOOP, "C": WORLD.Q},
    "lyapunov.both": {"F": LOOP, "D": WORLD.W, "C": WORLD.Q},
    "lyapunov.is_stable": {"F": LOOP},
    "mbpo.mbpo": {"lqr": WORLD, "settings": SETTINGS, "rng": rng},
    "mbpo.sweep": {
        "lqr": WORLD,
        "settings": SETTINGS,
        "axes": {"cov": (1.0,)},
        "seeds": [0],
        "executor": None,
        "progress": None,
    },
    "mbpo_settings.MBPOSettings": {
        "K0": GAIN,
        "expression": "soft",
        "cov": COV,
        "real_ratio": 0.5,
        "n_trajectories": 9,
        "horizon": 4,
        "updates": 1,
        "collections": 1,
        "batch_size": 8,
        "branch_length": 2,
        "members": 3,
        "elites": 2,
        "mixing": "bernoulli",
        "lag": 0.5,
        "step_length": 0.05,
        "damping": 0.5,
        "temperature": 0.1,
    },
    "mbpo_settings.split_batch": {"batch_size": 9, "real_ratio": 0.5},
    "model.LinearModel.problem": {"lqr": WORLD},
    "model.fit": {"transitions": ROWS},
    "model.prediction_error": {"model": MODEL, "transitions": ROWS},
    "model.fit_ensemble": {
        "transitions": ROWS,
        "size": 3,
        "rng": rng,
        "elites": 2,
        "holdout": 0.2,
    },
    "observed.widen": _of_gain,
    "observed.best_gain": _of_gain,
    "policy.LinearPolicy": {"K": GAIN},
    "policy.LinearPolicy.act": {"x": STATES, "rng": None},
    "policy.StagePolicy": {"K": STAGES},
    "policy.StagePolicy.act": {"x": STATES, "rng": None, "stage": 1},
    "policy.GaussianPolicy": {"K": GAIN, "cov": COV},
    "policy.GaussianPolicy.act": {"x": STATES, "rng": rng},
    "policy.GaussianPolicy.log_prob": {"x": STATES, "u": ACTIONS},
    "policy.GaussianPolicy.score": {"x": STATES, "u": ACTIONS},
    "problem.LQR": {
        name: getattr(WORLD, name) for name in ("A", "B", "Q", "R", "W", "X0", "gamma")
    },
    "problem.LQR.gain": {"K": GAIN},
    "problem.LQR.closed_loop": {"K": GAIN},
    "rates.direction": {"lqr": WORLD, "method": "gradient", "cov": COV},
    "rates.curvature": _of_gain,
    "rates.cost_change": _of_policy | {"K_new": NEAR},
    "rates.domination": _of_policy,
    "rates.step_limit": {"lqr": WORLD, "method": "gradient", "cov": COV},
    "rates.local_rate": {
        "lqr": WORLD,
        "method": "gradient",
        "step": 0.1,
        "cov": COV,
    },
    "rates.contraction": _of_policy | {"method": "gauss_newton", "step": 0.5},
    "remedies.per_step_is": _on_data | {"baseline": True},
    "remedies.ppo_is": _on_data | {"clip": 0.2, "normalise": True},
    "remedies.doubly_robust_is": _on_data | {"critic": CRITIC},
    "remedies.actor_critic_is": _on_data | {"critic": CRITIC, "signal": "advantage"},
    "rollout.rollout": _data_of
    | {
        "dynamics": WORLD,
        "policy": GAUSSIAN,
        "x0": STATES,
        "noise": np.ones((4, 2, 5)),
    },
    "rollout.draw_starts": {
        "lqr": WORLD,
        "n_trajectories": 4,
        "rng": rng,
        "lead": (2,),
    },
    "rollout.draw_noise": _data_of | {"width": 5},
    "rollout.draw_each": {
        "lqr": WORLD,
        "n_trajectories": 4,
        "horizon": 2,
        "rngs": lambda: [rng(), rng()],
    },
    "rollout.concatenate": {"parts": [DATA, DATA]},
    "rollout.transitions": {"trajectories": DATA},
    "rollout.usable": {"transitions": ROWS},
    "rollout.stage_matrix": {"lqr": WORLD},
    "soft.entropy": {"cov": COV, "size": 2},
    "soft.cost": _soft,
    "soft.best_covariance": _of_gain | {"temperature": 0.5},
    "soft.optimal_policy": {"lqr": WORLD, "temperature": 0.5},
    "soft.optimal_cost": {"lqr": WORLD, "temperature": 0.5},
    "soft.action_value": _soft,
    "soft.policy_iteration": _soft | {"steps": 2},
    "soft.gradient": _soft,
    "soft.fisher_gradient": _soft,
    "soft.pathwise_spread": _pair | {"cov": COV},
    "studies.arrivals.policy_iteration": {"setting": SETTING, "data": DATA},
    "studies.arrivals.passes": _run,
    "studies.arrivals.arrival": _run | {"expression": "model"},
    "studies.forecasts.critic_forecast": {
        "setting": SETTING,
        "cov": 1.0,
        "ratios": (0.5,),
        "size": 20,
        "damping": 0.5,
    },
    "studies.forecasts.model_forecast": {"setting": SETTING, "cov": 1.0, "size": 20},
    "studies.forecasts.hack_forecast": {
        "setting": SETTING,
        "covs": (1.0,),
        "ratios": (0.5,),
        "size": 20,
        "updates": 1,
        "length": 0.05,
    },
    "studies.forecasts.mean_cosine": {"ratio": np.ones(2), "dimension": 2},
    "studies.hack.step_rule": {"setting": SETTING, "kind": "plain", "cov": 1.0},
    "studies.hack.sanity": _run,
    "studies.hack.law": _run,
    "studies.hack_paths.HackSettings": {
        "horizon": 4,
        "updates": 2,
        "length": 0.05,
        "spread": 0.1,
    },
    "studies.hack_paths.hack_path": {
        "lqr": WORLD,
        "K0": GAIN,
        "cov": 1.0,
        "n_trajectories": 20,
        "data": "Gaussian",
        "seed": 0,
        "settings": HackSettings(4, 2),
    },
    "studies.queries.query_gradient": _of_gain
    | {"points": "two", "gains": "stages", "radius": 0.1, "m": 2.0, "rng": rng},
    "studies.phases.loop_settings": {
        "setting": SETTING,
        "loop": "fixed",
        "expression": "dpg",
    },
    "studies.phases.plane": {
        "setting": SETTING,
        "loop": "fixed",
        "expression": "model",
        "seed": 0,
    },
    "studies.phases.variant": {
        "setting": SETTING._replace(horizon=10),
        "expression": "dpg",
        "lag": 0.0,
        "branch_length": 2,
        "members": 1,
        "seed": 0,
    },
    "studies.phases.points": {"settings": SETTINGS},
    "studies.puzzle.first_check": {
        "setting": SETTING,
        "name": "deterministic",
        "cov": 1.0,
        "seed": 0,
    },
    "studies.record.Record.at": {"values": "deterministic"},
    "studies.record.load": {"file": "records/puzzle.npz"},
    "studies.record.read": {"file": "records/agents.json"},
    "studies.record.run": {"study": STUDY, "workers": 1},
    "studies.record.store": {"name": "puzzle", "folder": "nowhere"},
    "studies.remedies.remedy": _run | {"name": "planning"},
    "studies.runs.batch": _run,
    "studies.runs.frozen": {
        "setting": SETTING,
        "data": DATA,
        "gradient": on_data,
        "step": 0.01,
        "updates": 2,
    },
    "studies.runs.collecting": {
        "setting": SETTING,
        "cov": 1.0,
        "size": 20,
        "gradient": on_data,
        "step": 0.01,
        "rng": rng,
        "collections": 2,
        "updates": 2,
    },
    "studies.verdict.normalised": {
        "setting": SETTING,
        "direction": slope,
        "updates": 10,
        "runs": 2,
    },
    "studies.verdict.updates": {"method": "planning", "size": 20},
    "studies.verdict.ending": _run | {"method": "planning"},
    "weight_moments.log_moment": _pair | {"order": 1.5, "cov_behaviour": WIDE},
    "weight_moments.moment": _pair | {"order": 1.5, "cov_behaviour": WIDE},
    "weight_moments.second_moment": _pair | {"cov_behaviour": WIDE},
    "weight_moments.tail_index": _pair | {"cov_behaviour": WIDE},
    "weight_moments.breakdown": {
        "lqr": WORLD,
        "K_behaviour": GAIN,
        "direction": NEAR,
        "cov": COV,
        "horizon": 3,
        "order": 2.0,
    },
    "weight_moments.critical_covariance": {
        "lqr": WORLD,
        "K": NEAR,
        "K_behaviour": GAIN,
        "horizon": 3,
    },
    "weights.log_weights": _weigh | {"mixture": False},
    "weights.log_ratios": _weigh,
    "weights.effective_sample_size": {"log_w": np.array([0.0, -1.0])},
    "worlds.scalar": dict.fromkeys(("a", "b", "q", "r", "w", "x0", "gamma"), 0.9),
    "worlds.with_lag": {"lqr": WORLD, "lag": 0.5},
    "worlds.random": {"n": 2, "m": 2, "rng": rng},
    "worlds.fazel": {"n": 2, "m": 2, "rng": rng},
}


# What is not called by users with arguments of their own, and why.
RECORDS = "returned by the library; where users hand it on, it is checked there"
SHARED = "shared between modules, after their checks"
EXEMPT = {
    "critic.fitting": SHARED,
    "critic.moments": SHARED,
    "critic.path_moments": SHARED,
    "critic.products": SHARED,
    "critic.lift": SHARED,
    "critic.solve": SHARED,
    "descent.moved": SHARED,
    "estimate.mean_and_error": SHARED,
    "rollout.attributed": SHARED,
    "rollout.checked": SHARED,
    "rollout.given_noise": SHARED,
    "rollout.fresh_noise": SHARED,
    "rollout.packed": SHARED,
    "weights.weighed": SHARED,
    "weights.add_up": SHARED,
    "weights.residual": SHARED,
    "weights.running_sum": SHARED,
    "weights.log_density": SHARED,
    "weights.few_steps": SHARED,
    "weights.of_steps": SHARED,
    "studies.hack.expression": SHARED,
    "studies.setting.checked": SHARED,
    "studies.hack_paths.hack_paths": SHARED,
    "studies.hack_paths.stable_gain": SHARED,
    "studies.hack_paths.blocks_of": SHARED,
    "studies.hack_paths.descents": SHARED,
    "studies.queries.queries": SHARED,
    "studies.queries.asked": SHARED,
    "studies.queries.kind_of": SHARED,
    "studies.queries.excess_along": SHARED,
    "history.Status": "an enumeration",
    "history.History": RECORDS,
    "mbpo.MBPOHistory": RECORDS,
    "check.GradientReport": RECORDS,
}

# Methods are called on these.
OWNERS: dict[str, Callable[[], Any]] = {
    "critic.Critic": lambda: CRITIC,
    "diagnose.Diagnosis": functools.cache(
        lambda: diagnose.diagnose(WORLD, GAIN, COV, 3, 10)
    ),
    "envs.LQREnv": lambda: begun(LQREnv(WORLD)),
    "envs.LQRVectorEnv": lambda: begun(LQRVectorEnv(4, WORLD)),
    "history.History": lambda: History.judge(PATH, COSTS, 1.0),
    "model.LinearModel": lambda: MODEL,
    "policy.LinearPolicy": lambda: LinearPolicy(GAIN),
    "policy.StagePolicy": lambda: StagePolicy(STAGES),
    "policy.GaussianPolicy": lambda: GAUSSIAN,
    "problem.LQR": lambda: WORLD,
    "studies.record.Record": lambda: RECORD,
}

# Not made wrong, and why: kind of fault by argument, or all of them.
UNUSED = "accepted and not used, so that functions of one kind are alike"
LATER = "checked by what is given the settings, which knows the sizes"
NOT_WRONG: dict[tuple[str, str], dict[str, str]] = {
    **{
        (f"gradients.{name}", "cov"): {"": UNUSED}
        for name in ("dpg", "natural_dpg", "gauss_newton_dpg")
    },
    ("policy.LinearPolicy.act", "rng"): {"": UNUSED},
    ("policy.StagePolicy.act", "rng"): {"": UNUSED},
    ("mbpo_settings.MBPOSettings", "K0"): {"": LATER},
    ("mbpo_settings.MBPOSettings", "cov"): {"": LATER},
    ("history.History.judge", "K"): {"axes": "then the costs do not fit"},
    ("history.History.judge", "cost"): {"inf": "of an unstable gain"},
    ("history.History.share", "status"): {"3": "a status is a number"},
    ("policy.LinearPolicy", "K"): {"axes": "a gain of any sizes"},
    ("policy.StagePolicy", "K"): {"axes": "gains of any sizes"},
    ("policy.GaussianPolicy", "K"): {"axes": "then the covariance does not fit"},
    ("rates.local_rate", "step"): {"axes": "a step of any shape"},
    ("rollout.draw_starts", "lead"): {"empty": "no leading axes"},
    ("studies.record.store", "folder"): {"empty": "the folder one is in"},
    ("studies.phases.variant", "branch_length"): {"None": "all steps"},
    ("weight_moments.log_moment", "order"): {"axes": "orders of any shape"},
    ("weight_moments.moment", "order"): {"axes": "orders of any shape"},
    ("weight_moments.breakdown", "order"): {"axes": "orders of any shape"},
    ("weights.effective_sample_size", "log_w"): {"axes": "weights of any shape"},
    ("studies.forecasts.mean_cosine", "ratio"): {"axes": "ratios of any shape"},
}
# Fields that are carried along by who is given the record, and not read.
NOT_READ = {
    ("LinearModel", "W"),
    ("LinearModel", "condition"),
    ("Trajectories", "diverged"),
}
# Who asks what happened, and not whose policy it was, takes a part of the state, too.
NO_POLICY = ("critic.", "gradients.", "rollout.transitions", "studies.")


def begun(env):
    env.reset(seed=0)
    return env


class Option(NamedTuple):
    """An argument of a public callable: its kind, and a good value."""

    owner: str
    name: str
    kind: str
    optional: bool

    @property
    def good(self):
        return made(GOOD[self.owner][self.name])

    def call(self, value):
        """Everything good but this argument."""
        return called(self.owner, **{self.name: value})


def made(value):
    """What is to be fresh for each call is here a function without arguments."""
    fresh = inspect.isfunction(value) and not inspect.signature(value).parameters
    return value() if fresh else value


def called(owner, **changes):
    """The call of the table, with some arguments changed."""
    given = GOOD[owner] | changes
    given = {
        name: value if name in changes else made(value) for name, value in given.items()
    }
    if owner == "studies.record.Record.at":
        return RECORD.at(name=given["values"])
    home, _, last = owner.rpartition(".")
    called = getattr(OWNERS[home](), last) if home in OWNERS else public(owner)
    return called(**given)


def public(owner):
    return OBJECTS[f"lqrlib.{owner}"]


# The kinds, in the order in which annotations are asked for them.
KINDS = {
    r"^collections.abc.Sequence|^lqrlib.*Sequence": "sequence",
    r"numpy._typing._array_like": "array",
    r"float \| collections.abc.Callable": "step",
    r"Callable": "callable",
    r"LQR": "LQR",
    r"Mapping": "mapping",
    r"\.(Trajectories|Transitions|Critic|LinearModel|MBPOSettings|HackSettings)": "",
    r"\.(Setting|Study|Status)\b": "",
    r"Executor": "executor",
    r"Policy": "policy",
    r"Generator": "rng",
    r"pathlib": "path",
    r"numpy.ndarray": "result",
    r"bool": "flag",
    r"int": "count",
    r"float": "number",
    r"str|typing.Any": "choice",
}


def kind_of(name, annotation):
    if name in ("seed", "stage"):
        return name
    for pattern, kind in KINDS.items():
        if found := re.search(pattern, annotation):
            return kind or found.group(1)
    raise AssertionError(f"{name}: {annotation} is of no known kind")


def options():
    for owner, given in GOOD.items():
        parameters = inspect.signature(public(owner)).parameters
        for name in given:
            annotation = str(parameters[name].annotation)
            if "enum" in annotation:
                annotation = ".Status"
            # None is a covariance, that of a deterministic policy.
            optional = "None" in annotation or name == "cov"
            yield Option(owner, name, kind_of(name, annotation), optional)


OPTIONS = list(options())

NAN, INF = float("nan"), float("inf")
NOT_WHOLE = {
    "-1": -1,
    "1.5": 1.5,
    "text": "2",
    "a truth": True,
    "nan": NAN,
    "a list": [2],
    "complex": 1j,
    "an object": object(),
    "masked": np.ma.masked,
}
NOT_ONE = {
    "text": "1",
    "complex": 1j,
    "a list": [1.0],
    "an empty list": [],
    "a truth": True,
    "an object": object(),
    "nan": NAN,
    "inf": INF,
    "-inf": -INF,
    "a huge whole number": 10**400,
    "masked": np.ma.masked,
}
WRONG: dict[str, dict[str, Any]] = {
    "count": NOT_WHOLE | {"0": 0, "huge": 10**30},
    "seed": NOT_WHOLE,
    "stage": NOT_WHOLE | {"past the last": 4, "huge": 10**30},
    "number": NOT_ONE,
    "step": NOT_ONE,
    "choice": {
        "an unknown word": "unknown",
        "an empty text": "",
        "3": 3,
        "a list": ["x"],
        "an array": np.array(["x", "y"]),
        "a truth": True,
        "bytes": b"x",
        "an unhashable": {},
    },
    "flag": {
        "text": "no",
        "2": 2,
        "0": 0,
        "1.0": 1.0,
        "a list": [True],
        "an array": np.array([True, False]),
        "an object": object(),
    },
    "rng": {
        "a seed": 0,
        "a module": np.random,
        "an old generator": np.random.RandomState(0),
        "a function": np.random.default_rng,
    },
    "callable": {"3": 3, "text": "f", "a list": []},
    "executor": {"3": 3, "map": map, "an object": object()},
    "path": {
        "3": 3,
        "a list": ["x"],
        "no such file": "no/such/file",
        "empty": "",
        "bytes": b"x",
        "a null character": "a\0b",
        "too long": 5000 * "x",
    },
    "sequence": {
        "3": 3,
        "text": "x",
        "nan": NAN,
        "empty": [],
        "of objects": [object()],
        "a dictionary": {},
    },
    "mapping": {"3": 3, "text": "x", "a list": ["x"], "unknown": {"unknown": 1}},
}
INSTANCES = {
    "3": 3,
    "text": "unknown",
    "an array": np.eye(3),
    "a dictionary": {"a": 1},
    "a tuple": (1, 2, 3),
    "an object": object(),
    "a class": LinearPolicy,
}


def wrong_arrays(good):
    """What is wrong in any shape, made of a good one."""
    good = np.array(good, dtype=float)
    last = np.arange(good.size).reshape(good.shape) == good.size - 1
    return {
        "complex": good.astype(complex),
        "strings": good.astype(str),
        "booleans": good.astype(bool),
        "objects": good.astype(object),
        "dates": good.astype("datetime64[s]"),
        "records": np.zeros(good.shape, dtype="f8,f8"),
        "ragged": [[1.0], [1.0, 2.0]],
        "a dictionary": {"a": 1},
        "an object": object(),
        "text": "x",
        "empty": [],
        "masked": np.ma.masked_array(good, mask=last),
        "axes": np.ones((5, 4, 7, 6)),
        "nan": np.where(last, NAN, good),
        "inf": np.where(last, INF, good),
    }


def wrong(option):
    """Name → a faulty value of an argument."""
    if option.kind in ("array", "result"):
        found = wrong_arrays(option.good)
        if option.kind == "result":  # of arithmetic, where nan and inf are data
            found = {k: v for k, v in found.items() if k not in ("nan", "inf")}
    else:
        found = dict(WRONG.get(option.kind, INSTANCES))
    if not option.optional:
        found["None"] = None
    excepted = NOT_WRONG.get((option.owner, option.name), {})
    return {} if "" in excepted else {k: found[k] for k in found if k not in excepted}


def parts_of(option):
    """Field of a record that a user hands on → name → the record with it wrong."""
    record = option.good[0] if option.kind == "sequence" else option.good
    read = [f for f in record._fields if (type(record).__name__, f) not in NOT_READ]
    if option.owner in ("ensemble.stack", "rollout.concatenate"):
        read = list(record._fields)
    if option.owner.startswith(NO_POLICY) and "policy" in read:
        read.remove("policy")
    for field in read:
        good = getattr(record, field)
        if field == "horizon":
            bad = WRONG["count"]
        elif isinstance(good, int | float | np.ndarray | np.generic):
            bad = wrong_arrays(good)
            bad = {k: v for k, v in bad.items() if k not in ("nan", "inf")}
            if np.asarray(good).dtype == bool:
                del bad["booleans"]
            if option.owner == "ensemble.stack":  # of all members alike
                del bad["axes"]
        else:
            bad = INSTANCES
        for fault, value in bad.items():
            yield f"{field}: {fault}", record._replace(**{field: value})


RECORD_KINDS = ("Trajectories", "Transitions", "Critic", "LinearModel", "Setting")
WITH_PARTS = [
    option
    for option in OPTIONS
    if option.kind in RECORD_KINDS
    or (option.kind == "sequence" and option.name in ("members", "parts"))
]
ARRAYS = [option for option in OPTIONS if option.kind in ("array", "result")]
NUMBERS = [option for option in OPTIONS if option.kind == "number"]


def extreme(good):
    """Entries at the ends of the floats."""
    good = np.array(good, dtype=float)
    first, last = good.copy(), good.copy()
    first.flat[0], last.flat[-1] = 1e-320, 1e308
    scales = (1e-320, 1e-200, 0.0, 1e16, 1e60, 1e200, 1e300, -1e100)
    yield from ((f"times {scale:g}", scale * good) for scale in scales)
    yield "one of 1e-320", first
    yield "one of 1e308", last
