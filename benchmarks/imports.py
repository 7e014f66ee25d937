"""How long an import takes, in CPU seconds (user and system), the median of some processes.

    python benchmarks/imports.py

On an idle machine; `torch` is most of it, and is measured beside `unspoken`.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        modules: Each imported alone.
        processes: Of each.
    """

    modules: tuple[str, ...] = ("torch", "unspoken")
    processes: int = 5


def seconds(module: str) -> float:
    """CPU seconds of a process that imports `module`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(options: Options) -> None:
    """Measures in turns, so that what else the machine does falls on all alike, and prints."""
    taken = [[seconds(module) for module in options.modules] for _ in range(options.processes)]
    for module, its in zip(options.modules, zip(*taken, strict=True), strict=True):
        print(f"{module:<10} {statistics.median(its):.2f} s of CPU")


if __name__ == "__main__":
    main(tyro.cli(Options))
