"""The quick painter of live pictures shows what Matplotlib itself would draw."""

import io

import numpy as np
import pytest
from matplotlib.image import imread
from test_show_explorer import small_explorer

from lqrlib import show, worlds
from lqrlib.show.paint import Painter

DPI = 108
SCENES = {
    "curve, band and marker": (
        small_explorer,
        [{}, {"size": 2.0, "way": "down"}, {"size": 0.25}],
    ),
    "contours, texts and spines": (
        lambda: show.gain_explorer(worlds.double_integrator()),
        [{}, {"k1": -3.0, "k2": -3.0}, {"k1": 1.2, "k2": 0.9}],  # the last one diverges
    ),
}


def drawn_whole(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return imread(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("name", SCENES)
def test_a_painted_picture_is_the_drawn_one_pixel_for_pixel(name):
    make, states = SCENES[name]
    scene = make()
    painters = [Painter(panel.figure, scene.moving, DPI) for panel in scene.panels]
    seen = []
    for state in states:
        scene.show(**state)
        for panel, painter in zip(scene.panels, painters, strict=True):
            painted = imread(io.BytesIO(painter.png()))
            np.testing.assert_array_equal(painted, drawn_whole(panel.figure))
            seen.append(painted.tobytes())
    assert len(set(seen)) == len(seen)  # each state has a picture of its own


def test_painting_leaves_the_figure_as_the_page_reads_it():
    scene = small_explorer()
    before = scene.panels[0].figure.dpi, [a.get_visible() for a in scene.moving]
    page = scene.html()
    Painter(scene.panels[0].figure, scene.moving, DPI).png()
    after = scene.panels[0].figure.dpi, [a.get_visible() for a in scene.moving]
    assert (after, scene.html()) == (before, page)


def test_a_picture_in_which_nothing_moves_can_be_painted():
    figure, ax = show.figure("x", "y")
    ax.plot([0, 1], [0, 1])
    painted = imread(io.BytesIO(Painter(figure, [], DPI).png()))
    np.testing.assert_array_equal(painted, drawn_whole(figure))
