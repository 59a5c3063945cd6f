"""Pages that are taken away: what the book offers, and that it runs anywhere."""

import os
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from urllib.parse import unquote

import jupytext
import nbformat
import pytest
from conftest import ROOT, pages_of_the_book
from test_book_build import Book

pytestmark = pytest.mark.book

SOURCES = {name: ROOT / f"{name}.md" for name in pages_of_the_book()}
MYST = re.compile(r"\{[a-z:-]+\}`|^(```|:::)+\{|^\([\w-]+\)=|\$\$ \(|^:[a-z]+:", re.M)
HERE = "import lqrlib; assert lqrlib.__file__.startswith({!r}), lqrlib.__file__"
RUN = """\
import sys, jupytext
from nbclient import NotebookClient
page = jupytext.read(sys.argv[1])
page.cells[0] = jupytext.reads(sys.argv[2], fmt="py:percent").cells[0]
NotebookClient(page, timeout=300, kernel_name="python3").execute()
"""


def code_of(page):
    return [cell.source for cell in page.cells if cell.cell_type == "code"]


def code_in(file):
    return code_of(jupytext.read(file, fmt="md:myst"))


WITH_CODE = [name for name, file in SOURCES.items() if code_in(file)]
every_page = pytest.mark.parametrize("name", WITH_CODE)


class Links(HTMLParser):
    """Addresses of a page's links: all, and those in the line below its title."""

    def __init__(self, file):
        super().__init__()
        self.file, self.all, self.line, self.depth = file, [], [], 0
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "div":
            self.depth += self.depth > 0 or found.get("class") == "lqr-take"
        if tag == "a" and "href" in found:
            (self.line if self.depth else self.all).append(found["href"])

    def handle_endtag(self, tag):
        self.depth -= tag == "div" and self.depth > 0

    def downloads(self, links):
        """Names of downloads, from their folder; each has to be a file."""
        files = [(self.file.parent / unquote(link)).resolve() for link in links]
        found = [file for file in files if "downloads" in file.parts]
        assert all(file.is_file() for file in found)
        return [str(file).split("/downloads/")[1] for file in found]


@pytest.fixture(scope="module")
def wheel(html):
    (found,) = (html / "downloads").glob("*.whl")
    return found


def test_the_pages_with_code_are_known():
    assert len(WITH_CODE) > 15
    assert "book/bibliography" not in WITH_CODE


@every_page
def test_a_page_with_code_offers_itself_and_the_library(html, wheel, name):
    links = Links(html / f"{name}.html")
    three = [f"{name}.ipynb", f"{name}.md", wheel.name]
    assert links.downloads(links.all) == three
    assert links.downloads(links.line) == three
    text = (html / f"{name}.html").read_text("utf-8")
    assert text.count('class="lqr-live"') == 1
    assert "Snapshot, lqrlib 0.1.0: take it away" in text
    assert f"pip install &quot;{wheel.name}[show]&quot;" in text
    assert "window.print()" in text
    assert not [link for link in links.all if "_sources" in link]


@pytest.mark.parametrize("name", sorted({*SOURCES} - {*WITH_CODE}))
def test_a_page_without_code_offers_nothing(html, name):
    text = (html / f"{name}.html").read_text("utf-8")
    assert "lqr-take" not in text
    assert "downloads/" not in text


@every_page
def test_a_notebook_has_the_cells_of_its_page_and_says_what_it_needs(html, wheel, name):
    page = nbformat.read(html / "downloads" / f"{name}.ipynb", as_version=4)
    nbformat.validate(page)
    assert code_of(page) == code_in(SOURCES[name])
    assert page.metadata.kernelspec.name == "python3"
    assert not any(cell.get("outputs") for cell in page.cells)
    first, *texts = (c.source for c in page.cells if c.cell_type == "markdown")
    assert f'\n    pip install "{wheel.name}[show]"\n' in first
    assert not [found for text in texts for found in MYST.findall(text)]


@every_page
def test_a_source_has_the_cells_of_its_page_after_one_of_its_own(html, wheel, name):
    text = (html / "downloads" / f"{name}.md").read_text("utf-8")
    page = jupytext.reads(text, fmt="md:myst")
    assert f'\n    pip install "{wheel.name}[show]"\n' in page.cells.pop(0).source
    own = jupytext.read(SOURCES[name], fmt="md:myst")
    assert [c.source for c in page.cells] == [c.source for c in own.cells]
    assert [c.metadata for c in page.cells] == [c.metadata for c in own.cells]


def test_the_plain_text_has_the_numbers_and_names_of_the_book(html):
    page = nbformat.read(html / "downloads/book/known_world.ipynb", as_version=4)
    text = "\n\n".join(c.source for c in page.cells if c.cell_type == "markdown")
    assert "\n\\tag{1.1}\n$$" in text
    assert "Solving (1.5) takes no iteration" in text
    assert "Fig. 1.1 shows a loop" in text
    assert "**Fig. 1.1.** Mean position" in text
    assert "convex (Fig. 2.4)" in text
    assert "is that of Fazel et al. (2018), who" in text
    assert "[Smith, 1968]" in text
    assert "> **Claim.** The cost is the same" in text
    assert "**Exercise: By hand**" in text
    assert "\n**Why, one reason for each line**\n" in text


def test_the_wheel_holds_the_library_and_every_record(wheel):
    expected = {
        path.relative_to(ROOT).as_posix(): path
        for kind in ("py", "js", "css")
        for path in (ROOT / "lqrlib").rglob(f"*.{kind}")
    }
    for path in (ROOT / "book/records").iterdir():
        expected[f"lqrlib/studies/records/{path.name}"] = path
    with zipfile.ZipFile(wheel) as archive:
        held = {n for n in archive.namelist() if ".dist-info/" not in n}
        assert held == {*expected}
        assert all(archive.read(n) == p.read_bytes() for n, p in expected.items())


def test_two_builds_of_the_wheel_are_the_same_bytes(wheel, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    import take_wheel

    mask = os.umask(0o077)
    try:
        for folder in ("one", "two"):
            take_wheel.build(take_wheel.parts(), tmp_path / folder)
    finally:
        os.umask(mask)
    for folder in ("one", "two"):
        assert (tmp_path / folder / wheel.name).read_bytes() == wheel.read_bytes()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run a page in an empty folder, where the library is what pip has installed."""
    library = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", library, wheel], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LQR")}

    def run(page, folder):
        subprocess.run(
            [sys.executable, "-c", RUN, page, HERE.format(str(library))],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(library)},
            check=True,
        )

    return run


@pytest.mark.parametrize("file", ["speed.md", "mbpo.ipynb"])
def test_a_page_runs_anywhere_after_one_installation(html, installed, tmp_path, file):
    assert "records/" in (html / "downloads/book" / file).read_text("utf-8")
    installed(html / "downloads/book" / file, tmp_path)


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path)


def with_address(book, address):
    config = book.folder / "_config.yml"
    text = config.read_text("utf-8")
    assert 'url: &repository ""' in text
    config.write_text(text.replace('repository ""', f'repository "{address}"'), "utf-8")


def test_without_an_address_nothing_leads_to_binder_or_colab(book):
    before = {path.name for path in book.folder.iterdir()}
    (book.folder / "book/words.md").write_text("# Words\n\nNo more.\n", "utf-8")
    book.write("index", code="1")  # and the table of contents
    run = book.build()
    assert run.returncode == 0, run.stdout + run.stderr
    for page in (book.folder / "_build/html/book").glob("*.html"):
        text = page.read_text("utf-8")
        assert "mybinder.org" not in text
        assert "colab" not in text
        assert ("lqr-take" in text) == (page.stem == "index")
    assert {path.name for path in book.folder.iterdir()} - before == {"_build"}


def test_an_address_brings_binder_and_colab_and_the_pip_line_installs_from_it(book):
    with_address(book, "https://github.com/someone/some-book")
    (book.folder / "book/words.md").write_text("# Words\n\nNo more.\n", "utf-8")
    book.write("index", code="1")
    run = book.build()
    assert run.returncode == 0, run.stdout + run.stderr
    html = book.folder / "_build/html"
    links = Links(html / "book/index.html").all
    for link in (
        "https://mybinder.org/v2/gh/someone/some-book/main?urlpath=lab/tree/book/index.md",
        "https://colab.research.google.com/github/someone/some-book/blob/gh-pages"
        "/downloads/book/index.ipynb",
    ):
        assert link in links
    pip = 'pip install "lqrlib[show] @ git+https://github.com/someone/some-book"'
    assert pip in (html / "downloads/book/index.md").read_text("utf-8")
    page = nbformat.read(html / "downloads/book/index.ipynb", as_version=4)
    assert pip in page.cells[0].source
    text = (html / "book/index.html").read_text("utf-8")
    assert pip.replace('"', "&quot;") in text
    assert "initThebe" not in text
    words = (html / "book/words.html").read_text("utf-8")
    assert "mybinder.org" not in words
    assert "colab" not in words


def test_an_address_elsewhere_is_installed_from_and_not_launched(book):
    with_address(book, "https://gitlab.com/someone/some-book")
    assert book.build().returncode == 0
    text = (book.folder / "_build/html/book/index.html").read_text("utf-8")
    assert "git+https://gitlab.com/someone/some-book" in text
    assert "mybinder.org" not in text


def test_a_record_that_has_changed_is_in_the_next_wheel(book):
    record = book.folder / "book/records/found.json"
    record.parent.mkdir()
    for found in ("[1]", "[2]"):
        record.write_text(found, "utf-8")
        assert book.build().returncode == 0
        (wheel,) = (book.folder / "_build/html/downloads").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            assert archive.read("lqrlib/studies/records/found.json").decode() == found
    kept = list((book.folder / "_build/.wheel").rglob("*.whl"))
    assert len(kept) == 1


def test_binder_installs_what_is_pinned_and_opens_chapters_as_notebooks(tmp_path):
    binder = ROOT / ".binder"
    (line,) = re.findall(r"^-r (.*)$", (binder / "requirements.txt").read_text(), re.M)
    assert (binder / line).resolve() == ROOT / "requirements/live.txt"
    assert (binder / "runtime.txt").read_text() == "python-3.11\n"
    subprocess.run(
        [binder / "postBuild"],
        cwd=ROOT,
        env=os.environ | {"NB_PYTHON_PREFIX": str(tmp_path)},
        check=True,
    )
    copy = tmp_path / "share/jupyter/lab/settings/overrides.json"
    assert copy.read_bytes() == (ROOT / "book/_lab/overrides.json").read_bytes()
