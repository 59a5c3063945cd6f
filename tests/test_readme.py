"""The README's example runs, is as short as it claims, and prints what it says."""

import re
import subprocess
import sys

from conftest import ROOT


def example():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return code


def test_the_example_has_eight_lines_and_runs():
    assert len(example().strip().splitlines()) == 8
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", example()],
        capture_output=True,
        text=True,
        check=True,
    )
    costs, gradient, optimum = run.stdout.splitlines()
    assert [f"{float(x):.1f}" for x in costs.strip("[]").split()] == [
        "22.3",
        "65.8",
        "inf",
    ]
    assert "-0.28216569  9.08189816" in gradient
    assert "-1.8581542  -3.1437967" in optimum


def test_the_commands_it_names_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("book", "test", "help", "check", "chapter", "live", "lab", "clean"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
