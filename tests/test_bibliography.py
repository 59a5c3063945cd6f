"""Every entry is cited, every citation has an entry, and entries are complete."""

import re
from collections import Counter
from pathlib import Path

import pytest
from pybtex.database import parse_file

BOOK = Path(__file__).parents[1] / "book"
ENTRIES = parse_file(BOOK / "references.bib").entries
CITATION = re.compile(r"\{cite(?::[a-z]+)?\}`([^`]+)`")
NEEDED = {
    "article": {"title", "journal", "year"},
    "inproceedings": {"title", "booktitle", "year"},
    "book": {"title", "publisher", "year"},
    "phdthesis": {"title", "school", "year"},
    "misc": {"title", "year"},
    "techreport": {"title", "institution", "year"},
}
every_entry = pytest.mark.parametrize("key", ENTRIES)


def cited():
    for page in sorted(BOOK.rglob("*.md")):
        for keys in CITATION.findall(page.read_text()):
            for key in keys.split(","):
                yield key.strip(), page.name


def test_every_citation_has_an_entry():
    assert {(key, page) for key, page in cited() if key not in ENTRIES} == set()


@every_entry
def test_every_entry_is_cited(key):
    assert key in {key for key, _ in cited()}


@every_entry
def test_an_entry_has_what_its_kind_needs(key):
    entry = ENTRIES[key]
    assert NEEDED[entry.type] <= {name.lower() for name in entry.fields}
    assert re.fullmatch(r"\d{4}", entry.fields["year"])
    authors = entry.persons.get("author") or entry.persons["editor"]
    for person in authors:
        assert person.first_names, key
        assert person.last_names, key
        assert "others" not in person.last_names
    assert all(value.strip() for value in entry.fields.values())


@every_entry
def test_addresses_have_their_form(key):
    fields = ENTRIES[key].fields
    if "eprint" in fields:
        form = r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}"
        assert re.fullmatch(form, fields["eprint"])
    if "doi" in fields:
        assert re.fullmatch(r"10\.\d{4,9}/\S+", fields["doi"])
    if "pages" in fields:
        assert re.fullmatch(r"\w+(--\w+)?", fields["pages"])
        first, _, last = fields["pages"].partition("--")
        if first.isdigit() and last.isdigit():
            assert int(first) <= int(last)


@pytest.mark.parametrize("field", ["title", "doi", "eprint"])
def test_no_work_has_two_entries(field):
    values = Counter(
        re.sub(r"\W", "", entry.fields[field]).lower()
        for entry in ENTRIES.values()
        if field in entry.fields
    )
    assert [value for value, count in values.items() if count > 1] == []
