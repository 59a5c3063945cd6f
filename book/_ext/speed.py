"""`{speed}`: the table of what `make bench` has measured, written by the build."""

import json
from collections.abc import Iterator

from report import ROOT, Written
from sphinx.application import Sphinx

RECORD = ROOT / "book" / "records" / "benchmarks.json"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("speed", SpeedDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class SpeedDirective(Written):
    """A small table for each piece of work, and what was measured on what."""

    def lines(self) -> Iterator[str]:
        """Read the record, so that the page is read again when that changes."""
        self.env.note_dependency(str(RECORD))
        found = json.loads(RECORD.read_text("utf-8"))
        for one in found["comparisons"]:
            yield from ("", f"**{one['work']}**: `lqrlib` {own(one)}", "")
            yield "| beside it | times as long | in the turns | wanted |"
            yield "|---|---:|---:|---:|"
            yield from map(row, one["peers"])
        versions = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
        yield from ("", f"Measured on {found['machine']}; {versions}.")


def own(one: dict) -> str:
    """The library's own time, and what it does in a second where that has a unit."""
    took = seconds(one["seconds"])
    if not one["items"]:
        return took
    return f"{took}, {number(one['items'] / one['seconds'])} {one['unit']} a second"


def row(peer: dict) -> str:
    """One peer: the median ratio, its range, and what was wanted."""
    wanted = f"≥ {number(peer['reach'])}" if peer["reach"] else ""
    if peer["reach"] and peer["ratio"] < peer["reach"]:
        wanted += ", missed"
    spread = f"{number(peer['least'])} to {number(peer['most'])}"
    return f"| {peer['who']} | {number(peer['ratio'])} | {spread} | {wanted} |"


def number(value: float) -> str:
    """Three digits, with thousands apart or in words."""
    if value >= 1e6:
        return f"{value / 1e6:.3g} million"
    return f"{value:.3g}" if value < 1e3 else f"{value:,.0f}"


def seconds(value: float) -> str:
    """A time in the unit that suits it."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"
