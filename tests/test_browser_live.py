"""The live page, as `make live` serves it: cells run, and explorers call Python."""

import functools
import http.server
import json
import os
import re
import signal
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil
import pytest
from conftest import HTML, ROOT
from servers import BOOK, PATIENCE, SHARED, contents, running, watched
from traitlets.config import PyFileConfigLoader

from lqrlib import show, worlds

pytestmark = [pytest.mark.book, pytest.mark.browser]

EXPLORER = "#cell-17"  # of known_world.md, with sixteen cells before it


@pytest.fixture
def opened(live, chromium):
    """Open a page, by default a chapter of the live server."""
    with ExitStack() as pages:

        def at(address=f"{live.root}/read/book/known_world.html?{live.token}"):
            page = pages.enter_context(watched(chromium))
            page.goto(address)
            return page

        yield at


def click_live(page):
    page.get_by_role("button", name="Live").click()
    return page.locator(".lqr-bar").get_by_role("status")


def go_live(page):
    status = click_live(page)
    status.get_by_text("Live.").wait_for()
    return status


def unfold(page, cell):
    """Open the code of a cell, should it be folded away."""
    page.evaluate(f"document.querySelector('{cell} details')?.setAttribute('open', '')")
    return page.locator(cell)


def run(page, cell):
    """Press a cell's button."""
    found = unfold(page, cell)
    found.get_by_role("button", name="run", exact=True).click()
    return found


def write(page, cell, code):
    """Type into a cell's editor, in place of what it holds."""
    unfold(page, cell).locator(".CodeMirror").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(code)


def process_of(kernel):
    """The process whose connection file is this kernel's."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if kernel in (process / "cmdline").read_text():
                return int(process.name)
        except OSError:
            continue
    return pytest.fail("the kernel has no process")


@pytest.fixture(scope="module")
def explorer_page(live, chromium):
    """`known_world`, live, with its explorer and all before it run."""
    with watched(chromium, viewport={"width": 1280, "height": 1000}) as page:
        page.goto(f"{live.root}/read/book/known_world.html?{live.token}")
        status = go_live(page)
        run(page, EXPLORER).locator(".lqr-output img").last.wait_for()
        status.get_by_text("Live.").wait_for()
        yield page


def pictures(page):
    return [i.get_attribute("src") for i in page.locator(f"{EXPLORER} img").all()]


def first_gain(page):
    call = page.locator(f"{EXPLORER} .lqr-output code").last.text_content()
    return float(re.fullmatch(r"exact\.cost\(lqr, \[\[(\S+), \S+\]\]\)", call)[1])


def test_a_run_cell_shows_what_python_computes_and_those_before_it_have_run(
    explorer_page,
):
    scene = show.gain_explorer(worlds.double_integrator())
    assert first_gain(explorer_page) == scene.default["k1"]
    said = explorer_page.locator(EXPLORER).get_by_text("The state").text_content()
    assert said == scene.show(**scene.default)
    live_outputs = explorer_page.locator(".lqr-output .jp-OutputArea-output")
    assert live_outputs.count() >= 10
    assert explorer_page.locator(f"{EXPLORER} section.lqr-explorer").count() == 0


def test_a_slider_asks_python_between_the_values_of_the_built_page(explorer_page):
    grid = show.gain_explorer(worlds.double_integrator()).controls[0].values
    before, gain = pictures(explorer_page), first_gain(explorer_page)
    assert len(before) == 2
    slider = explorer_page.locator(EXPLORER).get_by_role("slider").first
    slider.press("ArrowLeft")
    explorer_page.wait_for_function(
        "([cell, old]) => [...document.querySelectorAll(`${cell} img`)]"
        ".every((img, i) => img.src !== old[i])",
        arg=[EXPLORER, before],
    )
    assert grid[0] < first_gain(explorer_page) < gain
    assert min(abs(first_gain(explorer_page) - value) for value in grid) > 1e-3
    slider.press("ArrowRight")


def test_a_figure_keeps_its_caption_and_its_number(explorer_page):
    figure = explorer_page.locator("#fig-loops, #cell-1 figure").first
    assert "Fig. 1.1" in figure.locator("figcaption").text_content()
    assert figure.locator(".lqr-output img, .lqr-output svg").count() == 1
    assert figure.locator("img, svg").count() == 1  # the snapshot's is gone


def test_a_cell_that_has_not_run_shows_the_snapshot(explorer_page, html):
    last = explorer_page.locator(".cell_output").last
    assert last.text_content().strip()
    assert explorer_page.locator(".lqr-output:empty").count() == 0  # Thebe's are there


def test_nothing_goes_wrong_and_no_other_host_is_asked(explorer_page):
    assert explorer_page.faults == []
    hosts = {urlsplit(url).hostname for url in explorer_page.requested}
    assert hosts - {None} == {"localhost"}  # None: data in the page itself


def test_a_live_picture_follows_a_slider_within_150_ms(explorer_page):
    page = explorer_page
    page.evaluate(
        """(cell) => {
            const images = [...document.querySelectorAll(`${cell} .lqr-output img`)];
            let start = 0, left = 0;
            window.times = [];
            document.addEventListener("keydown", () => {
                start = performance.now(); left = images.length; }, true);
            for (const image of images) image.addEventListener("load", async () => {
                await image.decode();
                if (--left === 0) times.push(performance.now() - start); });
        }""",
        EXPLORER,
    )
    page.locator(EXPLORER).get_by_role("slider").first.focus()
    medians = []
    for _ in range(4):  # another test may keep both processors busy for a while
        page.evaluate("window.times = []")
        for move in range(20):
            page.keyboard.press("ArrowLeft" if move < 10 else "ArrowRight")
            page.wait_for_timeout(250)
        assert page.evaluate("times.length") >= 10
        medians.append(statistics.median(page.evaluate("times")))
        if medians[-1] <= 150 * SHARED:
            break
    assert min(medians) <= 150 * SHARED, medians


def test_twenty_five_quick_moves_settle_within_300_ms_and_none_is_lost(explorer_page):
    page = explorer_page
    page.locator(EXPLORER).get_by_role("slider").first.focus()

    def readout():
        beside = page.locator(f"{EXPLORER} .widget-readout").first.text_content()
        return float(beside.replace("\N{MINUS SIGN}", "-"))

    page.evaluate(
        """(cell) => {
            document.addEventListener("keyup", () => { up = performance.now(); }, true);
            for (const image of document.querySelectorAll(`${cell} .lqr-output img`))
                image.addEventListener("load", () => { drawn = performance.now(); });
        }""",
        EXPLORER,
    )
    settled = []
    for turn in range(6):
        page.evaluate("window.drawn = window.up = 0")
        at = readout()
        for _ in range(25):
            page.keyboard.press("ArrowLeft" if turn % 2 == 0 else "ArrowRight")
        page.wait_for_timeout(1200)
        assert abs(readout() - at) > 0.4  # a step is a fourteenth of a quarter
        # The picture's own words name the value that the slider has come to.
        assert abs(first_gain(page) - readout()) < 0.006
        settled.append(page.evaluate("drawn - up"))
        if settled[-1] <= 300 * SHARED:
            break
    assert min(settled) <= 300 * SHARED, settled


def test_a_cell_can_be_changed_and_run_by_shift_and_enter(opened):
    page = opened()
    go_live(page)
    write(page, "#cell-2", "print(6 * 7)")
    page.keyboard.press("Shift+Enter")
    page.locator("#cell-2 .lqr-output").get_by_text("42", exact=True).wait_for()
    assert page.locator("#cell-1 .lqr-output img").count() == 1  # it ran before
    assert page.locator("#cell-3 .lqr-output .jp-OutputArea-output").count() == 0


def test_an_error_is_named_and_no_later_cell_is_run(opened):
    page = opened()
    status = go_live(page)
    editor = page.locator("#cell-2 .CodeMirror")
    source = editor.evaluate("editor => editor.CodeMirror.getValue()")
    write(page, "#cell-2", "1 / 0")
    run(page, "#cell-4")
    status.get_by_text("Cell 2 stopped with ZeroDivisionError: division by").wait_for()
    assert status.get_by_role("link").get_attribute("href") == "#cell-2"
    shown = page.locator("#cell-2 .lqr-output")
    assert "ZeroDivisionError: division by zero" in shown.text_content()
    for cell in ("#cell-3", "#cell-4"):
        assert page.locator(f"{cell} .jp-OutputArea-output").count() == 0
    write(page, "#cell-2", source)
    run(page, "#cell-4")
    page.locator("#cell-3 .jp-OutputArea-output").first.wait_for()
    status.get_by_text("Live.").wait_for()


def test_a_formula_that_a_cell_displays_is_typeset(opened):
    page = opened()
    go_live(page)
    code = "from IPython.display import Math\nMath(r'\\\\frac{1}{1-\\\\gamma}')"
    write(page, "#cell-1", code.replace("\\\\", "\\"))
    run(page, "#cell-1").locator(".lqr-output mjx-container").wait_for()


def test_a_cell_that_does_not_end_can_be_stopped(opened):
    page = opened()
    status = go_live(page)
    write(page, "#cell-1", "print('begun', flush=True)\nwhile True: pass")
    shown = run(page, "#cell-1").locator(".lqr-output")
    shown.get_by_text("begun", exact=True).wait_for()
    page.get_by_role("button", name="Stop").click()
    status.get_by_text("Cell 1 stopped with KeyboardInterrupt").wait_for()


def test_two_presses_start_one_kernel(live, opened):
    others = {kernel["id"] for kernel in live.kernels()}
    page = opened()
    page.get_by_role("button", name="Live").dblclick()
    page.locator(".lqr-bar").get_by_text("Live.").wait_for()
    assert len({kernel["id"] for kernel in live.kernels()} - others) == 1
    assert page.locator(".lqr-bar button").count() == 3


def test_a_server_that_cannot_start_python_is_reported(opened):
    page = opened()
    page.route("**/api/sessions*", lambda route: route.fulfill(status=500))
    click_live(page).get_by_text("Python could not be started").wait_for()


def test_restart_forgets_what_was_computed(opened):
    page = opened()
    status = go_live(page)
    write(page, "#cell-1", "known = 1")
    run(page, "#cell-1")
    page.get_by_role("button", name="Restart").click()
    status.get_by_text("Python was started again. No cell has run.").wait_for()
    write(page, "#cell-1", "known")
    run(page, "#cell-1")
    status.get_by_text("Cell 1 stopped with NameError").wait_for()


def test_who_kills_the_kernel_is_told_and_can_go_on(live, opened):
    others = {kernel["id"] for kernel in live.kernels()}
    page = opened()
    status = go_live(page)
    (kernel,) = {kernel["id"] for kernel in live.kernels()} - others
    os.kill(process_of(kernel), signal.SIGKILL)
    status.get_by_text("Python died and was started again").wait_for()
    write(page, "#cell-1", "print('alive')")
    run(page, "#cell-1").locator(".lqr-output").get_by_text(
        "alive", exact=True
    ).wait_for()


def test_a_kernel_that_the_server_has_stopped_is_reported(live, opened):
    others = {kernel["id"] for kernel in live.kernels()}
    page = opened()
    status = go_live(page)
    (kernel,) = {kernel["id"] for kernel in live.kernels()} - others
    live.stop(kernel)
    status.get_by_text("Python was stopped").wait_for()


def test_a_page_from_a_file_says_how_to_go_live(opened):
    page = opened(f"file://{HTML}/book/known_world.html")
    status = click_live(page)
    status.get_by_text("this page is a snapshot").wait_for()
    assert "make live" in status.text_content()
    click_live(page)  # again: one message, one button
    page.get_by_role("button", name="Close").click()
    assert page.locator(".lqr-bar").count() == 0
    assert page.locator(".CodeMirror").count() == 0
    assert page.faults == []


def test_a_page_from_another_server_says_how_to_go_live(opened):
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("localhost", 0), serve) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = opened(f"http://localhost:{other.server_port}/book/known_world.html")
        click_live(page).get_by_text("this page is a snapshot").wait_for()
        other.shutdown()


def test_a_browser_without_the_token_is_told_so(opened):
    page = opened()
    page.context.clear_cookies()
    click_live(page).get_by_text("does not know this browser").wait_for()


def test_a_page_without_code_has_no_button(opened, live):
    page = opened(f"{live.root}/read/book/bibliography.html?{live.token}")
    assert page.get_by_role("button", name="Live").count() == 0


@pytest.mark.parametrize("where", ["read/book/index.html", "thebe/index.js"])
def test_without_the_token_no_page_is_shown(live, where):
    with urlopen(f"{live.root}/{where}") as answer:  # redirected to the login page
        assert urlsplit(answer.url).path == "/login"
        assert b"lqrlib" not in answer.read()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("where", ["api/kernels", "api/sessions", "api/contents"])
def test_without_the_token_nothing_is_told_or_run(live, method, where):
    request = Request(f"{live.root}/{where}", method=method)
    with pytest.raises(HTTPError, match="403") as refused:
        urlopen(request)
    refused.value.close()
    with urlopen(f"{live.root}/{where}?{live.token}") as answer:
        assert answer.status == 200


def test_the_server_listens_on_this_computer_only(live, opened):
    go_live(opened())
    started = psutil.Process(live.process.pid)
    processes = [started, *started.children(recursive=True)]
    ends = [end for one in processes for end in one.net_connections("inet")]
    listening = {end.laddr.ip for end in ends if end.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1", "::1"} or listening == {"127.0.0.1"}


def test_the_server_sees_the_book_only(live):
    with urlopen(f"{live.root}/api/contents?{live.token}") as answer:
        names = {entry["name"] for entry in json.load(answer)["content"]}
    assert "known_world.md" in names
    assert "README.md" not in names
    for outside in ("read/..%2f..%2fREADME.md", "api/contents/..%2fREADME.md"):
        with pytest.raises(HTTPError, match=r"40[34]") as refused:
            urlopen(f"{live.root}/{outside}?{live.token}")
        refused.value.close()


def test_a_kernel_without_a_page_is_stopped_after_the_ten_minutes_of_the_readme():
    settings = PyFileConfigLoader("jupyter_live_config.py", str(BOOK / "_live"))
    kernels = settings.load_config().MappingKernelManager
    assert (kernels.cull_idle_timeout, kernels.cull_interval) == (600, 60)
    assert (
        "ends ten minutes after the page is closed" in (ROOT / "README.md").read_text()
    )


def test_a_kernel_that_no_page_holds_is_stopped(
    html, chromium, opened, tmp_path_factory
):
    soon = [
        f"--MappingKernelManager.cull_{k}" for k in ("idle_timeout=8", "interval=1")
    ]
    with running("live", tmp_path_factory.mktemp("culled"), *soon) as server:
        page = opened(f"{server.root}/read/book/known_world.html?{server.token}")
        go_live(page)
        page.wait_for_timeout(11_000)
        assert len(server.kernels()) == 1  # idle, but its page is open
        page.close()
        deadline = time.monotonic() + PATIENCE / 1000
        while server.kernels() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert server.kernels() == []


def test_a_server_that_has_stopped_is_reported(html, chromium, opened, tmp_path):
    with running("live", tmp_path) as server:
        page = opened(f"{server.root}/read/book/known_world.html?{server.token}")
    click_live(page).get_by_text("The server does not answer").wait_for()


def test_neither_the_book_nor_the_home_folder_is_written_to(live, explorer_page):
    assert not any("checkpoint" in name for name in contents(BOOK))
    assert list(live.home.iterdir()) == []
