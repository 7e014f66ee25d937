"""How far a pass may go: where a trunk's arithmetic switches, read off its config and checked at every pass.

A probe of a few entries can not see what a trunk does with thousands. So these places are known by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from unspoken.layout.entries import Layout

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Limit(NamedTuple):
    """Below `size` the trunk is one function of the layout, from there on another. why: what it is, with its remedy."""

    size: int
    why: str


# Sparse attention: each of these trunks looks at so many entries at most, and which these are depends on all others.
SPARSE = ("index_topk", "keep_window_size")


def limits(config: PretrainedConfig) -> tuple[list[Limit], list[Limit]]:
    """Of positions, and of entries: where each of the trunk's rules ends."""
    return list(_of_positions(config)), list(_of_entries(config))


def _of_positions(config: PretrainedConfig) -> Iterator[Limit]:
    # A sliding window is dropped by transformers when it is handed a 4-D mask: refuse rather than differ.
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    for width, name in ((window, "sliding_window"), (getattr(config, "attention_chunk_size", None), "chunks")):
        if width and width > 0:
            what = f"sliding window of {width}" if name == "sliding_window" else f"attention in chunks of {width}"
            yield Limit(width, f"past the trunk's {what}; use shorter sequences, or a config without ({name}=None)")
    for rope in _ropes(config):
        kind, original = rope.get("rope_type"), rope.get("original_max_position_embeddings")
        if kind == "longrope":
            yield Limit(
                original or config.max_position_embeddings,
                f"past the {original} of its longrope, whose table for every position depends on the furthest one in "
                "the pass; use shorter sequences",
            )
        elif kind == "dynamic":
            yield Limit(
                config.max_position_embeddings,
                f"past the {config.max_position_embeddings} of its dynamic rotary table, which depends on the furthest "
                "position in the pass; use shorter sequences",
            )


def _ropes(config: PretrainedConfig) -> list[dict[str, Any]]:
    """Each rotary table's parameters; some trunks have one a kind of layer."""
    ropes = getattr(config, "rope_parameters", None) or {}
    inner = [each for each in ropes.values() if isinstance(each, dict)]
    return inner or [ropes]


def _of_entries(config: PretrainedConfig) -> Iterator[Limit]:
    for name in SPARSE:
        if size := getattr(config, name, None):
            yield Limit(size + 1, f"the trunk attends to {size} at most ({name}); use shorter sequences")
    if getattr(config, "attn_temperature_tuning", False) and (size := getattr(config, "floor_scale", None)):
        yield Limit(size, f"from {size} on the trunk scales by the place in the list (floor_scale); use fewer")


def check_reach(config: PretrainedConfig, known: int | None, layout: Layout, held: int = 0) -> None:
    """Refuses layouts that the trunk would compute wrongly without a word, or fail on without a reason.

    known: how many positions the model was made for, None where it does not say.
    held: entries of the cache.
    """
    far, many = limits(config)
    for limit in many:
        if layout.shape[1] + held >= limit.size:
            raise ValueError(f"the pass has {layout.shape[1] + held} entries, {limit.why}")
    if layout.position.is_cuda and not far:
        return  # asking the device would stall every pass; the embedding itself refuses
    furthest = int(layout.position.max()) if layout.position.numel() else 0
    for limit in far:
        if furthest >= limit.size:
            raise ValueError(f"positions reach {furthest}, {limit.why}")
    if known and furthest >= known:
        raise ValueError(
            f"positions reach {furthest}, the model knows 0 to {known - 1}; use shorter sequences, or a model "
            "made for longer ones"
        )
