"""Still figures, the landscape, the forecast, and the colours."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text

from lqrlib import exact, show, worlds


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("background", ["#ffffff", "#121212"], ids=["light", "dark"])
@pytest.mark.parametrize("name", show.COLOURS)
def test_every_colour_stands_out_on_both_backgrounds(name, background):
    assert contrast(show.COLOURS[name], background) >= 3


@pytest.mark.parametrize("background", ["#ffffff", "#121212"], ids=["light", "dark"])
@pytest.mark.parametrize("look", [*show.EXPRESSIONS.values(), *show.REGIONS])
def test_expressions_and_regions_stand_out_on_both_backgrounds(look, background):
    assert contrast(look.colour, background) >= 3


def test_black_on_white_has_contrast_21():
    assert np.isclose(contrast("#000000", "#ffffff"), 21)


def test_the_forecast_agrees_with_simulated_states():
    lqr, K = worlds.double_integrator(), np.array([[-1.0, -1.0]])
    start, steps, n = np.array([1.0, 0.0]), 30, 20_000
    mean, covariance = show.forecast(lqr, K, start, steps)
    rng = np.random.default_rng(0)
    x = np.tile(start, (n, 1))
    for _ in range(steps):
        w = rng.multivariate_normal(np.zeros(2), lqr.W, n)
        x = x @ lqr.closed_loop(K).T + w
    deviation = np.sqrt(np.diag(covariance[-1]))
    assert (np.abs(x.mean(0) - mean[-1]) < 4 * deviation / np.sqrt(n)).all()
    assert np.allclose(x.var(0) / deviation**2, 1, atol=4 * np.sqrt(2 / n))
    assert np.array_equal(mean[0], start)
    assert not covariance[0].any()


def test_the_landscape_marks_the_optimum_and_only_plane_gains_are_drawn():
    lqr = worlds.double_integrator()
    _, ax = show.landscape(lqr, (-6, 1.5), (-7, 1.2))
    star = next(line for line in ax.lines if line.get_marker() == "*")
    assert np.allclose(star.get_xydata()[0], exact.optimal_gain(lqr)[0])
    with pytest.raises(ValueError, match="lqr: expected gains of shape"):
        show.landscape(worlds.laplacian(), (-1, 1), (-1, 1))


@pytest.mark.parametrize(
    ("xlim", "ylim"),
    [((-3, 0.5), (-3.8, 0.3)), ((-6, 1.5), (-7, 1.2)), ((-5, 1), (-6, 0.8))],
)
def test_the_names_of_levels_and_borders_lie_in_view_and_apart(xlim, ylim):
    fig, ax = show.landscape(worlds.double_integrator(), xlim, ylim, size=(5.2, 4.2))
    names = [text for text in ax.texts if "K" not in text.get_text()]
    assert {"ρ = 1", "J = ∞", "10 %", "100 %", "1000 %"} == {
        n.get_text() for n in names
    }
    fig.canvas.draw()
    at = ax.transData.transform([name.get_position() for name in names])
    assert ((at > ax.bbox.min + 10) & (at < ax.bbox.max - 10)).all()
    away = np.linalg.norm(at[:, None] - at, axis=-1)[np.triu_indices(len(at), 1)]
    assert away.min() > 25  # 0.35 in at 72 dpi: two names of 9 points, side by side


def below_and_above(ax):
    """Shares of the plane that are drawn as impossible, and as costs above J*."""
    red, blue = show.EXPRESSIONS["hack"].colour, show.COLOURS["cost"]
    found = {red: [], blue: []}
    for filled in ax.collections:
        faces = np.round(255 * np.atleast_2d(filled.get_facecolor())).astype(int)
        for face, path in zip(faces, filled.get_paths(), strict=False):
            name = "#" + "".join(f"{part:02x}" for part in face[:3])
            if name in found and len(path.vertices):
                found[name].append(path)
    return [len(found[colour]) for colour in (red, blue)]


def test_claims_below_the_optimum_are_drawn_as_impossible():
    lqr = worlds.double_integrator()
    plane = show.gain_plane(lqr, (-4, 0), (-5, 0), 21)
    true = exact.cost(lqr, plane, 0.5)
    least = exact.cost(lqr, exact.optimal_gain(lqr), 0.5)
    maps = {"true": true, "half": np.full(true.shape, 0.5 * least)}
    fig, axes = show.claims(lqr, plane, maps, optimum=float(least))
    assert [ax.get_title(loc="left") for ax in axes] == ["true", "half"]
    assert len(fig.axes) == 2
    red, blue = zip(*map(below_and_above, axes), strict=True)
    assert (red[0], blue[1]) == (0, 0)
    assert red[1] > 0
    assert blue[0] > 0
    for ax in axes:
        star = next(line for line in ax.lines if line.get_marker() == "*")
        assert np.allclose(star.get_xydata()[0], exact.optimal_gain(lqr)[0])


def test_the_gain_plane_has_the_first_entry_along_the_last_grid_axis():
    K = show.gain_plane(worlds.double_integrator(), (-1, 1), (-3, 3), points=5)
    assert K.shape == (5, 5, 1, 2)
    assert K[0, -1, 0].tolist() == [1, -3]


def test_the_gain_explorer_says_what_the_library_computes():
    lqr = worlds.double_integrator()
    explorer = show.gain_explorer(lqr)
    assert f"J = {exact.cost(lqr, [[-1, -1]]):.2f}" in explorer.show(k1=-1, k2=-1)
    assert "yet the cost is finite" in explorer.show()
    assert "J = ∞" in explorer.show(k1=1.5, k2=1)


def test_the_gain_explorer_fits_its_budget_for_all_states():
    page = show.gain_explorer(worlds.double_integrator()).html()
    assert len(page.encode()) < 300_000


def test_a_still_figure_has_an_opaque_face_and_outlined_text():
    fig, ax = show.figure("speed, m/s", "y")
    ax.plot([0, 1], [0, 1])
    picture = show.Still(fig)._repr_svg_()
    assert "fill: #ffffff" in picture
    assert "<text" not in picture
    assert show.Still(fig)._repr_svg_() == picture


def colours_of_text(figure):
    return {mpl.colors.to_hex(text.get_color()) for text in figure.findobj(Text)}


@pytest.mark.parametrize(
    "colour", [*show.COLOURS.values(), "yellow", "#fefefe", "0.5", "tab:olive"]
)
def test_coloured_text_of_a_still_figure_can_be_read_on_its_face(colour):
    fig, ax = show.figure("x", "y")
    ax.text(0.5, 0.5, "a label", color=colour)
    show.Still(fig)
    worst = min(contrast(found, "#ffffff") for found in colours_of_text(fig))
    assert worst >= 4.5
    before = contrast(mpl.colors.to_hex(colour), "#ffffff")
    assert before >= 4.5 or worst <= 4.7  # no darker than it has to be


def test_text_that_can_be_read_keeps_its_colour():
    fig, ax = show.figure("x", "y")
    ax.text(0.5, 0.5, "a label", color=show.COLOURS["gain"])
    show.Still(fig)
    assert colours_of_text(fig) == {"#000000", show.COLOURS["gain"]}


def test_the_text_of_an_explorer_can_be_read_on_the_face_of_its_live_form():
    explorer = show.gain_explorer(worlds.double_integrator())
    for panel in explorer.panels:
        for colour in colours_of_text(panel.figure):
            assert contrast(colour, "#ffffff") >= 4.5
