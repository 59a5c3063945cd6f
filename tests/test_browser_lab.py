"""The chapters in JupyterLab, as `make lab` opens them: explorers call Python there."""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from conftest import ROOT

from lqrlib import show, worlds

BOOK = ROOT / "book"
CHAPTERS = sorted(p.name for p in BOOK.glob("*.md") if "jupytext:" in p.read_text())
PATIENCE = 90_000  # ms; every wait ends as soon as what it waits for is there
RAN = r"""(cells) => {
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
    return prompts.length === cells
        && prompts.every((prompt) => /\[\d+\]/.test(prompt.textContent));
}"""


@pytest.fixture(scope="module")
def jupytext():
    """The converter of chapters; where it is missing, JupyterLab is missing too."""
    missing = [name for name in ("jupyterlab", "jupytext") if not find_spec(name)]
    if missing:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"no {missing[0]}: run `make lab` (or `make test`) first")
    import jupytext

    return jupytext


@dataclass
class Lab:
    """A running `make lab`: where it answers, and the home folder that it was given."""

    address: str
    home: Path
    book: dict[str, bytes]  # what the chapters' folder held before


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }


def printed_address(log, process):
    deadline = time.monotonic() + PATIENCE / 1000
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"http://localhost:\d+/lab\?token=\w+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    return pytest.fail(f"`make lab` printed no address:\n{log.read_text()}")


@pytest.fixture(scope="module")
def lab(jupytext, chromium, tmp_path_factory):
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("lab")
    log, before = state / "log", contents(BOOK)
    arguments = f"LAB={state}", "ARGS=--no-browser --allow-root"
    # A reader who has built the book by hand may have this variable set.
    environment = os.environ | {"HOME": str(home), "LQRLIB_STATIC": "1"}
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["make", "--old-file=.venv/live.stamp", "lab", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Lab(printed_address(log, process), home, before)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def chapter(lab, jupytext, chromium):
    """`known_world.md`, opened by a double click, with all its cells run."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("websocket", lambda socket: page.requested.append(socket.url))
    page.goto(lab.address)
    page.locator(".jp-DirListing-item", has_text="known_world.md").dblclick()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    cells = jupytext.read(BOOK / "known_world.md").cells
    code = sum(cell.cell_type == "code" for cell in cells)
    page.wait_for_function(RAN, arg=code, timeout=PATIENCE)
    yield page
    context.close()


@pytest.fixture
def explorer(chapter):
    found = chapter.locator(".jp-OutputArea-child", has_text="Choose a gain")
    found.locator("img").first.wait_for()
    return found


def pictures(explorer):
    return [image.get_attribute("src") for image in explorer.locator("img").all()]


def words(explorer):
    return explorer.get_by_text("The state").text_content()


def first_gain(explorer):
    call = explorer.locator("code").text_content()
    return float(re.fullmatch(r"exact\.cost\(lqr, \[\[(\S+), \S+\]\]\)", call)[1])


@pytest.mark.browser
def test_every_cell_runs_and_none_shows_an_error(chapter):
    for kind in ("error", "stderr"):
        shown = chapter.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']")
        assert shown.all_text_contents() == []
    assert chapter.get_by_text("javascript error").count() == 0


@pytest.mark.browser
def test_every_formula_is_typeset(chapter):
    displayed = re.findall(r"^ *\$\$", (BOOK / "known_world.md").read_text(), re.M)
    shown = chapter.locator(".jp-MarkdownCell .katex-display").count()
    assert shown == len(displayed) / 2 > 0  # each opens and closes
    assert chapter.locator(".jp-MarkdownCell .text-red-500").all_text_contents() == []


@pytest.mark.browser
def test_an_explorer_opens_as_in_the_built_page(explorer):
    scene = show.gain_explorer(worlds.double_integrator())
    assert first_gain(explorer) == scene.default["k1"]
    assert words(explorer) == scene.show(**scene.default)


@pytest.mark.browser
def test_a_slider_asks_python_between_the_values_of_the_built_page(chapter, explorer):
    grid = show.gain_explorer(worlds.double_integrator()).controls[0].values
    before, said, gain = pictures(explorer), words(explorer), first_gain(explorer)
    assert len(before) == 2
    explorer.get_by_role("slider").first.press("ArrowLeft")
    chapter.wait_for_function(
        "([img, old]) => img.src !== old",
        arg=[explorer.locator("img").last.element_handle(), before[1]],
    )
    assert all(new != old for new, old in zip(pictures(explorer), before, strict=True))
    assert words(explorer) != said
    assert grid[0] < first_gain(explorer) < gain
    assert min(abs(first_gain(explorer) - value) for value in grid) > 1e-3


@pytest.mark.browser
def test_no_other_host_is_asked_for_anything_and_nobody_for_news(chapter):
    hosts = {urlsplit(url).hostname for url in chapter.requested}
    assert hosts - {None} == {"localhost"}  # None: data in the page itself
    # The extension that asks for news and updates reads its own settings first.
    assert not any("announcements" in url for url in chapter.requested)


@pytest.mark.browser
def test_without_the_token_nothing_is_told(lab):
    server = lab.address.partition("/lab")[0]
    token = lab.address.partition("?")[2]
    with urlopen(f"{server}/api/contents?{token}") as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError, match="403") as refused:
        urlopen(f"{server}/api/contents")
    refused.value.close()


@pytest.mark.browser
def test_neither_the_book_nor_the_home_folder_is_written_to(chapter, lab):
    assert contents(BOOK) == lab.book
    assert list(lab.home.iterdir()) == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_saving_a_chapter_in_jupyterlab_does_not_change_it(jupytext, name):
    from jupyter_client.kernelspec import get_kernel_spec

    notebook = jupytext.read(BOOK / name)
    kernel = get_kernel_spec("python3")
    # JupyterLab writes the kernel's data anew, in this order.
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": kernel.display_name,
        "language": kernel.language,
    }
    saved = jupytext.writes(notebook, fmt="md:myst")
    assert saved == (BOOK / name).read_text(encoding="utf-8")
