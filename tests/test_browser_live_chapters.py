"""Every page with code, made live: its first explorer runs and asks Python."""

import pytest
from servers import BOOK, LONG, WITH_CODE, code_cells, nudge, watched

pytestmark = [pytest.mark.book, pytest.mark.browser]


@pytest.fixture
def page(live, chromium):
    with watched(chromium, viewport={"width": 1280, "height": 1000}) as page:
        yield page
    live.stop_kernels()


@pytest.mark.parametrize("name", WITH_CODE)
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
