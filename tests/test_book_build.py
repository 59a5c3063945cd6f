"""The build itself, on small books: what must fail fails, also on the second try."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import same_book
from conftest import ROOT

pytestmark = pytest.mark.book

PAGE = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
# A page

{text}

```{{code-cell}} ipython3
{code}
```
"""

FILES = (
    "_config.yml",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "README.md",
    "requirements.txt",
)
STDERR = "stderr was found in the cell outputs of cell"


class Book:
    """A copy of the build's files with pages of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in FILES:
            shutil.copy(ROOT / name, folder)
        for name in ("lqrlib", "book/_ext", "book/assets", "requirements"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "book/references.bib", folder / "book")
        self.write("index", code="1 + 1")

    def write(self, name, code, text=""):
        page = self.folder / "book" / f"{name}.md"
        page.write_text(PAGE.format(text=text, code=code), encoding="utf-8")
        names = sorted(p.stem for p in (self.folder / "book").glob("*.md"))
        chapters = "".join(f"  - file: book/{n}\n" for n in names if n != "index")
        toc = "format: jb-book\nroot: book/index\n"
        toc += f"chapters:\n{chapters}" if chapters else ""
        (self.folder / "_toc.yml").write_text(toc, encoding="utf-8")

    def build(self, **environment):
        with self.start(**environment) as run:
            printed = run.communicate()[0]
        return subprocess.CompletedProcess(run.args, run.returncode, printed, "")

    def start(self, **environment):
        script = Path(sys.executable).with_name("jupyter-book")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("LQRB")}
        return subprocess.Popen(
            [script, "build", ".", "-W", "-n", "--keep-going"],
            cwd=self.folder,
            env=clean | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path)


def test_an_unchanged_book_runs_no_cell_again_and_an_edited_library_does(book):
    book.write("index", code="from lqrlib import worlds\nworlds.scalar().A[0, 0]")
    first = book.build()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Executing notebook" in first.stderr + first.stdout
    second = book.build()
    assert second.returncode == 0
    assert "Executing notebook" not in second.stderr + second.stdout
    worlds = book.folder / "lqrlib" / "worlds.py"
    source = worlds.read_text(encoding="utf-8")
    assert "a: float = 1.1" in source
    worlds.write_text(source.replace("a: float = 1.1", "a: float = 1.2345"))
    third = book.build()
    assert "Executing notebook" in third.stderr + third.stdout
    assert "1.2345" in (book.folder / "_build/html/book/index.html").read_text()


@pytest.mark.parametrize("name", ["study.npz", "benchmarks.json"])
def test_a_study_that_was_run_again_runs_the_cells_again(book, name):
    record = book.folder / "book" / "records" / name
    record.parent.mkdir()
    read = f"from pathlib import Path\nprint(Path('records/{name}').read_text())"
    book.write("index", code=read)
    for found in (0.5, 0.75):
        record.write_text(str(found))
        assert book.build().returncode == 0
        assert str(found) in (book.folder / "_build/html/book/index.html").read_text()


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ({"code": "1 / 0"}, "ZeroDivisionError"),
        ({"code": "import sys; print('oops', file=sys.stderr)"}, STDERR),
        ({"code": "import warnings; warnings.warn('careful')"}, STDERR),
        ({"code": "1", "text": "See {eq}`nowhere`."}, "nowhere"),
        ({"code": "1", "text": "See {doc}`nowhere`."}, "nowhere"),
        ({"code": "1", "text": "See {cite}`nobody2099`."}, "nobody2099"),
    ],
    ids=["error", "stderr", "warning", "equation", "page", "citation"],
)
def test_a_broken_page_fails_with_the_reason_both_times(book, page, complaint):
    book.write("index", **page)
    for _ in range(2):
        run = book.build()
        assert run.returncode != 0
        assert complaint in run.stdout + run.stderr
    book.write("index", code="2 + 2")
    assert book.build().returncode == 0


@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor runs one page")
def test_pages_are_run_side_by_side(book):
    meet = """\
import time
from pathlib import Path
Path("../ran-{}").touch()
while not Path("../ran-{}").exists():
    time.sleep(0.01)"""
    book.write("one", code=meet.format("one", "two"))
    book.write("two", code=meet.format("two", "one"))  # each waits for the other one
    run = book.build()
    assert run.returncode == 0, run.stdout + run.stderr


def test_of_several_pages_the_broken_one_fails_with_the_reason_both_times(book):
    book.write("one", code="1 / 0")
    book.write("two", code="'sound'")
    for _ in range(2):
        run = book.build()
        assert run.returncode != 0
        assert "one.md" in run.stdout + run.stderr
        assert "ZeroDivisionError" in run.stdout + run.stderr


def test_a_new_citation_renumbers_the_links_of_all_pages(book):
    book.write("list", code="1", text="```{bibliography}\n```")
    book.write("one", code="1", text="{cite}`recht2019tour`")
    book.write("two", code="1")
    assert book.build().returncode == 0
    book.write("two", code="1", text="{cite}`bradtke1993lqr`")
    assert book.build().returncode == 0
    html = book.folder / "_build/html/book"
    entries = (html / "list.html").read_text()
    for name, author in (("one", "Recht"), ("two", "Bradtke")):
        page = (html / f"{name}.html").read_text()
        (link,) = set(re.findall(r'list\.html#(id\d+)"', page))
        assert author in entries.split(f'id="{link}"')[1][:200]


def test_a_chapter_alone_runs_only_its_own_cells(book):
    for name in ("one", "two"):
        code = f"from pathlib import Path\nPath('../ran-{name}').touch()"
        book.write(name, code=code)
    run = book.build(LQRBOOK_CHAPTER="book/one.md")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (book.folder / "ran-one").exists()
    assert not (book.folder / "ran-two").exists()


def test_a_chapter_alone_stands_although_its_neighbours_lack_their_figures(book):
    figure = "---\nmystnb:\n  figure:\n    name: fig-two\n    caption: c\n---\n"
    book.write("one", code="1")
    book.write("two", code=figure + "1", text="See {numref}`fig-two`.")
    script = Path(sys.executable).with_name("jupyter-book")
    run = subprocess.run(
        [script, "build", ".", "--keep-going"],  # as `make chapter` does
        cwd=book.folder,
        env=os.environ | {"LQRBOOK_CHAPTER": "book/one.md"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0
    assert "fig-two" in run.stderr + run.stdout
    assert (book.folder / "_build/html/book/one.html").is_file()


def test_a_changed_style_sheet_alone_reaches_the_book(book):
    assert book.build().returncode == 0
    sheet = book.folder / "book/assets/book.css"
    sheet.write_text(sheet.read_text() + "/* changed */\n")
    run = book.build()
    assert run.returncode == 0
    assert "Executing notebook" not in run.stderr + run.stdout
    copy = book.folder / "_build/html/_static/book.css"
    assert copy.read_text().endswith("/* changed */\n")


def test_a_changed_extension_alone_reaches_the_book(book):
    assert book.build().returncode == 0
    extension = book.folder / "book/_ext/live.py"
    extension.write_text(
        extension.read_text().replace("Run the cells", "Run all cells")
    )
    run = book.build()
    assert run.returncode == 0
    assert "Executing notebook" not in run.stderr + run.stdout
    assert "Run all cells" in (book.folder / "_build/html/book/index.html").read_text()


def test_what_a_cell_prints_in_two_flushes_is_one_line(book):
    code = "print('two', end='  ', flush=True)\nprint('flushes\\n')\nprint('end')"
    book.write("index", code=code)
    assert book.build().returncode == 0
    page = (book.folder / "_build/html/book/index.html").read_text()
    assert "two  flushes\n\nend\n" in re.sub("<[^>]*>", "", page)
    cells = book.folder / "_build/jupyter_execute/book/index.ipynb"
    printed = json.loads(cells.read_text())["cells"][-1]["outputs"]
    assert len(printed) > 1
    chunks = ["".join(chunk["text"]) for chunk in printed]
    assert "".join(chunks) == "two  flushes\n\nend\n"


FIGURE = """\
import numpy as np
from lqrlib import show, worlds
fig, ax = show.figure("x", "y")
ax.plot(np.random.default_rng(0).standard_normal(99))
show.Still(fig)"""
EXPLORER = (
    "from lqrlib import show, worlds\nshow.gain_explorer(worlds.double_integrator())"
)


def test_two_builds_in_two_places_are_the_same_book_times_apart(tmp_path):
    books = []
    for name in ("one", "a_longer_name"):
        (tmp_path / name).mkdir()
        book = Book(tmp_path / name)
        book.write("one", code=FIGURE, text="{cite}`recht2019tour`")
        book.write("two", code=EXPLORER, text="$x^2$\n\n```{bibliography}\n```")
        book.write("execution", code="1", text="```{execution}\n```")
        assert book.build().returncode == 0
        books.append(book.folder / "_build/html")
    assert list(same_book.differences(*books)) == []
    page = books[0] / "book/one.html"
    page.write_text(page.read_text("utf-8").replace("</h1>", "!</h1>"))
    (found,) = same_book.differences(*books)
    assert re.fullmatch(
        r"book/one.html: not the same\n    .*!</h1>\n    .*</h1>", found
    )
    page.unlink()
    assert list(same_book.differences(*books)) == ["book/one.html: in one book only"]


def test_a_plain_build_without_flags_succeeds_too(book):
    script = Path(sys.executable).with_name("jupyter-book")
    run = subprocess.run(
        [script, "build", "."], cwd=book.folder, capture_output=True, check=False
    )
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.1\nexit 1", "Python 3.9.1"),
        ('#!/bin/sh\ncase "$2" in *venv*) exit 1;; esac', "lacks the venv module"),
        (None, "No ./python found"),
    ],
    ids=["too old", "no venv", "missing"],
)
def test_make_says_what_is_wrong_with_the_python(book, python, says):
    if python:
        (book.folder / "python").write_text(python)
        (book.folder / "python").chmod(0o755)
    run = subprocess.run(
        ["make", "book", "PYTHON=./python"],
        cwd=book.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert says in run.stdout


CLAIM = """\
$$ x = y $$ (equal)

```{{claim}} {name}
:equation: equal
:test: {test}
That $x = y$.
```
"""
TEST = "tests/test_sums.py::test_sum"


@pytest.fixture
def claims(book):
    """A small book with a test, and a page for the ledger that comes before others."""
    (book.folder / "tests").mkdir()
    (book.folder / "tests/test_sums.py").write_text("def test_sum():\n    ...\n")
    book.write("a_ledger", code="1", text="```{ledger}\n```\n\n```{execution}\n```")
    return book


def checking(name, measured=1.0):
    return f"from lqrlib import show\nshow.claim('{name}', {measured}, at_most=2)"


def test_the_ledger_lists_a_claim_with_what_its_cell_has_measured(claims):
    text = CLAIM.format(name="one-is-two", test=TEST)
    claims.write("page", code=checking("one-is-two"), text=text)
    run = claims.build()
    assert run.returncode == 0, run.stdout + run.stderr
    html = claims.folder / "_build/html/book"
    ledger, page = (
        (html / f"{name}.html").read_text("utf-8") for name in ("a_ledger", "page")
    )
    (line,) = [row for row in ledger.split("<tr") if "one-is-two" in row]
    assert 'href="page.html#claim-one-is-two"' in line
    assert 'href="page.html#cell-1"' in line
    assert 'href="page.html#equation-equal"' in line
    for words in ("That", "at most 2", "<p>1</p>", "yes", "test_sums.py", "test_sum"):
        assert words in line
    assert 'id="claim-one-is-two"' in page
    assert 'id="cell-1"' in page
    assert "allowed: at most 2" in page
    assert '<p>1</p></td>\n<td class="text-right"><p>' in ledger.split("written-ex")[1]


def test_a_new_measurement_reaches_the_ledger(claims):
    text = CLAIM.format(name="one-is-two", test=TEST)
    for measured in ("1.25", "1.75"):
        claims.write("page", code=checking("one-is-two", measured), text=text)
        assert claims.build().returncode == 0
        ledger = (claims.folder / "_build/html/book/a_ledger.html").read_text("utf-8")
        assert measured in ledger
        assert claims.build().returncode == 0  # from the cache
        again = (claims.folder / "_build/html/book/a_ledger.html").read_text("utf-8")
        assert measured in again


@pytest.mark.parametrize(
    ("name", "test", "code", "complaint"),
    [
        ("a", TEST, "1", "claim a: no cell of this page checks it"),
        ("a", TEST, checking("b"), "check b: this page makes no such claim"),
        ("a", "tests/none.py::test_sum", checking("a"), "claim a: there is no test"),
        ("a", "tests/test_sums.py::test_", checking("a"), "claim a: there is no test"),
        ("a", "tests/test_sums.py", checking("a"), "claim a: there is no test"),
        ("a", TEST, checking("a", 3.0), "the claim a does not hold: measured 3"),
    ],
    ids=["no check", "no claim", "no file", "no function", "no name", "false"],
)
def test_a_claim_that_is_not_checked_fails_the_build_both_times(
    claims, name, test, code, complaint
):
    claims.write("page", code=code, text=CLAIM.format(name=name, test=test))
    for _ in range(2):
        run = claims.build()
        assert run.returncode != 0
        assert complaint in run.stdout + run.stderr


def test_the_build_does_not_take_a_cell_s_word_for_it(claims):
    record = {"name": "a", "measured": 3.0, "low": None, "high": 2.0, "allowed": ""}
    comment = f"<!-- lqrlib-claim {json.dumps(record)} -->"
    code = f"from IPython.display import HTML\nHTML('{comment}')"
    claims.write("page", code=code, text=CLAIM.format(name="a", test=TEST))
    run = claims.build()
    assert run.returncode != 0
    assert "claim a: it does not hold" in run.stdout + run.stderr


def test_a_chapter_alone_does_not_miss_the_checks_of_others(claims):
    for name in ("one", "two"):
        text = CLAIM.format(name=name, test=TEST).replace("equal", f"equal-{name}")
        claims.write(name, code=checking(name), text=text)
    run = claims.build(LQRBOOK_CHAPTER="book/one.md")
    assert run.returncode == 0, run.stdout + run.stderr
