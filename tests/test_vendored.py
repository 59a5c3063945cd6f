"""What others wrote and this repository holds is what they published, and is named."""

import hashlib
import re

from conftest import ROOT

THEBE = ROOT / "book" / "_live" / "thebe"


def test_thebe_is_as_published_and_nothing_lies_beside_it():
    said = (THEBE / "README.md").read_text(encoding="utf-8")
    hashes = dict(re.findall(r"^\| `(\S+)` \| `([0-9a-f]{64})` \|$", said, re.M))
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in THEBE.iterdir()
        if path.name != "README.md"
    }
    assert found == hashes
    assert len(found) == 4


def test_origin_version_and_licence_are_written_down():
    said = (THEBE / "README.md").read_text(encoding="utf-8")
    assert re.search(r"`thebe` \d+\.\d+\.\d+ of the npm registry", said)
    assert re.search(r"`sha512-[A-Za-z0-9+/]{86}==`", said)
    assert "BSD-3-Clause" in said
    assert "Redistribution and use" in (THEBE / "LICENSE").read_text(encoding="utf-8")


def test_no_other_script_of_others_is_in_the_repository():
    ours = {"book/assets/live.js", "lqrlib/show/explorer.js"}
    folders = ("book", "lqrlib", "tests", "benchmarks", "requirements")
    scripts = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.js")
    }
    assert scripts == ours | {"book/_live/thebe/index.js"}
