"""What tests share: the built book, and a browser that cannot reach the network."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
]


def pages_of_the_book() -> list[str]:
    """Names of all pages in the table of contents, such as ``book/index``."""
    text = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    return re.findall(r"(?:root|file): (\S+)", text)


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book."""
    if not (HTML / "book" / "index.html").is_file():
        pytest.fail("the book is not built: run `make book` (or `make test`) first")
    return HTML


def find_browser() -> str | None:
    """$CHROMIUM, then a system Chromium or Chrome; Playwright's own otherwise."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """`make lab`, running."""
    from servers import running

    with running("lab", tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def live(html, chromium, tmp_path_factory):
    """`make live`, running."""
    from servers import running

    with running("live", tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A running browser; without one, skip here and fail in continuous integration."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=find_browser(), args=FLAGS
            )
        except Error as reason:
            missing = (
                "no browser: set CHROMIUM, install Debian's chromium, or `make browser`"
            )
            if os.environ.get("CI") == "true":
                pytest.fail(f"{missing} ({reason})")
            pytest.skip(missing)
        yield browser
        browser.close()
