"""The explorer, without a browser: both faces, and each trap met in building it."""

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from lqrlib.show import (
    Choice,
    Explorer,
    Panel,
    Slider,
    band,
    export,
    figure,
    geometry,
    set_band,
    svg,
)

SVG = "{http://www.w3.org/2000/svg}"


def small_explorer(name="small", update=None, **changes):
    """A curve, a band and a marker on a log axis; a slider and a choice."""
    fig, ax = figure("x", "y", yscale="log", xlim=(0, 4), ylim=(0.1, 10))
    x = np.arange(5.0)
    (curve,) = ax.plot(x, x + 1, color="#2f7fc1")
    (mark,) = ax.plot([2], [2], "o")
    area = band(ax, x, x + 0.5, x + 1.5, alpha=0.3)

    def move(size, way):
        y = size * (x + 1 if way == "up" else 5 - x)
        curve.set_data(x, y)
        mark.set_data([2], [y[2]])
        set_band(area, x, 0.9 * y, 1.1 * y)
        return f"size {size:g}, {way}"

    settings = {
        "title": "Small <title> & more",
        "panels": [Panel(fig, 'curve "and" band')],
        "moving": [curve, mark, area],
        "update": update or move,
        "controls": [
            Slider("size", "size", [0.25, 0.5, 1, 2], 1),
            Choice("way", "direction", ["up", "down"], "up"),
        ],
        "call": "draw({size}, {way})",
    }
    return Explorer(name, **settings | changes)


@pytest.fixture
def log_axes():
    fig, ax = figure("x", "y", yscale="log", xlim=(0, 4), ylim=(0.1, 10))
    return fig, ax


def pixels_of(fig, ax, y):
    (line,) = ax.plot(np.arange(len(y)), y)
    fig.canvas.draw()
    geometry.clip(line)
    return geometry.pixels(line)


def axes_box(fig, ax):
    """Top and bottom of the axes, in pixels downwards."""
    box = ax.get_window_extent()
    return fig.bbox.height - box.y1, fig.bbox.height - box.y0


# --- Infinite and empty values


@pytest.mark.parametrize("huge", [np.inf, 1e300, 1e40])
def test_a_diverged_point_on_a_log_axis_leaves_through_the_top(log_axes, huge):
    fig, ax = log_axes
    points = pixels_of(fig, ax, [1.0, 1.0, huge])
    top, bottom = axes_box(fig, ax)
    assert points[2, 1] < top < points[1, 1] < bottom
    # Its other coordinate survives: equal steps in x stay equal.
    assert np.allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0])
    # And packing into 16 bits does not wrap it round to the bottom.
    packed = export.decode(export.encode(points[None]), (1, 3, 2))
    assert np.abs(packed[0] - points).max() <= 1 / 32


@pytest.mark.parametrize("low", [0.0, -3.0, 1e-300, -np.inf])
def test_what_is_not_positive_on_a_log_axis_leaves_through_the_bottom(log_axes, low):
    fig, ax = log_axes
    points = pixels_of(fig, ax, [1.0, low])
    assert points[1, 1] > axes_box(fig, ax)[1]
    assert np.isfinite(points).all()


def test_infinite_values_on_a_linear_axis_leave_on_their_own_side():
    fig, ax = figure("x", "y", xlim=(0, 4), ylim=(-1, 1))
    points = pixels_of(fig, ax, [-np.inf, 0.0, np.inf])
    top, bottom = axes_box(fig, ax)
    assert points[0, 1] > bottom > points[1, 1] > top > points[2, 1]


def test_nan_makes_a_gap_in_a_curve_and_is_refused_in_an_area():
    fig, ax = figure("x", "y", xlim=(0, 4), ylim=(0, 2))
    (curve,) = ax.plot([0, 1, 2], [1, 1, 1])
    area = band(ax, [0, 1], [0, 0], [1, 1])
    slider = Slider("a", "a", [0, 1], 0)
    panels = [Panel(fig, "alt")]

    def hole(a):
        curve.set_data([0, 1, 2], [1, np.nan if a else 1, 1])
        return "words"

    with_gap = Explorer(
        "gap",
        title="t",
        panels=panels,
        moving=[curve],
        update=hole,
        controls=[slider],
        call="",
    )
    _, points = export._all_states(with_gap)
    assert np.isnan(points[1, 1, 1])
    assert np.isfinite(points[0]).all()
    assert np.isnan(export.decode(export.encode(points), points.shape)[1, 1, 1])

    def tear(a):
        set_band(area, [0, 1], [0, 0], [1, np.nan if a else 1])
        return "words"

    torn = Explorer(
        "torn",
        title="t",
        panels=panels,
        moving=[area],
        update=tear,
        controls=[slider],
        call="",
    )
    with pytest.raises(ValueError, match="moving: expected no nan"):
        torn.html()


def test_an_artist_that_is_invisible_or_empty_by_default_is_refused():
    explorer = small_explorer()
    explorer.moving[0].set_visible(False)
    with pytest.raises(ValueError, match="wholly drawn in the default state"):
        explorer.html()
    # A marker outside the axes' figure is left out by Matplotlib, too.
    fig, ax = figure("x", "y", xlim=(0, 4), ylim=(0, 2))
    (mark,) = ax.plot([], [], "o")
    lost = Explorer(
        "lost",
        title="t",
        panels=[Panel(fig, "alt")],
        moving=[mark],
        update=lambda **_: mark.set_data([50.0], [50.0]) or "words",
        controls=[Slider("a", "a", [0, 1], 0)],
        call="",
    )
    with pytest.raises(ValueError, match="0 of 1 nodes"):
        lost.html()


# --- Packing


def test_packing_keeps_every_point_to_a_thirty_second_of_a_pixel():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1000, 3000, size=(7, 11, 2))
    points[3, 5] = np.nan
    back = export.decode(export.encode(points), points.shape)
    assert np.array_equal(np.isnan(back), np.isnan(points))
    assert np.nanmax(np.abs(back - points)) <= 1 / 32


def test_packing_clips_what_16_bits_cannot_hold_instead_of_wrapping():
    far = np.array([[[-1e9, 1e9]]])
    back = export.decode(export.encode(far), (1, 1, 2))
    assert back[0, 0, 0] == -1024
    assert back[0, 0, 1] > 3000


# --- The picture


def test_the_points_read_back_are_the_ones_matplotlib_drew():
    explorer = small_explorer()
    root = ElementTree.fromstring(f"<p>{''.join(export._panels(explorer))}</p>")
    curve, mark, area = (
        root.find(f".//*[@id='{svg.identifier('small', i)}']") for i in range(3)
    )
    for node, artist in ((curve, explorer.moving[0]), (area, explorer.moving[2])):
        drawn = re.findall(r"-?[\d.]+", node.find(f"{SVG}path").get("d"))
        points = geometry.pixels(artist)
        drawn = np.array(drawn, dtype=float).reshape(-1, 2)[: len(points)]
        assert np.allclose(drawn, points, atol=0.02)
    use = mark.find(f".//{SVG}use")
    place = [float(use.get("x")), float(use.get("y"))]
    assert np.allclose(place, geometry.pixels(explorer.moving[1])[0], atol=0.02)


def test_no_rule_or_metadata_of_matplotlib_reaches_the_page():
    picture = "".join(export._panels(small_explorer()))
    assert "<metadata" not in picture
    assert "<style" not in picture


def test_ids_are_unique_on_a_page_with_two_explorers_and_all_references_resolve():
    page = small_explorer("one").html() + small_explorer("two").html()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', page)
    assert wanted
    assert {a or b for a, b in wanted} <= set(ids)


def test_black_takes_the_colour_of_the_page_and_the_face_is_transparent():
    picture = "".join(export._panels(small_explorer()))
    assert "#000000" not in picture
    assert "currentColor" in picture
    assert "#ffffff" not in picture


def test_two_exports_are_the_same_to_the_byte_even_in_another_process():
    here = small_explorer().html()
    assert small_explorer().html() == here
    code = (
        "from test_show_explorer import small_explorer as e; print(e().html(), end='')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=os.path.dirname(__file__),  # noqa: PTH120
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert run.stdout == here


def test_a_band_keeps_its_number_of_points_however_often_it_is_moved():
    _, ax = figure("x", "y", xlim=(0, 4), ylim=(0, 2))
    area = band(ax, np.arange(5), np.zeros(5), np.ones(5))
    sizes = set()
    for _ in range(4):
        set_band(area, np.arange(5), np.zeros(5), np.full(5, np.inf))
        geometry.clip(area)
        geometry.clip(area)
        sizes.add(len(geometry.pixels(area)))
    assert sizes == {10}


def test_the_axes_stand_still_while_the_artists_move():
    explorer = small_explorer()
    ax = explorer.panels[0].figure.axes[0]
    before = ax.transData.get_matrix().copy()
    explorer.show(size=2, way="down")
    explorer.panels[0].figure.canvas.draw()
    assert np.array_equal(ax.transData.get_matrix(), before)


def test_text_of_the_author_cannot_break_out_of_the_page():
    explorer = small_explorer(
        title="</script><b>&", call="f({size}, {way}) # </script>"
    )
    page = explorer.html()
    assert page.count("</script>") == page.count("<script")
    assert "<b>" not in page


# --- What is refused


def test_an_artist_that_changes_its_number_of_points_is_refused():
    fig, ax = figure("x", "y", xlim=(0, 4), ylim=(0, 2))
    (curve,) = ax.plot([0], [0])
    explorer = Explorer(
        "grow",
        title="t",
        panels=[Panel(fig, "alt")],
        moving=[curve],
        update=lambda a: curve.set_data(range(int(a)), range(int(a))) or "words",
        controls=[Slider("a", "a", [2, 3], 2)],
        call="",
    )
    with pytest.raises(ValueError, match=r"expected \[2\] points in every state"):
        explorer.html()


def test_an_explorer_over_300_kb_is_refused_with_its_parts():
    noise = np.random.default_rng(0)
    fig, ax = figure("x", "y", xlim=(0, 500), ylim=(0, 1))
    (curve,) = ax.plot(np.arange(500), np.arange(500))
    explorer = Explorer(
        "large",
        title="t",
        panels=[Panel(fig, "alt")],
        moving=[curve],
        update=lambda **_: curve.set_ydata(noise.random(500)) or "words",
        controls=[Slider("a", "a", range(500), 0)],
        call="",
    )
    with pytest.raises(ValueError, match=r"large: expected at most 300 kB.*points"):
        explorer.html()


def test_a_figure_with_two_axes_is_refused():
    fig, _ = figure("x", "y")
    fig.add_axes((0.5, 0.5, 0.2, 0.2))
    with pytest.raises(ValueError, match="panels: expected one axes"):
        small_explorer(panels=[Panel(fig, "alt")])


def test_curves_with_markers_and_other_artists_are_refused():
    _, ax = figure("x", "y")
    (both,) = ax.plot([0, 1], [0, 1], "o-")
    for artist in (both, ax.text(0, 0, "words"), ax.scatter([0], [0])):
        with pytest.raises(ValueError, match="moving: expected a Line2D"):
            small_explorer(moving=[artist])


@pytest.mark.parametrize(
    "controls",
    [
        [],
        [Slider(n, n, [0, 1], 0) for n in "abc"],
        [Choice(n, n, ["x"], "x") for n in "abc"],
        [Slider("a", "a", [0, 1], 0), Choice("a", "a", ["x"], "x")],
    ],
    ids=["none", "three sliders", "three choices", "same name twice"],
)
def test_too_many_or_ambiguous_controls_are_refused(controls):
    with pytest.raises(ValueError, match="controls: expected"):
        small_explorer(controls=controls, update=lambda **_: "words")


def test_a_slider_refuses_values_that_do_not_ascend_and_a_foreign_default():
    with pytest.raises(ValueError, match="a: expected ascending values"):
        Slider("a", "a", [1, 0], 0)
    with pytest.raises(ValueError, match="a: expected a default among"):
        Slider("a", "a", [0, 1], 0.5)
    with pytest.raises(ValueError, match="a: expected a default among"):
        Choice("a", "a", ["x"], "y")


def test_names_that_cannot_stand_in_a_url_and_unknown_states_are_refused():
    with pytest.raises(ValueError, match="name: expected"):
        small_explorer("No spaces")
    with pytest.raises(ValueError, match="state: expected"):
        small_explorer().show(height=1)


# --- The two faces


def images_of(widget):
    """All PNGs in a tree of widgets, and the words."""
    import ipywidgets

    def walk(box):
        yield box
        for child in getattr(box, "children", ()):
            yield from walk(child)

    parts = list(walk(widget))
    pngs = [bytes(p.value) for p in parts if isinstance(p, ipywidgets.Image)]
    texts = [p.value for p in parts if isinstance(p, ipywidgets.HTML)]
    return pngs, texts, parts


def test_a_live_slider_changes_picture_and_words_and_comes_back():
    import ipywidgets

    widget = small_explorer().widget()
    (before,), words, parts = images_of(widget)
    slider = next(p for p in parts if isinstance(p, ipywidgets.FloatSlider))
    choice = next(p for p in parts if isinstance(p, ipywidgets.Dropdown))
    reset = next(p for p in parts if isinstance(p, ipywidgets.Button))
    assert before.startswith(b"\x89PNG")
    slider.value = 1.37  # between the grid points of the built page
    (moved,), moved_words, _ = images_of(widget)
    assert moved != before
    assert any("1.37" in text for text in moved_words)
    choice.value = "down"
    assert images_of(widget)[0] != [moved]
    reset.click()
    assert images_of(widget)[:2] == ([before], words)


def test_a_live_log_slider_spans_its_values_in_equal_ratios():
    import ipywidgets

    control = Slider("size", "size", [0.25, 0.5, 1, 2], 1, log=True)
    choice = Choice("way", "direction", ["up", "down"], "up")
    parts = images_of(small_explorer(controls=[control, choice]).widget())[2]
    slider = next(p for p in parts if isinstance(p, ipywidgets.FloatLogSlider))
    assert np.isclose(slider.base**slider.min, 0.25)
    assert np.isclose(slider.base**slider.max, 2)


def test_the_build_gets_html_and_a_kernel_gets_widgets(monkeypatch):
    explorer = small_explorer()
    monkeypatch.setenv("LQRLIB_STATIC", "1")
    built = explorer._repr_mimebundle_()
    assert "lqr-explorer" in built["text/html"]
    assert "application/vnd.jupyter.widget-view+json" not in built
    monkeypatch.delenv("LQRLIB_STATIC")
    live = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in live


def test_the_page_says_the_default_state_in_words_and_as_a_call():
    page = small_explorer().html()
    assert ">size 1, up</p>" in page
    assert "<code>draw(1, &#x27;up&#x27;)</code>" in page
    assert 'aria-valuetext="1"' in page
    assert 'data-lm-suppress-shortcuts="true"' in page
