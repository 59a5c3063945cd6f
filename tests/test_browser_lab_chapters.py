"""Every chapter in JupyterLab: opened, run from top to bottom, its slider moved."""

import pytest
from servers import BOOK, CHAPTERS, code_cells, nudge, running
from test_browser_lab import RAN

pytestmark = pytest.mark.browser

LONG = 400_000  # ms for all cells of a chapter, beside another test


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    with running("lab", tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def page(lab, chromium):
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(90_000)
    yield context.new_page()
    context.close()
    lab.stop_kernels()


OTHERS = [name for name in CHAPTERS if name != "known_world.md"]  # see test_browser_lab


@pytest.mark.parametrize("name", OTHERS)
def test_a_chapter_runs_and_its_slider_changes_the_picture(lab, page, name):
    page.goto(f"{lab.address}&reset")
    page.locator(f".jp-DirListing-item[title*='Name: {name}']").dblclick()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(RAN, arg=len(code_cells(name)), timeout=LONG)
    for kind in ("error", "stderr"):
        shown = page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']")
        assert shown.all_text_contents() == []
    explorers = page.locator(".jp-OutputArea-child").filter(
        has=page.get_by_role("slider")
    )
    assert bool(explorers.count()) == ("_explorer(" in (BOOK / name).read_text())
    if explorers.count():
        nudge(explorers.first)
