"""Systems of the literature that are compositions: functions that return a whole `Train`, and what is theirs alone."""

from unspoken.systems import forediff, ladir, narvl, tokenbridge

__all__ = ["forediff", "ladir", "narvl", "tokenbridge"]
