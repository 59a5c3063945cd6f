"""Pages with code can be taken away, and say so.

For each of them the build writes into `downloads/`, beside the library's wheel,

- the notebook, in plain Markdown (`plain.py`), and without outputs: it is small, and
  who opens it wants to run it;
- its source, which Jupytext opens as a notebook. Sphinx's own copy below `_sources/`
  does not say what it needs: this one has a first cell that does.

Both need one `pip install` line. The download menu has all three, and below the page's
title is a line that says where its numbers come from and how to compute them again.

With an address under `repository` in `_config.yml` that line installs from there, and
another menu starts the page on Binder or Colab. The theme's own menu copies executed
notebooks, fails where there is no address, and sends Colab, which opens .ipynb only, to
the .md of the repository.
"""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from docutils import nodes
from live import has_cells
from myst_nb.core.read import create_nb_reader
from plain import BookWords, notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import clean_astext
from take_wheel import FOLDER

GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
PAGES = "gh-pages"  # the branch of the published book, where Colab finds notebooks

NOTE = """\
**{take.title}** is a page of *{take.book}*, made with lqrlib {take.version}. Its cells
run wherever that library is installed:

    {take.pip}

{take.where}In a cell of the notebook, write `%pip` for `pip`. {form}"""
BESIDE = "The file is in the book's download menu: run this line in its folder. "
IPYNB = "Numbers of equations and figures are those of the book."
MD = """This is the page's source in
MyST Markdown. JupyterLab opens it as a notebook with `jupytext`, and shows its boxes
and labels with `jupyterlab-myst`; what refers to other pages links in the book only."""

LINE = """
<div class="lqr-take" role="note">
<details><summary>Snapshot, lqrlib {version}: take it away</summary>
<p>All numbers and figures of this page are from a run when the book was built. To
compute them again, or others, take the page away as
<a download href="{ipynb}">notebook</a> or <a download href="{md}">Markdown</a>{put}
and run</p>
<pre>{pip}</pre></details>
<p class="lqr-live">To run the cells here, start <code>make live</code> in the book’s
repository.</p>
</div>
"""
PUT = ', put <a download href="{whl}">the library</a> beside it,'


class Take(NamedTuple):
    """What is said of a page in its files and on it."""

    title: str
    book: str
    wheel: str
    address: str

    @property
    def version(self) -> str:
        """The library's, from the name of its wheel."""
        return self.wheel.split("-")[1]

    @property
    def pip(self) -> str:
        """What installs the library and all that it needs to draw."""
        if self.address:
            return f'pip install "lqrlib[show] @ git+{self.address}"'
        return f'pip install "{self.wheel}[show]"'

    @property
    def where(self) -> str:
        """Where to run that: with an address, anywhere."""
        return "" if self.address else BESIDE


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    # After the theme, which makes the menu.
    app.connect("html-page-context", offer, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def offer(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Write a page's files; link to them from its menu and from below its title."""
    if not has_cells(doctree):
        return
    text = Path(app.env.doc2path(pagename)).read_text("utf-8")
    folder, options = Path(app.outdir) / FOLDER, app.config.html_theme_options
    take = Take(
        title=clean_astext(app.env.titles[pagename]),
        book=app.config.html_title,
        wheel=next(folder.glob("*.whl")).name,
        address=options.get("repository_url", ""),
    )
    words = BookWords(app.env, pagename)
    page = as_notebook(read(app.env, text), words, take)
    write(folder / pagename, with_note(text, take), page)
    names = {"ipynb": f"{pagename}.ipynb", "md": f"{pagename}.md", "whl": take.wheel}
    links = {
        kind: context["pathto"](f"{FOLDER}/{name}", 1) for kind, name in names.items()
    }
    extend(context["header_buttons"], links)
    if found := GITHUB.fullmatch(take.address):
        menu = elsewhere(found[1], options["repository_branch"], pagename)
        context["header_buttons"].insert(0, menu)
    context["body"] = context["body"].replace("</h1>", f"</h1>{line(take, links)}", 1)


def write(path: Path, text: str, page: nbformat.NotebookNode) -> None:
    """Write the two files of a page; the path has no suffix yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(text, "utf-8")
    nbformat.write(page, path.with_suffix(".ipynb"))


def line(take: Take, links: dict[str, str]) -> str:
    """What stands below the page's title."""
    put = "" if take.address else PUT.format(**links)
    return LINE.format(version=take.version, pip=escape(take.pip), put=put, **links)


def read(env: BuildEnvironment, text: str) -> nbformat.NotebookNode:
    """The notebook that a page's source is."""
    return create_nb_reader("page.md", env.myst_config, env.mystnb_config, text).read(
        text
    )


def with_note(text: str, take: Take) -> str:
    """The source with a first cell of its own below its header."""
    _, header, body = text.split("---\n", 2)
    note = NOTE.format(take=take, form=MD)
    return f"---\n{header}---\n\n{note}\n\n+++\n\n{body.lstrip()}"


def as_notebook(
    page: nbformat.NotebookNode, words: BookWords, take: Take
) -> nbformat.NotebookNode:
    """The notebook with such a cell, and ids that are the same in every build."""
    plain = notebook(page, words)
    note = NOTE.format(take=take, form=IPYNB)
    plain.cells.insert(0, nbformat.v4.new_markdown_cell(note))
    for number, cell in enumerate(plain.cells):
        cell.id = f"cell-{number}"
    return plain


def extend(buttons: list[dict[str, Any]], links: dict[str, str]) -> None:
    """Put the three files into the theme's menu, for the source that it has there."""
    (menu,) = (one for one in buttons if one.get("label") == "download-buttons")
    others = [one for one in menu["buttons"] if "source" not in one["label"]]
    menu["buttons"] = [*downloads(links), *others]


def downloads(links: dict[str, str]) -> Iterator[dict[str, str]]:
    """Entries of the download menu."""
    for kind, icon, tooltip in (
        ("ipynb", "fa-code", "This page as a notebook"),
        ("md", "fa-file", "This page's source: a notebook in Markdown"),
        ("whl", "fa-box", "The library that the cells need, with their records"),
    ):
        yield entry(links[kind], f".{kind}", f"fas {icon}", tooltip)


def elsewhere(repository: str, branch: str, page: str) -> dict[str, Any]:
    """A menu with what runs the page on other computers."""
    binder = (
        f"https://mybinder.org/v2/gh/{repository}/{branch}?urlpath=lab/tree/{page}.md"
    )
    colab = f"https://colab.research.google.com/github/{repository}/blob/{PAGES}"
    colab += f"/{FOLDER}/{page}.ipynb"
    return {
        "type": "group",
        "label": "launch-buttons",
        "icon": "fas fa-rocket",
        "tooltip": "Run this page elsewhere",
        "buttons": [
            entry(binder, "Binder", "_static/images/logo_binder.svg", "Run on Binder"),
            entry(colab, "Colab", "_static/images/logo_colab.png", "Run on Colab"),
        ],
    }


def entry(url: str, text: str, icon: str, tooltip: str) -> dict[str, str]:
    """A link in one of the theme's menus."""
    return {"type": "link", "url": url, "text": text, "icon": icon, "tooltip": tooltip}
