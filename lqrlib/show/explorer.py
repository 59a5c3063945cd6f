"""The explorer: figures that answer controls, as one object with two faces.

With a live kernel it is made of real ipywidgets that call Python (`lqrlib.show.live`).
In the built book, where ``LQRLIB_STATIC=1`` is set, it is self-contained HTML that
holds the answer for every position of its controls (`lqrlib.show.export`). Both call
the same ``update`` and move the same artists.
"""

import os
from typing import Any

from lqrlib.show import export, live
from lqrlib.show.scene import Scene


class Explorer(Scene):
    """A `Scene` that a notebook cell ends with; see there for the parameters.

    What the cell shows is `html` while the book is built, `widget` with a kernel.
    """

    def html(self) -> str:
        """The face of the built book, as one self-contained piece of HTML.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If it would be larger than 300 kB, if an artist changes its number of
            points, or an area holds nan.
        """
        return export.html(self)

    def widget(self) -> Any:
        """The live face: ipywidgets whose sliders call Python.

        Returns
        -------
        ipywidgets.VBox
        """
        return live.widget(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        plain = {"text/plain": f"Explorer: {self.title}"}
        if os.environ.get("LQRLIB_STATIC") == "1":
            return plain | {"text/html": self.html()}
        return plain | self.widget()._repr_mimebundle_(**kwargs)
