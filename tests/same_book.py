"""Compare two built books: `python tests/same_book.py one/_build/html two/_build/html`.

It names the files that differ, times apart: the seconds that pages took stand on one
page, from which the search knows them. Nothing else depends on when a book was made.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SECONDS = rb"<td class=\"text-right\"><p>[\d.]+</p></td>"


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


def timeless(name: str, content: bytes) -> object:
    """What a file says, without the times in it."""
    if name == "book/execution.html":
        return re.sub(SECONDS, b"", content)
    if name == "searchindex.js":
        index = json.loads(re.sub(rb"^Search.setIndex\(|\)$", b"", content))
        words = index["terms"].items()
        index["terms"] = {word: at for word, at in words if not word.isdigit()}
        return index
    return content


if __name__ == "__main__":
    found = list(differences(*map(Path, sys.argv[1:])))
    print("\n".join(found) or "the same book")  # noqa: T201
    sys.exit(bool(found))
