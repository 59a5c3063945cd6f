"""One build at a time; what a failed, killed or damaged one leaves is built again.

- A second build of the same folder waits until the first one is done. The lock is the
  system's: it ends with its process, however that ends.
- After a build that failed, or did not come to its end, every page is read and written
  anew. Else Sphinx would keep pages that were due, since it compares them with their
  sources only, and would not repeat the warnings of those that it does not read again.
- An execution cache that cannot be read is thrown away, and the cells are run again.
"""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from filelock import FileLock, Timeout
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx: before all others at the start, after them at the end."""
    build = Build(app)
    app.connect("config-inited", build.begin, priority=1)
    app.connect("config-inited", drop_a_damaged_cache, priority=200)
    app.connect("build-finished", build.end, priority=999)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Build:
    """The folder that a build writes to, which is its own until it ends."""

    def __init__(self, app: Sphinx):
        self.folder = Path(app.outdir).parent
        self.lock = FileLock(self.folder / "build.lock")
        self.unfinished = self.folder / "unfinished"

    def begin(self, app: Sphinx, config: Config) -> None:
        """Wait for the folder; forget the last build if it did not come to its end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(blocking=False)
        except Timeout:
            logger.info(f"Another build writes to {self.folder}. Waiting for its end.")
            self.lock.acquire()
        if self.unfinished.exists():
            logger.info("The last build did not come to its end: all pages are read.")
            forget(app)
        self.unfinished.touch()

    def end(self, app: Sphinx, exception: Exception | None) -> None:
        """Leave nothing of a failed build that could pass for a good one.

        One chapter alone may warn: it links to figures of pages whose cells are not
        run.
        """
        warned = app._warncount and not os.environ.get("LQRBOOK_CHAPTER")
        if exception or app.statuscode or warned:
            forget(app)
        self.unfinished.unlink()
        self.lock.release()


def forget(app: Sphinx) -> None:
    """Let the next build read and write every page. Cells stay cached."""
    (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)
    for page in Path(app.outdir).glob("book/**/*.html"):
        page.unlink()


def drop_a_damaged_cache(app: Sphinx, config: Config) -> None:
    """Look at the cache that `lqrbook.key_the_cache` has named."""
    cache = Path(config.nb_execution_cache_path)
    if cache.is_dir() and not sound(cache):
        logger.info(f"{cache} is damaged: all cells are run again.")
        shutil.rmtree(cache)


def sound(cache: Path) -> bool:
    """Whether its database can be read, and each notebook of which it knows."""
    database = f"{(cache / 'global.db').as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(database, uri=True)) as records:
            if records.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                return False
            for (key,) in records.execute("SELECT hashkey FROM nbcache"):
                json.loads((cache / "executed" / key / "base.ipynb").read_bytes())
    except (sqlite3.Error, OSError, ValueError):
        return False
    return True
