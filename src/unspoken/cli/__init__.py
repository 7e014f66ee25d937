"""The command line: `unspoken train | solve | complete | chat | study | tasks | show`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


def main(words: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 2 for bad input, 130 when interrupted."""
    with _ends_at_interrupt():
        from unspoken.cli.commands import run  # takes seconds
    return run(words)


@contextmanager
def _ends_at_interrupt() -> Iterator[None]:
    """Ctrl-C ends the process at once, as long as nothing has begun.

    An exception in the middle of an import leaves a traceback, and in torch's an abort.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or current_thread() is not main_thread():
        yield  # the caller's own handler, or a thread, which can set none
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
