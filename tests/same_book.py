"""Compare two built books: `python tests/same_book.py one/_build/html two/_build/html`.

It names the files that differ, times apart: the seconds that pages took stand on one
page, from which the search knows them. Nothing else depends on when a book was made.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

# Where times are: a pattern of what is taken out before files are compared.
TIMES = {
    "book/execution.html": rb"<td class=\"text-right\"><p>[\d.]+</p></td>",
    "searchindex.js": rb"\"[\d.]+\":(\d+|\[[\d,]+\]),?",  # where a number stands
}


def differences(one: Path, two: Path) -> Iterator[str]:
    """Names of files that are in one book only, or not the same in both."""
    ours, theirs = (
        {p.relative_to(book).as_posix() for p in book.rglob("*") if p.is_file()}
        for book in (one, two)
    )
    yield from sorted(f"{name}: in one book only" for name in ours ^ theirs)
    for name in sorted(ours & theirs):
        pair = (timeless(name, (book / name).read_bytes()) for book in (one, two))
        if next(pair) != next(pair):
            yield f"{name}: not the same"


def timeless(name: str, content: bytes) -> bytes:
    """A file's bytes without the times in it."""
    return re.sub(TIMES[name], b"", content) if name in TIMES else content


if __name__ == "__main__":
    found = list(differences(*map(Path, sys.argv[1:])))
    print("\n".join(found) or "the same book")  # noqa: T201
    sys.exit(bool(found))
