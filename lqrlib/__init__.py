"""lqrlib: policy gradients and MBPO where everything can be computed exactly.

The world is linear, the cost quadratic, the policy u = Kx. Floors, from below:

- `lqrlib.problem`, `lqrlib.lyapunov`, `lqrlib.history`: the problem, the one solver,
  the record of a descent;
- `lqrlib.worlds`, `lqrlib.exact`, `lqrlib.finite_horizon`, `lqrlib.policy`: named
  worlds, closed forms in K and in the gains of T stages, policies;
- `lqrlib.rates`: what a step does to the cost, and how fast steps arrive;
- `lqrlib.observed`: gains that see a part of the state only;
- `lqrlib.rollout`: trajectories and transitions;
- `lqrlib.weights`, `lqrlib.weight_moments`: importance weights, sampled and exact;
- `lqrlib.model`, `lqrlib.critic`: the fitted model, the fitted action value;
- `lqrlib.ensemble`: what many models plan when one is drawn at every step;
- `lqrlib.ladder`: mean and variance of each gradient estimate, exactly;
- `lqrlib.gradients`: the sampled expressions, of which `lqrlib.importance` holds those
  with weights, and `lqrlib.remedies` what else is said to help them;
- `lqrlib.descent`: steps along any of them;
- `lqrlib.soft`: the maximum-entropy problem that soft actor-critic solves;
- `lqrlib.mbpo_settings`, `lqrlib.mbpo`: the whole loop, alone and over a grid;
- `lqrlib.forecast`, `lqrlib.diagnose`: what data will be worth, before they are made;
- `lqrlib.check`: whether a gradient function of your own has the right mean.

`lqrlib.show` draws; it is imported on its own and needs matplotlib and ipywidgets.
"""

from lqrlib import (
    check,
    critic,
    descent,
    diagnose,
    ensemble,
    estimate,
    exact,
    finite_horizon,
    forecast,
    gradients,
    history,
    importance,
    ladder,
    lyapunov,
    mbpo,
    mbpo_settings,
    model,
    observed,
    policy,
    problem,
    rates,
    remedies,
    rollout,
    soft,
    weight_moments,
    weights,
    worlds,
)
from lqrlib.check import GradientReport
from lqrlib.critic import Critic
from lqrlib.diagnose import Diagnosis
from lqrlib.estimate import GradientEstimate
from lqrlib.history import History, Status
from lqrlib.mbpo import MBPOHistory, SweepResult
from lqrlib.mbpo_settings import MBPOSettings
from lqrlib.model import LinearModel
from lqrlib.policy import GaussianPolicy, LinearPolicy, StagePolicy
from lqrlib.problem import LQR
from lqrlib.rollout import Trajectories, Transitions

__version__ = "0.1.0"

__all__ = [
    "LQR",
    "Critic",
    "Diagnosis",
    "GaussianPolicy",
    "GradientEstimate",
    "GradientReport",
    "History",
    "LinearModel",
    "LinearPolicy",
    "MBPOHistory",
    "MBPOSettings",
    "StagePolicy",
    "Status",
    "SweepResult",
    "Trajectories",
    "Transitions",
    "check",
    "critic",
    "descent",
    "diagnose",
    "ensemble",
    "estimate",
    "exact",
    "finite_horizon",
    "forecast",
    "gradients",
    "history",
    "importance",
    "ladder",
    "lyapunov",
    "mbpo",
    "mbpo_settings",
    "model",
    "observed",
    "policy",
    "problem",
    "rates",
    "remedies",
    "rollout",
    "soft",
    "weight_moments",
    "weights",
    "worlds",
]
