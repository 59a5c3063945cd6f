"""Pages whose cells must be run are run side by side, one to a processor.

MyST-NB runs pages one after the other, while it reads them, and most cells keep one
processor busy only. Jupyter Cache, from which MyST-NB takes outputs where it can, also
has an executor that runs several notebooks at a time: here it runs all pages without
cached outputs beforehand. A page that fails there is not cached; MyST-NB runs it again
and reports the error.
"""

import multiprocessing
import os
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.base import JupyterCacheAbstract
from jupyter_cache.executors import load_executor
from myst_nb.core.read import create_nb_reader
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("env-before-read-docs", run_beforehand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def run_beforehand(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Fill the cache, the longest pages first; one page alone is left to MyST-NB."""
    if os.environ.get("LQRBOOK_CHAPTER"):
        return
    cache = get_cache(env.mystnb_config.execution_cache_path)
    paths = sorted((Path(env.doc2path(name)) for name in docnames), key=size)
    stale = [pk for path in paths if (pk := to_run(cache, env, path)) is not None]
    if len(stale) > 1:
        logger.info(f"Executing notebooks of {len(stale)} pages side by side")
        multiprocessing.get_logger().setLevel(
            "WARNING"
        )  # it would tell of every process
        executor = load_executor("local-parallel", cache)
        executor.run_and_cache(
            filter_pks=stale, timeout=env.mystnb_config.execution_timeout
        )


def size(path: Path) -> int:
    """A guess at the order of running times."""
    return -path.stat().st_size


def to_run(
    cache: JupyterCacheAbstract, env: BuildEnvironment, path: Path
) -> int | None:
    """The key of a page in the cache's project; None if there is nothing to run."""
    text = path.read_text("utf-8")
    reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
    if reader is None:
        return None
    notebook = reader.read(text)
    if not any(cell.cell_type == "code" for cell in notebook.cells):
        return None
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return cache.add_nb_to_project(str(path), read_data=reader.read_fmt).pk
    return None
