"""What the build says of seconds and weights, and that the book keeps its budgets."""

import json
import os
import re

import pytest
from conftest import pages_of_the_book
from test_book_build import Book

pytestmark = pytest.mark.book

BUDGET = 2_500_000  # bytes a page, with all that it embeds
PUT = "from IPython.display import HTML\nHTML('<p>' + 'word ' * {} + '</p>')"


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path)


def pages(book):
    record = json.loads((book.folder / "_build/budget.json").read_text("utf-8"))
    return record["pages"]


def test_the_build_lists_seconds_and_weights_the_slowest_page_first(book):
    book.write("brief", code="1")
    book.write("slow", code="import time\ntime.sleep(2)")
    book.write("heavy", code=PUT.format(200_000))
    (book.folder / "book/words.md").write_text("# Words\n\nNo more.\n", "utf-8")
    book.write("index", code="1")  # and the table of contents
    run = book.build()
    assert run.returncode == 0, run.stdout + run.stderr
    found = pages(book)
    names = ("index", "brief", "slow", "heavy", "words")
    assert set(found) == {f"book/{name}" for name in names}
    assert found.pop("book/words")["seconds"] is None
    assert next(iter(found)) == "book/slow"
    assert found["book/slow"]["seconds"] > 2
    html = book.folder / "_build/html/book"
    for name, page in found.items():
        assert page["bytes"] == (html / f"{name[5:]}.html").stat().st_size
    lines = [line for line in run.stdout.splitlines() if line.startswith("book/")]
    assert [line.split()[0] for line in lines] == list(found)
    (row,) = [line for line in lines if line.startswith("book/heavy")]
    assert 1.0 <= float(row.split()[2]) < 1.2
    assert re.search(r"build \d+ s of 600, slowest page \d+ s of 90", run.stdout)
    assert "over budget" not in run.stdout


def test_pictures_count_on_each_page_that_shows_them_and_once(book):
    (book.folder / "book/noise.png").write_bytes(os.urandom(300_000))
    show = "![Noise](noise.png)\n\n![Again](noise.png)"
    book.write("one", code="1", text=show)
    book.write("two", code="1", text=show + "\n\n[a link](noise.png)")
    assert book.build().returncode == 0
    found, html = pages(book), book.folder / "_build/html/book"
    for name in ("one", "two"):
        own = (html / f"{name}.html").stat().st_size
        assert found[f"book/{name}"]["bytes"] == own + 300_000


@pytest.mark.parametrize("how", ["output", "picture"])
def test_a_page_that_is_too_heavy_fails_both_times(book, how):
    (book.folder / "book/noise.png").write_bytes(os.urandom(BUDGET))
    heavy = {
        "output": {"code": PUT.format(BUDGET // 5)},
        "picture": {"code": "1", "text": "![Noise](noise.png)"},
    }
    book.write("heavy", **heavy[how])
    for _ in range(2):
        run = book.build()
        assert run.returncode != 0
        said = re.sub(r"\s+", " ", run.stdout + run.stderr)
        assert re.search(r"the page weighs 2[56]\d{5} bytes, allowed: 2500000", said)
    book.write("heavy", code="1")
    assert book.build().returncode == 0


def test_a_slow_page_and_a_slow_build_are_said_and_do_not_fail(book):
    source = book.folder / "book/_ext/budget.py"
    text = source.read_text("utf-8")
    for line in ("BUILD_SECONDS = 600.0", "PAGE_SECONDS = 90.0"):
        assert line in text
        text = text.replace(line, line.split("=")[0] + "= 1.0")
    source.write_text(text, "utf-8")
    book.write("slow", code="import time\ntime.sleep(2)")
    run = book.build()
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"over budget: book/slow took \d+ s, allowed: 1", run.stdout)
    assert re.search(r"over budget: the build took \d+ s, allowed: 1", run.stdout)


def test_a_chapter_alone_is_reported_alone(book):
    book.write("one", code="1")
    book.write("two", code=PUT.format(BUDGET // 5))
    assert book.build(LQRBOOK_CHAPTER="book/one.md").returncode == 0
    assert set(pages(book)) == {"book/one"}


def test_every_page_of_the_book_weighs_less_than_half_of_what_it_may(html):
    record = json.loads((html.parent / "budget.json").read_text("utf-8"))
    found = record["pages"]
    assert set(found) == set(pages_of_the_book())
    assert record["allowed"]["page"]["bytes"] == BUDGET
    for name, page in found.items():
        assert 0 < page["bytes"] < BUDGET / 2, name
        cells = (html / f"{name}.html").read_text("utf-8").count('id="cell-')
        assert (page["seconds"] or 0) > 0 or not cells, name
