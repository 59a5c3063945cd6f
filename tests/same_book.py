"""Compare two built books: `python tests/same_book.py one/_build/html two/_build/html`.

It names the files that differ, with the first lines that do. The seconds that pages
took are left out; what a cell has timed itself is not, and the line shows that it is.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SECONDS = rb"<td class=\"text-right\"><p>[\d.]+</p></td>"


def differences(one: Path, two: Path) -> Iterator[str]:
    """What is in one book only, or not the same in both."""
    ours, theirs = (
        {p.relative_to(book).as_posix() for p in book.rglob("*") if p.is_file()}
        for book in (one, two)
    )
    yield from sorted(f"{name}: in one book only" for name in ours ^ theirs)
    for name in sorted(ours & theirs):
        pair = [timeless(name, (book / name).read_bytes()) for book in (one, two)]
        if pair[0] != pair[1]:
            yield f"{name}: not the same" + "".join(first_lines(*pair))


def first_lines(*pair: object) -> Iterator[str]:
    """The first lines in which two texts differ."""
    if all(isinstance(content, bytes) for content in pair):
        lines = (content.splitlines() for content in pair)
        unlike = (both for both in zip(*lines, strict=False) if both[0] != both[1])
        for line in next(unlike, ()):
            yield f"\n    {line[:200].decode('utf-8', 'replace').strip()}"


def timeless(name: str, content: bytes) -> object:
    """What a file says, without the times in it."""
    if name.endswith(".html"):  # a sheet is named with its hash once it is there
        content = re.sub(rb"\?v=\w+", b"", content)
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
