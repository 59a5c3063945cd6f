"""What draws: figures (matplotlib) and explorers (HTML in the book, ipywidgets live).

Nothing in `lqrlib` outside this package imports matplotlib or ipywidgets.
"""

from lqrlib.show.controls import Choice, Slider
from lqrlib.show.explorer import Explorer
from lqrlib.show.known_world import forecast, gain_explorer
from lqrlib.show.landscape import gain_plane, landscape
from lqrlib.show.scene import Panel
from lqrlib.show.still import Still
from lqrlib.show.style import COLOURS, band, figure, set_band

__all__ = [
    "COLOURS",
    "Choice",
    "Explorer",
    "Panel",
    "Slider",
    "Still",
    "band",
    "figure",
    "forecast",
    "gain_explorer",
    "gain_plane",
    "landscape",
    "set_band",
]
