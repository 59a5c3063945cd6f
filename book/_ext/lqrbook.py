"""What this book needs of its build, and Jupyter Book does not give by itself.

- Cells see this checkout's `lqrlib`, with explorers in their built-page form.
- The execution cache is keyed by the source of `lqrlib`, the pins and the records, so
  that editing the library, or running a study again, runs the cells again.
- What a cell prints is shown as printed, however the kernel cut it up on the way.
- Pages need no network: MathJax is served from the book, remote scripts are dropped.
- `LQRBOOK_CHAPTER=book/x.md` executes that chapter alone (`make chapter F=…`).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from importlib.metadata import files
from pathlib import Path

from myst_nb.core import render
from nbformat import NotebookNode
from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as Unsorted
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).resolve().parents[2]
MATHJAX = "tex-svg-full.js"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", prepare_cells, priority=100)
    app.connect("config-inited", key_the_cache, priority=100)
    app.connect("config-inited", serve_mathjax, priority=100)
    app.connect("env-get-outdated", read_all_if_any)
    app.connect("html-page-context", drop_remote_scripts, priority=900)
    # No event lies between running a page and rendering it. MyST-NB's own function
    # strips each chunk and ends it with a newline: a flush in mid-line breaks the line.
    render.coalesce_streams = join_streams
    register_plugin("pybtex.style.formatting", "author_year_list", AuthorYearList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def prepare_cells(app: Sphinx, config: Config) -> None:
    """Give the kernels, which run inside `book/`, this checkout and its settings."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ["LQRLIB_STATIC"] = "1"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Else glibc gives arrays back to the system, and fetches them again, at every step.
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(name, "1000000000")
    only = os.environ.get("LQRBOOK_CHAPTER")
    if only:
        chapters = (p.relative_to(ROOT) for p in (ROOT / "book").rglob("*.md"))
        others = [p.as_posix() for p in chapters if p != Path(only)]
        config.nb_execution_excludepatterns = [*others]


def key_the_cache(app: Sphinx, config: Config) -> None:
    """Name the execution cache after everything outside a page that its cells use."""
    digest = hashlib.sha256()
    sources = [*sorted((ROOT / "lqrlib").rglob("*.*")), ROOT / "requirements.txt"]
    sources += sorted((ROOT / "book" / "records").glob("*.*"))
    for source in sources:
        if source.suffix in {".py", ".js", ".css", ".txt", ".npz", ".json"}:
            digest.update(source.relative_to(ROOT).as_posix().encode())
            digest.update(source.read_bytes())
    cache = Path(app.outdir).parent / ".jupyter_cache" / digest.hexdigest()[:16]
    config.nb_execution_cache_path = str(cache)


def join_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join the chunks of each stream where its first one came, and leave the rest.

    For `nb_merge_streams`. Where a kernel cuts a stream depends on its timing. The
    chunks that are given stay as they are: they go into the page's notebook, too.
    """
    joined: list[NotebookNode] = []
    streams: dict[str, NotebookNode] = {}
    for output in outputs:
        if output.output_type != "stream":
            joined.append(output)
        elif output.name in streams:
            streams[output.name].text += output.text
        else:
            streams[output.name] = output.copy()
            joined.append(streams[output.name])
    return joined


def serve_mathjax(app: Sphinx, config: Config) -> None:
    """Copy the one-file MathJax of `sphinx-mathjax-offline` into the book."""
    found = [f for f in files("sphinx-mathjax-offline") or [] if f.name == MATHJAX]
    config.html_static_path.append(str(found[0].locate()))
    config.mathjax_path = MATHJAX


def read_all_if_any(
    app: Sphinx, env: object, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Read every page when one has changed; their cells come from the cache.

    A new citation renumbers the bibliography, to which all pages link. Without a page
    to write Sphinx does not copy a changed style sheet or picture either, and it does
    not know that a local extension may write every page in another way.
    """
    stale = added | changed | removed or _assets_changed(Path(app.outdir) / "_static")
    known = Path(app.doctreedir) / "environment.pickle"
    if stale or (known.is_file() and _extensions_changed(known.stat().st_mtime)):
        return sorted(app.project.docnames)
    return []


def _extensions_changed(since: float) -> bool:
    sources = (ROOT / "book" / "_ext").glob("*.py")
    return any(source.stat().st_mtime > since for source in sources)


def _assets_changed(copies: Path) -> bool:
    assets = (path for path in (ROOT / "book" / "assets").rglob("*") if path.is_file())
    pairs = ((path, copies / path.name) for path in assets)
    return any(
        not copy.is_file() or copy.read_bytes() != path.read_bytes()
        for path, copy in pairs
    )


def drop_remote_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object
) -> None:
    """Remove what would be fetched from elsewhere: a book must open offline."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if not str(getattr(script, "filename", script)).startswith("http")
        and "thebe" not in str(getattr(script, "filename", script)).lower()
        and "thebe" not in str(getattr(script, "attributes", "")).lower()
    ]


class AuthorYearLabels(BaseLabelStyle):
    """Label a reference as the text cites it: Fazel et al., 2018."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        """One label an entry."""
        for entry in sorted_entries:
            names = [" ".join(p.last_names) for p in entry.persons.get("author", [])]
            who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
            yield f"{who}, {entry.fields['year']}"


class AuthorYearList(Unsorted):
    """Sphinx's plain reference list, with those labels, in their order."""

    default_label_style = AuthorYearLabels
    default_sorting_style = "author_year_title"
