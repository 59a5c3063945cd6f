"""Every chapter in JupyterLab: opened, run from top to bottom, its slider moved."""

import pytest
from servers import BOOK, CHAPTERS, nudge, run_in_lab, watched

pytestmark = pytest.mark.browser


@pytest.fixture
def page(lab, chromium):
    with watched(chromium, viewport={"width": 1400, "height": 1000}) as page:
        yield page
    lab.stop_kernels()


OTHERS = [name for name in CHAPTERS if name != "known_world.md"]  # see test_browser_lab


@pytest.mark.parametrize("name", OTHERS)
def test_a_chapter_runs_and_its_slider_changes_the_picture(lab, page, name):
    run_in_lab(page, lab, name)
    for kind in ("error", "stderr"):
        shown = page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']")
        assert shown.all_text_contents() == []
    explorers = page.locator(".jp-OutputArea-child").filter(
        has=page.get_by_role("slider")
    )
    assert bool(explorers.count()) == ("_explorer(" in (BOOK / name).read_text())
    if explorers.count():
        nudge(explorers.first)
