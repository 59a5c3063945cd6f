"""The library's wheel, built by the book without a network, the same bytes every time.

It holds the records that the pages read, and lies in `downloads/` of the built book. It
is kept beside the built book, and built again only if something in it has changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "downloads"
# The build backend of `pyproject.toml`, called as pip calls it. pip itself would first
# ask the network for the backend.
BACKEND = "import sys; from setuptools.build_meta import *; build_wheel(sys.argv[1])"
EPOCH = "315532800"  # 1980, where the times of a zip file begin


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", put)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def put(app: Sphinx) -> None:
    """Put the wheel where the pages offer it, and take others away."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    shutil.copy(kept(Path(app.outdir).parent / ".wheel"), folder)


def kept(cache: Path) -> Path:
    """The wheel of the files as they are, from an earlier build if there is one."""
    files, digest = parts(), hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    folder = cache / digest.hexdigest()[:16]
    if not any(folder.glob("*.whl")):
        shutil.rmtree(cache, ignore_errors=True)
        build(files, folder)
    return next(folder.glob("*.whl"))


def parts() -> list[Path]:
    """All files that go into the wheel, or decide what does."""
    found = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    for kind in ("py", "js", "css"):
        found += (ROOT / "lqrlib").rglob(f"*.{kind}")
    for kind in ("npz", "json"):
        found += (ROOT / "book" / "records").glob(f"*.{kind}")
    return sorted(found)


def build(files: list[Path], folder: Path) -> None:
    """Build it from a copy: the backend leaves files of its own where it works."""
    with TemporaryDirectory() as work:
        Path(work, "book", "records").mkdir(parents=True)  # also if there are none
        for file in files:
            copy = Path(work) / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o644)  # the wheel holds modes
        run = subprocess.run(  # noqa: S603 (a command without a shell)
            [sys.executable, "-c", BACKEND, str(folder.resolve())],
            cwd=work,
            env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
            umask=0o022,
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        raise ExtensionError(f"the library's wheel could not be built\n{run.stderr}")
