"""Every page with code, made live: its first explorer runs and asks Python."""

import pytest
from servers import BOOK, CHAPTERS, code_cells, nudge, running

pytestmark = [pytest.mark.book, pytest.mark.browser]

LONG = 400_000  # ms for the cells up to an explorer, beside another test


@pytest.fixture(scope="module")
def live(html, chromium, tmp_path_factory):
    with running("live", tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture
def page(live, chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda e: page.faults.append(f"error {e}"))
    page.on(
        "console", lambda m: page.faults.append(m.text) if m.type == "error" else None
    )
    yield page
    context.close()
    live.stop_kernels()


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_page_goes_live_and_its_slider_changes_the_picture(live, page, name):
    address = f"{live.root}/read/book/{name.removesuffix('.md')}.html"
    page.goto(f"{address}?{live.token}")
    page.get_by_role("button", name="Live").click()
    page.locator(".lqr-bar").get_by_text("Live.").wait_for()
    assert page.locator(".CodeMirror").count() == len(code_cells(name))
    if "_explorer(" in (BOOK / name).read_text():  # JupyterLab's test runs the others
        cell = page.locator(
            f"#{page.locator('.cell:has(.lqr-explorer)').first.get_attribute('id')}"
        )
        cell.get_by_role("button", name="run", exact=True).click()
        page.locator(".lqr-bar").get_by_text("Running cell").wait_for()
        page.locator(".lqr-bar").get_by_text("Live.").wait_for(timeout=LONG)
        nudge(cell)
    assert page.faults == []
