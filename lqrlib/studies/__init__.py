"""The book's experiments: grids of runs over worlds, covariances, sizes and seeds.

A study is a function of its setting and one seed; those that cost more than a page may
take are run once by ``make record`` and stored with their seeds and versions. A page
recomputes a part of what it shows, and compares.
"""

from lqrlib.studies.arrivals import EXPRESSIONS, arrival, passes, policy_iteration
from lqrlib.studies.forecasts import (
    critic_forecast,
    hack_forecast,
    mean_cosine,
    model_forecast,
)
from lqrlib.studies.hack import MODES, STEPS, WEIGHTS, law, sanity, step_rule
from lqrlib.studies.phases import LOOPS, loop_settings, plane, points, variant
from lqrlib.studies.puzzle import CHECKED, first_check
from lqrlib.studies.record import STUDIES, Record, Study, load, read, run, store
from lqrlib.studies.remedies import OTHERS, REMEDIES, remedy
from lqrlib.studies.runs import batch, collecting, frozen
from lqrlib.studies.setting import Setting, settings
from lqrlib.studies.verdict import FAMILIES, METHODS, ending, normalised, updates

__all__ = [
    "CHECKED",
    "EXPRESSIONS",
    "FAMILIES",
    "LOOPS",
    "METHODS",
    "MODES",
    "OTHERS",
    "REMEDIES",
    "STEPS",
    "STUDIES",
    "WEIGHTS",
    "Record",
    "Setting",
    "Study",
    "arrival",
    "batch",
    "collecting",
    "critic_forecast",
    "ending",
    "first_check",
    "frozen",
    "hack_forecast",
    "law",
    "load",
    "loop_settings",
    "mean_cosine",
    "model_forecast",
    "normalised",
    "passes",
    "plane",
    "points",
    "policy_iteration",
    "read",
    "remedy",
    "run",
    "sanity",
    "settings",
    "step_rule",
    "store",
    "updates",
    "variant",
]
