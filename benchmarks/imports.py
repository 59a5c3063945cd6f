"""What `import lqrlib` costs, in a process of its own."""

import subprocess
import sys

from benchmarks.comparison import Comparison, Contender, Run


def _importing(module: str) -> Contender:
    def prepare() -> Run:
        command = [sys.executable, "-c", f"import {module}"]
        return lambda: subprocess.run(command, check=True)  # noqa: S603

    return Contender(prepare, rounds=1)


def imported() -> Comparison:
    """A new Python that imports one thing."""
    modules = {
        "lqrlib": "lqrlib",
        "NumPy": "numpy",
        "SciPy's linalg": "scipy.linalg",
        "python-control": "control",
        "JAX": "jax",
    }
    return Comparison(
        "A new Python, and one import",
        {name: _importing(module) for name, module in modules.items()},
    )


COMPARISONS = {"import": imported}
