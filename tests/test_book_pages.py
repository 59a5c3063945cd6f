"""The built pages, read as files: links, anchors, alternative texts, weight."""

import functools
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT, pages_of_the_book

pytestmark = pytest.mark.book

BUDGET = 2_500_000  # bytes a page, explorers included


class Page(HTMLParser):
    """Links, ids and pictures of one page."""

    def __init__(self, path):
        super().__init__()
        self.path, self.ids, self.links, self.pictures = path, [], [], []
        self.headings, self.reading = [], False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.reading |= tag == "article"  # what comes before are menus
        if self.reading and re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in found:
            self.ids.append(found["id"])
        if tag in {"a", "link"} and "href" in found:
            self.links.append(found["href"])
        if tag in {"img", "script"} and "src" in found:
            self.links.append(found["src"])
        if tag == "img":
            self.pictures.append(found.get("alt"))
        if tag == "svg" and found.get("role") == "img":
            self.pictures.append(found.get("aria-label"))


@functools.cache
def anchors(path):
    """What a link into a page may name."""
    return frozenset(Page(path).ids)


@pytest.fixture(scope="module")
def pages(html):
    """Every page of the book itself, and the search page and index beside it."""
    return {path: Page(path) for path in sorted(html.rglob("*.html")) if _own(path)}


def _own(path: Path) -> bool:
    return "_static" not in path.parts and path.name != "webpack-macros.html"


def test_the_book_has_its_pages(pages, html):
    names = {path.relative_to(html).as_posix() for path in pages}
    assert {"index.html", *(f"{name}.html" for name in pages_of_the_book())} <= names


def test_every_chapter_makes_claims_and_the_ledger_has_them_all(html):
    ledger = (html / "book/ledger.html").read_text(encoding="utf-8")
    rows = [row for row in ledger.split("<tr")[1:] if "<td>" in row]
    listed = {claim for row in rows for claim in re.findall(r"#(claim-[\w-]+)", row)}
    made = {}
    for name in pages_of_the_book():
        text = (html / f"{name}.html").read_text(encoding="utf-8")
        made[name] = re.findall(r'id="(claim-[\w-]+)"', text)
    chapters = re.split("Appendix", (ROOT / "_toc.yml").read_text(encoding="utf-8"))[0]
    assert all(len(made[name]) > 1 for name in made if name in chapters)
    assert listed == {claim for claims in made.values() for claim in claims}
    assert len(rows) == len(listed) > 40
    assert all("<p>yes</p>" in row and "#cell-" in row for row in rows)


def test_the_report_has_every_page_with_cells_and_its_seconds(html):
    report = (html / "book/execution.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr.*?</tr>", report, re.DOTALL)
    for name in pages_of_the_book():
        cells = (html / f"{name}.html").read_text(encoding="utf-8").count('id="cell-')
        page = name.removeprefix("book/")
        if cells and page != "execution":
            (row,) = [row for row in rows if f'"{page}.html"' in row]
            numbers = re.findall(r"<p>([\d.]+)</p>", row)
            assert int(numbers[0]) == cells
            assert float(numbers[1]) > 0


def test_every_local_link_and_anchor_exists(pages):
    missing = []
    for path, page in pages.items():
        for link in page.links:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            file = (path.parent / unquote(target.path)).resolve()
            file = file if target.path else path.resolve()
            anchored = target.fragment and file.suffix == ".html" and file.is_file()
            if not file.exists() or (anchored and target.fragment not in anchors(file)):
                missing.append(f"{path.name}: {link}")
    assert not missing


def test_no_id_stands_twice_on_a_page(pages):
    for page in pages.values():
        twice = {i for i in page.ids if page.ids.count(i) > 1}
        # Sphinx-exercise gives the content of every exercise the same id.
        assert twice <= {"exercise-content", "solution-content"}, page.path


def test_headings_begin_with_one_title_and_leave_no_level_out(pages, html):
    for name in pages_of_the_book():
        levels = pages[html / f"{name}.html"].headings
        assert (levels[0], levels.count(1)) == (1, 1), name
        steps = [low - high for high, low in itertools.pairwise(levels)]
        assert max(steps, default=0) <= 1, name


def test_every_picture_has_an_alternative_text(pages):
    for path, page in pages.items():
        assert all(page.pictures), path
        # Without one docutils gives the picture's address.
        assert not any("_images/" in words for words in page.pictures), path


def test_a_page_and_all_that_it_loads_stays_within_its_budget(pages):
    for path, page in pages.items():
        own = path.stat().st_size
        assert own <= BUDGET, path
        # MathJax and the theme come once and are shared by all pages.
        images = {x for x in page.links if "_images" in x}
        total = own + sum((path.parent / x).stat().st_size for x in images)
        assert total <= BUDGET, path


def test_nothing_is_loaded_from_another_host(pages):
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert 'src="http' not in text, path
        assert "require.js" not in text.lower(), path
        assert "thebe_js_url" not in text.lower(), path
