"""Servers for the browser tests, started as a reader starts them: by `make`."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from conftest import ROOT

BOOK = ROOT / "book"
CHAPTERS = sorted(p.name for p in BOOK.glob("*.md") if "jupytext:" in p.read_text())
WITH_CODE = [name for name in CHAPTERS if "{code-cell}" in (BOOK / name).read_text()]
PATIENCE = 90_000  # ms; every wait ends as soon as what it waits for is there
# Beside other tests there is a part of a processor only, and a part of its speed:
# bounds on times are that much wider.
SHARED = 3 if "PYTEST_XDIST_WORKER" in os.environ else 1
LONG = 400_000  # ms for all cells of a chapter, beside another test
RAN = r"""(cells) => {
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
    return prompts.length === cells
        && prompts.every((prompt) => /\[\d+\]/.test(prompt.textContent));
}"""


@dataclass
class Server:
    """A running Jupyter server: the address it printed, and where it may write."""

    address: str
    home: Path
    process: subprocess.Popen

    @property
    def root(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def token(self) -> str:
        """As it stands in the address: ``token=…``."""
        return urlsplit(self.address).query

    def kernels(self) -> list[dict[str, str]]:
        """What runs on it now."""
        with urlopen(f"{self.root}/api/kernels?{self.token}") as answer:
            return json.load(answer)

    def stop(self, kernel: str) -> None:
        """Stop one kernel, as JupyterLab's menu does."""
        address = f"{self.root}/api/kernels/{kernel}?{self.token}"
        urlopen(Request(address, method="DELETE")).close()

    def stop_kernels(self) -> None:
        """Leave processors and memory to the next test."""
        for kernel in self.kernels():
            self.stop(kernel["id"])


@contextmanager
def watched(chromium, **options) -> Iterator:
    """A page on which its faults are listed, and all that it has asked for."""
    context = chromium.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.faults, page.requested = [], []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("websocket", lambda socket: page.requested.append(socket.url))
    page.on("pageerror", lambda error: page.faults.append(f"error {error}"))
    page.on(
        "console", lambda m: page.faults.append(m.text) if m.type == "error" else None
    )
    try:
        yield page
    finally:
        context.close()


def code_cells(name: str) -> list[str]:
    """The code of each cell of a chapter."""
    import jupytext

    cells = jupytext.read(BOOK / name).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def run_in_lab(page, lab: Server, name: str) -> None:
    """Open a chapter in JupyterLab by a double click, and run it from top to bottom."""
    page.goto(f"{lab.address}&reset")
    page.locator(f".jp-DirListing-item[title*='Name: {name}']").dblclick()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(RAN, arg=len(code_cells(name)), timeout=LONG)


def nudge(explorer) -> None:
    """Move an explorer's first slider to an end, and wait for another picture.

    One step need not change it: studies that are too long for a move are shown for the
    nearest values for which they were made.
    """
    pictures = explorer.locator("img").all()
    before = [picture.get_attribute("src") for picture in pictures]
    slider = explorer.get_by_role("slider").first
    ends = [slider.get_attribute(f"aria-value{end}") for end in ("now", "min")]
    slider.press("End" if float(ends[0]) == float(ends[1]) else "Home")
    explorer.page.wait_for_function(
        "([images, old]) => images.some((image, i) => image.src !== old[i])",
        arg=[[picture.element_handle() for picture in pictures], before],
    )


def need(*packages: str) -> None:
    """Skip here, and fail in continuous integration, where a package is missing."""
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"no {missing[0]}: run `make lab` (or `make test`) first")


@contextmanager
def running(command: str, folder: Path, *arguments: str) -> Iterator[Server]:
    """`make lab` or `make live`, which keeps its files in a folder of the test."""
    need("jupyterlab", "jupytext")
    home, state, log = folder / "home", folder / "state", folder / "log"
    home.mkdir()
    given = " ".join(["--no-browser", "--allow-root", *arguments])
    # A reader who has built the book by hand may have this variable set.
    environment = os.environ | {"HOME": str(home), "LQRLIB_STATIC": "1"}
    make = ["make", "--old-file=.venv/live.stamp", command, f"LAB={state}"]
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*make, f"ARGS={given}"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Server(printed_address(log, process), home, process)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def printed_address(log: Path, process: subprocess.Popen) -> str:
    """What a reader would click on."""
    deadline = time.monotonic() + PATIENCE / 1000
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"http://localhost:\d+/\S+\?token=\w+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    return pytest.fail(f"`make` printed no address:\n{log.read_text()}")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
