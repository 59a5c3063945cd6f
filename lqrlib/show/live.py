"""The live face of an explorer: ipywidgets that call Python for every move."""

from html import escape
from math import log10
from typing import Any

from lqrlib.show.controls import Choice, Slider
from lqrlib.show.paint import Painter
from lqrlib.show.scene import Scene

# Steps of a live slider between two values of the built page, which it reaches, too.
_FINER = 14
# Pixels an inch of the pictures, against 72 on the page: sharp, and quick to draw.
_SHARPNESS = 108


def widget(scene: Scene) -> Any:
    """Sliders, the words, and one image a figure, redrawn on every move.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    ipywidgets.VBox
    """
    # Imported here, so that the built book's face needs no widgets.
    import ipywidgets

    inputs = {control.name: _input(control, scene.slow) for control in scene.controls}
    reset = ipywidgets.Button(description="Reset")
    words, call = ipywidgets.HTML(), ipywidgets.HTML()
    images = [
        ipywidgets.Image(
            width=round(panel.figure.bbox.width),
            layout={"max_width": "100%"},
        )
        for panel in scene.panels
    ]

    painters = [
        Painter(panel.figure, scene.moving, _SHARPNESS) for panel in scene.panels
    ]

    def redraw(_: object = None) -> None:
        state = {name: box.value for name, box in inputs.items()}
        words.value = escape(scene.show(**state))
        shown = {name: _code(value) for name, value in state.items()}
        call.value = f"<code>{escape(scene.call.format(**shown))}</code>"
        for image, painter in zip(images, painters, strict=True):
            image.value = painter.png()

    def to_default(_: object) -> None:
        for name, value in scene.default.items():
            inputs[name].value = value

    for box in inputs.values():
        box.observe(redraw, names="value")
    reset.on_click(to_default)
    redraw()
    title = ipywidgets.HTML(f"<b>{escape(scene.title)}</b>")
    figures = ipywidgets.HBox(images, layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([title, *inputs.values(), reset, words, figures, call])


def _input(control: Slider | Choice, slow: bool) -> Any:
    import ipywidgets

    look: dict[str, Any] = {
        "description": control.label,
        "style": {"description_width": "initial"},
        "layout": {"width": "28em", "max_width": "100%"},
    }
    if isinstance(control, Choice):
        return ipywidgets.Dropdown(
            options=list(zip(control.names, control.values, strict=True)),
            value=control.default,
            **look,
        )
    look["continuous_update"] = not slow
    low, high = control.values[0], control.values[-1]
    if control.log:
        span = {"min": log10(low), "max": log10(high)}
        step = (span["max"] - span["min"]) / (len(control.values) - 1) / _FINER
        return ipywidgets.FloatLogSlider(control.default, step=step, **span, **look)
    step = (high - low) / (len(control.values) - 1) / _FINER
    return ipywidgets.FloatSlider(control.default, min=low, max=high, step=step, **look)


def _code(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
