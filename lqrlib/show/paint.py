"""Paint one figure again and again, when only its moving artists have moved.

Most of the time of a drawing goes into axes and texts, which stand still.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from lqrlib.show.geometry import Movable


class Painter:
    """A figure whose still part is drawn once.

    Parameters
    ----------
    figure : matplotlib Figure
        With one axes, from `lqrlib.show.figure`, its layout frozen.
    moving : sequence of Line2D and Polygon
        The artists that move, of this figure and of others.
    dpi : int
        Pixels an inch of the picture.
    """

    def __init__(self, figure: Figure, moving: Sequence[Movable], dpi: int) -> None:
        (ax,) = figure.axes
        self._figure, self._dpi = figure, dpi
        self._canvas = cast(Any, FigureCanvasAgg(figure))  # its methods have no types
        drawn = (artist for artist in ax.get_children() if artist is not ax.patch)
        order = sorted(drawn, key=lambda artist: artist.zorder)
        moves = [artist in moving for artist in order]
        first = moves.index(True) if any(moves) else len(moves)
        # From the first moving artist on all is drawn every time, but for ticks and
        # labels of the axes, which lie outside of where anything moves.
        self._again = [a for a in order[first:] if not isinstance(a, Axis)]
        with _hidden(self._again), self._sharp():
            self._canvas.draw()
            self._still = self._canvas.copy_from_bbox(figure.bbox)

    def png(self) -> bytes:
        """The figure as it stands now.

        Returns
        -------
        bytes
            A PNG image.
        """
        buffer = io.BytesIO()
        with self._sharp():
            self._canvas.restore_region(self._still)
            renderer = self._canvas.get_renderer()
            for artist in self._again:
                artist.draw(renderer)
            # A loose compression: the picture goes to a browser on this computer.
            loose = {"compress_level": 1}
            imsave(buffer, self._canvas.buffer_rgba(), format="png", pil_kwargs=loose)
        return buffer.getvalue()

    @contextmanager
    def _sharp(self) -> Iterator[None]:
        """Draw at the picture's resolution; the page's face reads pixels at its own."""
        usual = self._figure.dpi
        self._figure.dpi = self._dpi
        try:
            yield
        finally:
            self._figure.dpi = usual


@contextmanager
def _hidden(artists: Sequence[Artist]) -> Iterator[None]:
    seen = [artist for artist in artists if artist.get_visible()]
    for artist in seen:
        artist.set_visible(False)
    try:
        yield
    finally:
        for artist in seen:
            artist.set_visible(True)
