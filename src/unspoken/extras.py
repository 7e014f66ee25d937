"""What is installed with an extra, and asked for where it is used: puzzles, pictures, images, adapters, harness."""

from __future__ import annotations

from importlib.util import find_spec


def need(module: str, extra: str) -> None:
    """ValueError that names the extra where `module` is not installed. For a line above its import."""
    try:
        found = find_spec(module) is not None
    except ImportError:
        found = False
    if not found:
        raise ValueError(f'{module} is not installed, and this needs it: pip install "unspoken[{extra}]"')
