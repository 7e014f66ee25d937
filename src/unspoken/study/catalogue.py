"""The tables of the studies, by name."""

from __future__ import annotations

from unspoken.study import (
    adapt,
    ar_latents,
    curves,
    decode,
    dial,
    forcing,
    forediff,
    gidd,
    ladir,
    latents,
    loops,
    narvl,
    steps,
    tasks,
    tokenbridge,
)
from unspoken.study.table import Table

TABLES: dict[str, Table] = {
    module.TABLE.study: module.TABLE
    for module in (
        latents,
        dial,
        decode,
        loops,
        tasks,
        gidd,
        forcing,
        steps,
        curves,
        ar_latents,
        adapt,
        ladir,
        forediff,
        narvl,
        tokenbridge,
    )
}


def table_of(study: str) -> Table:
    """The table of a study. ValueError for one that this version does not know."""
    if study not in TABLES:
        raise ValueError(f"no study is called {study!r}; known are {', '.join(TABLES)}")
    return TABLES[study]
