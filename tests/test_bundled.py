"""What of others is in the built book stands in the book's list, with its version."""

import re
from fnmatch import fnmatch
from importlib.metadata import version

import pytest
from conftest import ROOT

pytestmark = pytest.mark.book

ROW = re.compile(r"\| (`.+`) \| .+ \| .+ \| ([\w-]+) ([\w.]+) \|")
LIST = (ROOT / "book" / "execution.md").read_text(encoding="utf-8")
ROWS = ROW.findall(LIST)
PATTERNS = [p for files, *_ in ROWS for p in re.findall("`(.+?)`", files)]


@pytest.fixture(scope="module")
def theirs(html):
    """Files of `_static` that are not the book's own."""
    static, own = html / "_static", ROOT / "book" / "assets"
    files = {p.relative_to(static).as_posix() for p in static.rglob("*") if p.is_file()}
    return files - {p.relative_to(own).as_posix() for p in own.rglob("*")}


def test_every_foreign_file_of_the_built_book_is_listed(theirs):
    assert [f for f in theirs if not any(fnmatch(f, p) for p in PATTERNS)] == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_listed_file_is_there(theirs, pattern):
    assert any(fnmatch(file, pattern) for file in theirs)


@pytest.mark.parametrize(("name", "listed"), sorted({row[1:] for row in ROWS}))
def test_every_listed_package_is_installed_in_the_listed_version(name, listed):
    assert version(name) == listed


def test_programs_inside_have_the_listed_versions(html):
    scripts = html / "_static" / "scripts"
    inside = {
        "Bootstrap": scripts / "bootstrap.js.LICENSE.txt",
        "Font Awesome Free": scripts / "fontawesome.js.LICENSE.txt",
        "clipboard.js": html / "_static" / "clipboard.min.js",
    }
    for name, file in inside.items():
        (found,) = set(re.findall(rf"{name} v?(\d[\d.]+\d)", file.read_text("utf-8")))
        assert f"{name} {found}" in LIST
    mathjax = (html / "_static" / "tex-svg-full.js").read_text("utf-8")
    (listed,) = re.findall(r"MathJax (\d[\d.]+\d)", LIST)
    assert f'VERSION="{listed}"' in mathjax
