"""Budgets of the book: what its pages take to build, and what they weigh.

When the build is done it prints the pages that were run, the slowest first, with
their seconds and weights, and writes those of all pages to `_build/budget.json`. A page
weighs what a reader loads for it alone: its HTML, and the pictures, scripts and style
sheets that it embeds, but not `_static`, which comes once for all pages. The seconds of
a page that has not changed are those of its last run.

A page that weighs too much is a warning, which fails the build. Seconds depend on the
machine: too many of them are only said.
"""

import json
import os
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.util import logging

BUILD_SECONDS = 600.0
PAGE_SECONDS = 90.0
PAGE_BYTES = 2_500_000

logger = logging.getLogger(__name__)


class Page(NamedTuple):
    """What a page has cost: seconds, None if there is nothing to run, and bytes."""

    seconds: float | None
    bytes: int


class Embedded(HTMLParser):
    """Addresses of all that a page loads together with its HTML."""

    def __init__(self, html: str):
        super().__init__()
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Pictures, scripts, frames, objects and style sheets; not links."""
        given = dict(attrs)
        names = ["src", "data", "poster"]
        if tag == "link" and given.get("rel") == "stylesheet":
            names.append("href")
        self.found |= {address for name in names if (address := given.get(name))}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx; `one_build`, which looks for warnings, comes after it."""
    app.connect("build-finished", Report(time.perf_counter()), priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Report:
    """Weighs the pages of a build that has begun at a time."""

    def __init__(self, begun: float):
        self.begun = begun

    def __call__(self, app: Sphinx, exception: Exception | None) -> None:
        """Print, write down, and complain."""
        if exception or app.builder.format != "html":
            return
        took, pages = time.perf_counter() - self.begun, dict(read(app))
        store(Path(app.outdir).parent / "budget.json", took, pages)
        for line in table(took, pages):
            logger.info(line)
        for line in slow(took, pages):
            logger.info(f"over budget: {line}", color="yellow")
        for name, page in pages.items():
            if page.bytes > PAGE_BYTES:
                words = f"the page weighs {page.bytes} bytes, allowed: {PAGE_BYTES}"
                logger.warning(words, location=name, type="budget")


def read(app: Sphinx) -> Iterator[tuple[str, Page]]:
    """All pages, or the one chapter that was built, the slowest first."""
    only = os.environ.get("LQRBOOK_CHAPTER", "").removesuffix(".md")
    found = {}
    for name in sorted(app.env.found_docs):
        file = Path(app.builder.get_outfilename(name))
        if file.is_file() and only in ("", name):
            data = NbMetadataCollector.get_exec_data(app.env, name) or {}
            found[name] = Page(data.get("runtime"), weight(file, Path(app.outdir)))
    order = sorted(found.items(), key=lambda item: -(item[1].seconds or 0.0))
    yield from order


def weight(file: Path, root: Path) -> int:
    """Bytes of a page and of what it embeds from the book, each file once."""
    files = {file.resolve()}
    for address in Embedded(file.read_text("utf-8")).found:
        url = urlsplit(address)
        if url.path and not url.scheme and not url.netloc:
            files.add((file.parent / unquote(url.path)).resolve())
    shared = (root / "_static").resolve()
    own = (one for one in files if shared not in one.parents and one.is_file())
    return sum(one.stat().st_size for one in own)


def store(file: Path, took: float, pages: dict[str, Page]) -> None:
    """Write what was found, for who wants to compare builds."""
    record = {
        "seconds": round(took, 1),
        "allowed": {
            "seconds": BUILD_SECONDS,
            "page": {"seconds": PAGE_SECONDS, "bytes": PAGE_BYTES},
        },
        "pages": {name: page._asdict() for name, page in pages.items()},
    }
    file.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def table(took: float, pages: dict[str, Page]) -> Iterator[str]:
    """What the build prints: pages that were run, then the sums, then the budgets."""
    run = {name: page for name, page in pages.items() if page.seconds is not None}
    yield f"{'page':40}{'seconds':>8}{'MB':>8}"
    for name, page in run.items():
        yield f"{name:40}{page.seconds:8.1f}{page.bytes / 1e6:8.2f}"
    seconds = sum(page.seconds for page in run.values())
    weights = [page.bytes for page in pages.values()]
    yield f"{f'all pages: {len(pages)}':40}{seconds:8.1f}{sum(weights) / 1e6:8.2f}"
    most = max((page.seconds for page in run.values()), default=0.0)
    yield (
        f"build {took:.0f} s of {BUILD_SECONDS:.0f}, slowest page {most:.0f} s of "
        f"{PAGE_SECONDS:.0f}, heaviest {max(weights, default=0) / 1e6:.2f} MB of "
        f"{PAGE_BYTES / 1e6:.2f}"
    )


def slow(took: float, pages: dict[str, Page]) -> Iterator[str]:
    """What took longer than it may on a machine with nothing else to do."""
    if took > BUILD_SECONDS:
        yield f"the build took {took:.0f} s, allowed: {BUILD_SECONDS:.0f}"
    for name, page in pages.items():
        if page.seconds is not None and page.seconds > PAGE_SECONDS:
            yield f"{name} took {page.seconds:.0f} s, allowed: {PAGE_SECONDS:.0f}"
