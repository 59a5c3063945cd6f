"""The scene of an explorer: figures whose artists move with the controls.

It knows nothing of pages and widgets; its two faces (`lqrlib.show.export` and
`lqrlib.show.live`) are made from it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from lqrlib import _validate
from lqrlib.show import geometry
from lqrlib.show.controls import Choice, Slider
from lqrlib.show.style import freeze


class Panel(NamedTuple):
    """One figure with one axes, and its description for who cannot see it."""

    figure: Figure
    alt: str


class Scene:
    """Figures that answer sliders and choices, and say the result in words.

    Parameters
    ----------
    name : str
        Letters, digits and hyphens; unique on its page. It names the state in the URL.
    title : str
        One line above the controls.
    panels : sequence of Panel
        Figures from `lqrlib.show.figure`, each with one axes.
    moving : sequence of artists
        The `Line2D` and `Polygon` artists that ``update`` moves. Each keeps its number
        of points in every state; infinite values leave through the nearer edge.
    update : callable
        ``update(**state)`` moves the artists and returns the result as a sentence.
    controls : sequence of Slider and Choice
        At most two of each.
    call : str
        The Python call that reproduces a state, with ``{name}`` for each control.
    slow : bool
        Whether a live slider should wait until it is let go.

    Raises
    ------
    ValueError
        If a name is not usable, there are too many controls, a figure has not exactly
        one axes, or an artist is of a kind that cannot move.

    Notes
    -----
    After construction the explorer stands in its default state, the layout of its
    figures frozen: only the moving artists change from then on.
    """

    def __init__(
        self,
        name: str,
        *,
        title: str,
        panels: Sequence[Panel],
        moving: Sequence[geometry.Movable],
        update: Callable[..., str],
        controls: Sequence[Slider | Choice],
        call: str,
        slow: bool = False,
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise _validate.error("name", "lower-case letters, digits, hyphens", name)
        _check_controls(controls)
        for panel in panels:
            if len(panel.figure.axes) != 1:
                found = f"{len(panel.figure.axes)} in {panel.alt!r}"
                raise _validate.error("panels", "one axes in each figure", found)
        for artist in moving:
            geometry.kind(artist)
        self.name, self.title, self.call, self.slow = name, title, call, slow
        self.panels, self.moving = tuple(panels), tuple(moving)
        self.controls, self._update = tuple(controls), update
        self.show()
        for panel in panels:
            freeze(panel.figure)

    @property
    def default(self) -> dict[str, Any]:
        """The state it opens in."""
        return {control.name: control.default for control in self.controls}

    def show(self, **state: Any) -> str:
        """Move the artists to a state; what is not named takes its default.

        Parameters
        ----------
        **state
            Values of the controls.

        Returns
        -------
        str
            The result in words.

        Raises
        ------
        ValueError
            If a name is not that of a control.
        """
        unknown = state.keys() - self.default.keys()
        if unknown:
            raise _validate.error("state", f"names among {set(self.default)}", unknown)
        words = self._update(**self.default | state)
        for artist in self.moving:
            geometry.clip(artist)
        return words


def _check_controls(controls: Sequence[Slider | Choice]) -> None:
    names = [control.name for control in controls]
    sliders = sum(isinstance(control, Slider) for control in controls)
    if not controls or sliders > 2 or len(controls) - sliders > 2:
        raise _validate.error("controls", "at most two sliders and two choices", names)
    if len(set(names)) < len(names):
        raise _validate.error("controls", "different names", names)
