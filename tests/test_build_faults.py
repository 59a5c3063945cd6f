"""What goes wrong with a build on somebody's machine, each tried for real."""

import fcntl
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import ROOT
from test_book_build import book  # noqa: F401 (a fixture)

pytestmark = pytest.mark.book

# Runs until the test says so, or for two minutes, and leaves a mark when it begins.
WAITING = """\
import time
from pathlib import Path
with Path("../begun").open("a") as file: file.write("begun\\n")
for _ in range(2400):
    if Path("../go").exists(): break
    time.sleep(0.05)
print("the cell came to its end")"""


def begun(folder):
    mark = folder / "begun"
    return mark.read_text().count("begun") if mark.exists() else 0


def wait_until(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def page(book, name="index"):  # noqa: F811
    return (book.folder / f"_build/html/book/{name}.html").read_text("utf-8")


def said(run):
    return run.stdout + run.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_stopped_can_be_started_again(book, how):  # noqa: F811
    book.write("index", code=WAITING)
    with book.start() as first:
        wait_until(lambda: begun(book.folder))
        first.send_signal(how)
        first.communicate()
    assert first.returncode != 0
    (book.folder / "go").touch()
    second = book.build()
    assert second.returncode == 0, said(second)
    # The other signal reaches the cell as an error, and so the build its end.
    if how == signal.SIGKILL:
        assert "did not come to its end" in said(second)
    assert "the cell came to its end" in page(book)
    assert "did not come to its end" not in said(book.build())


KILLER = """\
import os
import signal

def kill(*given):
    os.kill(os.getpid(), signal.SIGKILL)

def setup(app):
    if "KILL" in os.environ:
        app.connect("html-page-context", kill)
"""


def test_a_page_that_a_killed_build_has_not_written_is_written_next_time(book):  # noqa: F811
    (book.folder / "book/_ext/killer.py").write_text(KILLER)
    config = book.folder / "_config.yml"
    local = "  local_extensions:\n"
    assert local in config.read_text()
    config.write_text(
        config.read_text().replace(local, local + "    killer: book/_ext\n")
    )
    book.write("index", code="from lqrlib import worlds\nworlds.scalar().A[0, 0]")
    assert book.build().returncode == 0
    worlds = book.folder / "lqrlib" / "worlds.py"
    source = worlds.read_text(encoding="utf-8")
    worlds.write_text(source.replace("a: float = 1.1", "a: float = 1.2345"))
    assert book.build(KILL="yes").returncode == -signal.SIGKILL
    assert "1.2345" not in page(book)
    assert book.build().returncode == 0
    assert "1.2345" in page(book)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "an empty database": ("global.db", lambda path: path.write_bytes(b"")),
    "a foreign database": ("global.db", lambda path: path.write_bytes(b"no" * 999)),
    "half a database": ("global.db", truncate),
    "no database": ("global.db", lambda path: path.unlink()),
    "half a notebook": ("executed/*/base.ipynb", truncate),
    "no notebook": ("executed/*/base.ipynb", lambda path: path.unlink()),
}


def test_a_damaged_cache_costs_time_only(book, tmp_path_factory, monkeypatch):  # noqa: F811
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    import one_build

    (book.folder / "go").touch()
    book.write("index", code=WAITING)
    assert book.build().returncode == 0
    (cache,) = (book.folder / "_build/.jupyter_cache").iterdir()
    assert one_build.sound(cache)
    for damage, (pattern, spoil) in DAMAGE.items():
        copy = tmp_path_factory.mktemp("cache") / "copy"
        shutil.copytree(cache, copy)
        (file,) = copy.glob(pattern)
        spoil(file)
        assert not one_build.sound(copy), damage
    shutil.rmtree(cache)
    shutil.move(copy, cache)  # the last kind, which names a notebook that is not there
    book.write("index", code=WAITING, text="The prose is new.")
    run = book.build()
    assert run.returncode == 0, said(run)
    assert "damaged: all cells are run again" in said(run)
    assert begun(book.folder) == 2
    assert "The prose is new." in page(book)
    assert "the cell came to its end" in page(book)


def test_what_sphinx_keeps_may_be_damaged_too(book):  # noqa: F811
    book.write("one", code="'sound'")
    assert book.build().returncode == 0
    for file in (book.folder / "_build/.doctrees").rglob("*.*"):
        truncate(file)
    run = book.build()
    assert run.returncode == 0, said(run)
    assert "sound" in page(book, "one")


NO_NETWORK = """\
import socket

def refused(self, address, connect=socket.socket.connect):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise OSError(f"there is no network to reach {address}")
    return connect(self, address)

def unknown(host, *given, look_up=socket.getaddrinfo, **more):
    if host not in ("localhost", "127.0.0.1", "::1", "", None):
        raise socket.gaierror(f"there is no network to look up {host}")
    return look_up(host, *given, **more)

socket.socket.connect, socket.getaddrinfo = refused, unknown
"""


def test_a_build_needs_no_network(book, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("python")
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    asking = "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80))\n"
    asking += "except OSError as reason:\n    print(reason)"
    book.write("index", code=asking, text="$x^2$ {cite}`recht2019tour`")
    book.write("list", code="1", text="```{bibliography}\n```")
    run = book.build(PYTHONPATH=str(folder))
    assert run.returncode == 0, said(run)
    assert "there is no network to" in page(book)  # the kernel has none, too


def test_a_cell_that_hangs_is_stopped_and_named(book):  # noqa: F811
    config = book.folder / "_config.yml"
    assert "  timeout: 300\n" in config.read_text()
    config.write_text(config.read_text().replace("timeout: 300", "timeout: 3"))
    book.write("one", code="while 'it hangs': pass")
    book.write("two", code="'sound'")
    begin = time.monotonic()
    run = book.build()
    assert run.returncode != 0
    assert time.monotonic() - begin < 60
    assert "one.md" in said(run)
    assert "CellTimeoutError" in said(run)
    assert "while 'it hangs': pass" in said(run)


def test_the_second_of_two_builds_waits_and_runs_no_cell_again(book):  # noqa: F811
    book.write("index", code=WAITING)
    with book.start() as first:
        wait_until(lambda: begun(book.folder))
        with book.start() as second:
            seen = ""
            for line in second.stdout:
                seen += line
                if "Waiting for its end" in line:
                    break
            assert first.poll() is None, seen
            (book.folder / "go").touch()
            printed = first.communicate()[0], seen + second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0), printed
    assert begun(book.folder) == 1
    assert "the cell came to its end" in page(book)


def test_two_makes_do_not_install_at_once(book):  # noqa: F811
    command = ["make", ".venv/bin/pip"]
    with (book.folder / "Makefile").open() as makefile:
        fcntl.flock(makefile, fcntl.LOCK_EX)  # as another `make` does
        with subprocess.Popen(command, cwd=book.folder) as run:
            time.sleep(2)
            assert run.poll() is None
            assert not (book.folder / ".venv").exists()
            fcntl.flock(makefile, fcntl.LOCK_UN)
    assert run.returncode == 0
    assert (book.folder / ".venv/bin/pip").exists()
    # The same environment, with nowhere to install from.
    alone = subprocess.run(
        ["make", "book"],
        cwd=book.folder,
        env=os.environ
        | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CACHE_DIR": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode != 0
    assert "The first time this needs a network." in alone.stdout
    assert not (book.folder / ".venv/book.stamp").exists()


def test_the_timeout_of_the_book_is_the_one_that_is_tried_here():
    assert (ROOT / "_config.yml").read_text().count("timeout: ") == 1
