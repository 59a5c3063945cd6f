"""The face of an explorer in the built book: self-contained HTML, no library.

Matplotlib draws each figure once, as SVG. For every position of the controls the same
``update`` moves the artists, whose points are read back as pixels, packed, and put
into the page; a short script swaps them in. There is no second plotting code.
"""

import base64
import html as markup
import io
import itertools
import json
import zlib
from importlib.resources import files
from string import Template

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from lqrlib import _validate
from lqrlib._validate import Array
from lqrlib.show import geometry, svg
from lqrlib.show.controls import Slider
from lqrlib.show.scene import Scene
from lqrlib.show.style import RC

LIMIT = 300_000
# Pixels become 16-bit numbers: sixteenths of a pixel, from −1024 up, so that points
# clipped to one axis length outside stay in range on both sides.
SCALE, OFFSET, GAP = 16, 1024, 65535

_PAGE = Template("""\
<section class="lqr-explorer" id="explorer-$name" aria-labelledby="$name-title">
<style>$style</style>
<p class="lqr-title" id="$name-title">$title</p>
<form class="lqr-controls" hidden>$controls
<button type="reset">Reset</button></form>
<p class="lqr-words" role="status" aria-live="polite">$words</p>
<div class="lqr-panels">$panels</div>
<p class="lqr-call"><span>This state in Python:</span> <code>$call</code></p>
<script type="application/json" class="lqr-spec">$spec</script>
<script type="text/plain" class="lqr-texts">$texts</script>
<script type="text/plain" class="lqr-points">$points</script>
<script>$script</script>
</section>""")

_SLIDER = Template("""
<label for="$id">$label</label>
<input type="range" id="$id" name="$name" min="0" max="$last" step="1" value="$start"
 autocomplete="off" data-lm-suppress-shortcuts="true" aria-valuetext="$spoken">
<output for="$id">$spoken</output>""")

_CHOICE = Template("""
<label for="$id">$label</label>
<select id="$id" name="$name" autocomplete="off"
 data-lm-suppress-shortcuts="true">$options</select>""")


def html(scene: Scene) -> str:
    """The explorer as HTML; see `lqrlib.show.Explorer.html`."""
    texts, points = _all_states(scene)
    words = scene.show()
    parts = {
        "name": scene.name,
        "title": markup.escape(scene.title),
        "style": _resource("explorer.css"),
        "controls": "".join(_control(scene, i) for i in range(len(scene.controls))),
        "words": markup.escape(words),
        "panels": "".join(_panels(scene)),
        "call": markup.escape(_default_call(scene)),
        "spec": json.dumps(_spec(scene), ensure_ascii=False).replace("<", "\\u003c"),
        "texts": _packed(json.dumps(texts, ensure_ascii=False).encode()),
        "points": _packed(encode(points)),
        "script": _resource("explorer.js"),
    }
    page = _PAGE.substitute(parts)
    size = len(page.encode())
    if size > LIMIT:
        largest = ", ".join(f"{k} {len(v) // 1000} kB" for k, v in parts.items())
        raise _validate.error(
            f"explorer {scene.name}",
            f"at most {LIMIT // 1000} kB (fewer values or points)",
            f"{size // 1000} kB: {largest}",
        )
    return page


def encode(points: Array) -> bytes:
    """Pack pixel coordinates so that they deflate well.

    Parameters
    ----------
    points : array, shape [states, N, 2]
        In pixels; nan marks a gap.

    Returns
    -------
    bytes
        Differences from state to state of 16-bit numbers laid out as
        [2, N, states]; all low bytes, then all high bytes.
    """
    quantised = np.clip(np.round((points + OFFSET) * SCALE), 0, GAP - 1)
    numbers = np.where(np.isnan(quantised), GAP, quantised).astype(np.uint16)
    by_state = np.moveaxis(numbers, 0, -1).transpose(1, 0, 2)
    steps = np.diff(by_state, axis=-1, prepend=np.uint16(0)).astype("<u2")
    return steps.reshape(-1, 1).view(np.uint8).T.tobytes()


def decode(data: bytes, shape: tuple[int, int, int]) -> Array:
    """The inverse of `encode`, as the page's script does it.

    Parameters
    ----------
    data : bytes
    shape : tuple of int
        (states, N, 2)

    Returns
    -------
    array, shape [states, N, 2]
        Pixels, within 1/32; nan for gaps.
    """
    low, high = np.frombuffer(data, np.uint8).reshape(2, -1).astype(np.uint16)
    states, n, _ = shape
    steps = (low + 256 * high).reshape(2, n, states)
    numbers: NDArray[np.uint16] = np.cumsum(steps, axis=-1, dtype=np.uint16)
    pixels = np.where(numbers == GAP, np.nan, numbers / SCALE - OFFSET)
    return np.moveaxis(pixels.transpose(1, 0, 2), -1, 0)


def _all_states(scene: Scene) -> tuple[list[str], Array]:
    """Words and pixels for every position of the controls, the last one fastest."""
    names = list(scene.default)
    sizes: list[int] | None = None
    texts, points = [], []
    for values in itertools.product(*(control.values for control in scene.controls)):
        state = dict(zip(names, values, strict=True))
        texts.append(scene.show(**state))
        pixels = [geometry.pixels(artist) for artist in scene.moving]
        found = [len(p) for p in pixels]
        sizes = sizes or found
        if found != sizes:
            raise _validate.error("moving", f"{sizes} points in every state", found)
        for artist, p in zip(scene.moving, pixels, strict=True):
            if geometry.kind(artist) != "curve" and np.isnan(p).any():
                raise _validate.error(
                    "moving", f"no nan in {artist}", f"nan at {state}"
                )
        points.append(np.concatenate(pixels))
    return texts, np.stack(points)


def _spec(scene: Scene) -> dict[str, object]:
    artists = [
        {
            "id": svg.identifier(scene.name, i),
            "kind": geometry.kind(artist),
            "points": len(geometry.pixels(artist)),
        }
        for i, artist in enumerate(scene.moving)
    ]
    controls = [
        {
            "name": control.name,
            "keys": control.keys(),
            "written": control.written(),
            "spoken": control.spoken(),
            "start": control.values.index(control.default),
        }
        for control in scene.controls
    ]
    return {
        "name": scene.name,
        "controls": controls,
        "artists": artists,
        "call": scene.call,
        "scale": SCALE,
        "offset": OFFSET,
        "gap": GAP,
    }


def _panels(scene: Scene) -> list[str]:
    for i, artist in enumerate(scene.moving):
        artist.set_gid(svg.identifier(scene.name, i))
    drawn = []
    for number, panel in enumerate(scene.panels):
        buffer = io.StringIO()
        with mpl.rc_context(RC):
            panel.figure.savefig(
                buffer, format="svg", transparent=True, metadata={"Date": None}
            )
        prefix = f"{scene.name}-{number}-"
        drawn.append(svg.for_page(buffer.getvalue(), prefix, panel.alt))
    _check_drawn(scene, "".join(drawn))
    return drawn


def _check_drawn(scene: Scene, page: str) -> None:
    """Refuse what Matplotlib left out: no node on the page could be moved later."""
    for i, artist in enumerate(scene.moving):
        nodes = svg.drawn(page, svg.identifier(scene.name, i))
        markers = geometry.kind(artist) == "markers"
        wanted = len(geometry.pixels(artist)) if markers else 1
        if nodes != wanted:
            expected = f"{artist} wholly drawn in the default state"
            raise _validate.error("moving", expected, f"{nodes} of {wanted} nodes")


def _control(scene: Scene, index: int) -> str:
    control = scene.controls[index]
    start = control.values.index(control.default)
    shared = {
        "id": f"{scene.name}-{control.name}",
        "name": control.name,
        "label": markup.escape(control.label),
    }
    spoken = [markup.escape(text) for text in control.spoken()]
    if isinstance(control, Slider):
        last = len(spoken) - 1
        return _SLIDER.substitute(shared, last=last, start=start, spoken=spoken[start])
    options = "".join(
        f'<option value="{i}"{" selected" if i == start else ""}>{text}</option>'
        for i, text in enumerate(spoken)
    )
    return _CHOICE.substitute(shared, options=options)


def _default_call(scene: Scene) -> str:
    start = {c.name: c.written()[c.values.index(c.default)] for c in scene.controls}
    return scene.call.format(**start)


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _resource(name: str) -> str:
    return files("lqrlib.show").joinpath(name).read_text(encoding="utf-8")
