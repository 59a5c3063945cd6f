"""Every built page in a real browser, from a file, with the network blocked."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import HTML, pages_of_the_book

pytestmark = [pytest.mark.book, pytest.mark.browser]

PAGES = [f"{name}.html" for name in pages_of_the_book()]

# Faults of the theme and its parts, not of this book: a rule, and the start of each
# place where it is broken. Anything else fails.
THEIRS = {
    "aria-required-children": (".citation-list",),  # docutils: a list of divs
    "aria-allowed-role": ("#id",),  # each with a role that it should not have,
    "aria-deprecated-role": ("#id",),  # and that nothing should have any more
    "region": (
        ".sidebar-primary-items__start",
    ),  # the title of the book, beside the text
}


@pytest.fixture
def open_page(chromium, html):
    """Open a page; what went wrong on the way is listed in ``page.faults``."""
    contexts = []

    def opened(name, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        context.route(
            lambda url: url.startswith(("http:", "https:")),
            lambda route: (page.faults.append(route.request.url), route.abort()),
        )
        page.on("requestfailed", lambda r: page.faults.append(f"failed {r.url}"))
        page.on("pageerror", lambda e: page.faults.append(f"error {e}"))
        page.on(
            "console",
            lambda m: page.faults.append(m.text) if m.type == "error" else None,
        )
        page.goto(f"file://{html / name}")
        page.wait_for_function("!window.MathJax || MathJax.startup?.promise")
        page.evaluate("window.MathJax && MathJax.startup.promise")
        return page

    yield opened
    for context in contexts:
        context.close()


def test_every_page_of_the_table_of_contents_is_tested(html):
    built = {p.relative_to(html).as_posix() for p in (html / "book").rglob("*.html")}
    assert built == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_network_and_without_complaint(open_page, name):
    page = open_page(name)
    page.wait_for_timeout(300)
    assert page.faults == []


@pytest.mark.parametrize("name", PAGES)
def test_all_formulas_are_typeset_and_none_is_red(open_page, name):
    page = open_page(name)
    formulas = page.locator(".math").count()
    assert page.locator(".math mjx-container").count() == formulas
    assert page.locator("mjx-container [data-mml-node='merror']").count() == 0
    assert page.locator("mjx-container [fill='red']").count() == 0
    assert formulas or name != "book/known_world.html"


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_needs_no_sideways_scroll(open_page, name):
    page = open_page(name, viewport={"width": 360, "height": 740})
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    cut = page.evaluate(
        """() => [...document.querySelectorAll("div.math")].filter((m) =>
        m.scrollWidth > m.clientWidth + 1 &&
        !["auto", "scroll"].includes(getComputedStyle(m).overflowX)).length"""
    )
    assert cut == 0


@pytest.mark.parametrize("name", PAGES)
def test_the_dark_scheme_is_dark(open_page, name):
    page = open_page(name, color_scheme="dark")
    shades = page.evaluate(
        """() => [document.body, document.querySelector("h1")].map((e) => {
        const s = getComputedStyle(e);
        return [s.backgroundColor, s.color].map((c) => c.match(/\\d+/g).map(Number))
        })"""
    )
    assert max(shades[0][0][:3]) < 40
    assert min(shades[1][1][:3]) > 180


ON_PAPER = """() => {
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) =>
      c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4
    ).reduce((sum, c, i) => sum + [.2126, .7152, .0722][i] * c, 0);
    const pale = (e) => {
      const ink = getComputedStyle(e).color.match(/[\\d.]+/g).map(Number);
      return 1.05 / (light(ink) + .05) < 4.5;
    };
    const main = document.querySelector(".bd-article");
    const read = [...main.querySelectorAll("*")].filter((e) =>
      e.checkVisibility() && (e.matches("mjx-container") ||
      [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())));
    const cut = (e) => e.scrollWidth > e.clientWidth + 1;
    const closed = (e) => !e.lastElementChild.checkVisibility();
    return {
      read: read.length,
      pale: read.filter(pale).map((e) => e.outerHTML.slice(0, 200)),
      cut: [...main.querySelectorAll("pre")].filter(cut).map((e) => e.innerText),
      closed: [...main.querySelectorAll("details.sd-dropdown")].filter(closed).length,
    };
    }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "known_world", "ledger", "reference/exact"])
def test_on_paper_the_ink_is_dark_no_line_is_cut_and_boxes_are_open(
    open_page, name, scheme
):
    page = open_page(f"book/{name}.html", color_scheme=scheme)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    found = page.evaluate(ON_PAPER)
    assert found.pop("read") > 20
    assert found == {"pale": [], "cut": [], "closed": 0}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(open_page, name, scheme):
    page = open_page(name, color_scheme=scheme)
    found = []
    for violation in Axe().run(page).response["violations"]:
        for node in violation["nodes"]:
            place = " ".join(map(str, node["target"]))
            if not place.startswith(THEIRS.get(violation["id"], ())):
                found.append({violation["id"]: place, "html": node["html"][:200]})
    assert not found, json.dumps(found, indent=1)


def test_the_address_of_the_book_is_a_file():
    assert (HTML / "index.html").is_file()
