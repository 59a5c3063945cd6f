"""Without a browser the browser tests skip and say so; under CI they fail."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

ONE = "tests/test_browser_pages.py::test_the_dark_scheme_is_dark"


def run_one(**environment):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", ONE],
        cwd=ROOT,
        env=os.environ | {"CHROMIUM": "/nowhere/chromium"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.book
def test_no_browser_is_a_clear_skip_here_and_a_failure_in_continuous_integration():
    here = run_one(CI="")
    assert here.returncode == 0
    assert "no browser: set CHROMIUM" in here.stdout
    there = run_one(CI="true")
    assert there.returncode != 0
    assert "no browser: set CHROMIUM" in there.stdout
