"""Random numbers from seeds: a stream of its own for every purpose, and torch's global one for what knows no other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seeded(*key: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of `key`: the stream of one step does not depend on any other's."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Inside, torch's global generator is seeded, for what draws from it alone; outside it is as before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
