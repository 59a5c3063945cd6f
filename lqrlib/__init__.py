"""lqrlib: policy gradients and MBPO where everything can be computed exactly.

The world is linear, the cost quadratic, the policy u = Kx. Floors, from below:

- `lqrlib.problem`, `lqrlib.lyapunov`, `lqrlib.history`: the problem, the one solver,
  the record of a descent;
- `lqrlib.worlds`, `lqrlib.exact`, `lqrlib.policy`: named worlds, closed forms in K,
  policies.

`lqrlib.show` draws; it is imported on its own and needs matplotlib and ipywidgets.
"""

from lqrlib import exact, history, lyapunov, policy, problem, worlds
from lqrlib.history import History, Status
from lqrlib.policy import GaussianPolicy, LinearPolicy
from lqrlib.problem import LQR

__version__ = "0.1.0"

__all__ = [
    "LQR",
    "GaussianPolicy",
    "History",
    "LinearPolicy",
    "Status",
    "exact",
    "history",
    "lyapunov",
    "policy",
    "problem",
    "worlds",
]
