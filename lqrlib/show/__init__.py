"""What draws: figures (matplotlib) and explorers (HTML in the book, ipywidgets live).

Nothing in `lqrlib` outside this package imports matplotlib or ipywidgets.
"""

from lqrlib.show.controls import Choice, Slider
from lqrlib.show.diagnose import Diagnoses, diagnosis_explorer
from lqrlib.show.exact_gradient import method_explorer
from lqrlib.show.explorer import Explorer
from lqrlib.show.hack import hack_explorer
from lqrlib.show.hack_study import (
    HackSettings,
    HackStudy,
    hack_path,
    hack_study,
    recorded_hack,
)
from lqrlib.show.known_world import forecast, gain_explorer
from lqrlib.show.ladder import ladder_explorer
from lqrlib.show.ladder_study import LadderStudy, ladder_study
from lqrlib.show.landscape import claims, gain_plane, landscape
from lqrlib.show.ledger import claim
from lqrlib.show.model import model_explorer
from lqrlib.show.model_study import ModelStudy, model_data, model_study
from lqrlib.show.phases import phase_explorer, thinned
from lqrlib.show.puzzle import (
    REGIONS,
    PhaseLoop,
    excess,
    learning_curve,
    learning_figure,
    puzzle_explorer,
    quartiles,
    region,
)
from lqrlib.show.queries import query_explorer
from lqrlib.show.query_study import (
    QueryStudy,
    query_gradient,
    query_study,
    recorded_queries,
)
from lqrlib.show.scene import Panel, Scene
from lqrlib.show.still import Still
from lqrlib.show.style import COLOURS, EXPRESSIONS, band, figure, set_band
from lqrlib.show.surrogate_study import Surrogate, SurrogatePath, surrogate
from lqrlib.show.surrogates import surrogate_explorer
from lqrlib.show.verdict import FAMILY_COLOURS, Verdicts, verdict_explorer
from lqrlib.show.weight_region import weight_explorer

__all__ = [
    "COLOURS",
    "EXPRESSIONS",
    "FAMILY_COLOURS",
    "REGIONS",
    "Choice",
    "Diagnoses",
    "Explorer",
    "HackSettings",
    "HackStudy",
    "LadderStudy",
    "ModelStudy",
    "Panel",
    "PhaseLoop",
    "QueryStudy",
    "Scene",
    "Slider",
    "Still",
    "Surrogate",
    "SurrogatePath",
    "Verdicts",
    "band",
    "claim",
    "claims",
    "diagnosis_explorer",
    "excess",
    "figure",
    "forecast",
    "gain_explorer",
    "gain_plane",
    "hack_explorer",
    "hack_path",
    "hack_study",
    "ladder_explorer",
    "ladder_study",
    "landscape",
    "learning_curve",
    "learning_figure",
    "method_explorer",
    "model_data",
    "model_explorer",
    "model_study",
    "phase_explorer",
    "puzzle_explorer",
    "quartiles",
    "query_explorer",
    "query_gradient",
    "query_study",
    "recorded_hack",
    "recorded_queries",
    "region",
    "set_band",
    "surrogate",
    "surrogate_explorer",
    "thinned",
    "verdict_explorer",
    "weight_explorer",
]
