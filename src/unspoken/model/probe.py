"""Whether a trunk obeys the laws that all of this stands on, tried on a few entries when a `Denoiser` is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from unspoken.layout.attention import CACHED_ALONE, SIDM, Attention
from unspoken.layout.entries import FOREVER, Layout, entries_of
from unspoken.model.cache import Cache
from unspoken.model.reach import limits
from unspoken.model.trunks import REMEDY, logits_of, output_head, vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENTRIES = 64  # of a row of the probe, at most
NEAR = 8  # its first positions, one after the other


class Probed(Protocol):
    """What is asked of a `Denoiser`."""

    trunk: PreTrainedModel
    attention: Attention

    def embed(self, layout: Layout) -> Tensor: ...
    def states(self, layout: Layout, attention: Attention | None = None, cache: Cache | None = None) -> Tensor: ...
    def mask(self, layout: Layout, attention: Attention, first: int = 0) -> Any: ...
    @property
    def known_positions(self) -> int | None: ...


@torch.no_grad()
def check_trunk(model: Probed) -> None:
    """Raises ValueError, with the reason, where the trunk breaks a law on the entries of `probe`.

    A token may not notice others that it does not see: neither what they are, nor their order in the list, nor whether
    they are there, in its row or in another. Keys and values in a cache are those of a pass without one. And the logits
    are made of the last states of their own entry alone, so that the head can run where it is needed alone. Trunks with
    recurrent states or positions by list order fail here, not later and silently.
    """
    name = type(model.trunk).__name__
    try:
        layout = probe(model.trunk, model.known_positions)
        tried = _Probe(model, layout, model.states(layout, SIDM))
        output_head(model.trunk)  # there is one
        fit = bool(tried.plain.isfinite().all() and logits_of(model.trunk, tried.plain[:1]).isfinite().all())
        broken = next((reason for law, reason in LAWS if not law(tried)), None) or _other_head(tried) if fit else None
    except Exception as error:  # whatever a foreign trunk does with input it was not made for
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"{name} does not take a mask, positions and embeddings ({what}); {REMEDY}") from error
    if not fit:
        raise ValueError(_no_numbers(model.trunk))
    if broken:
        raise ValueError(f"{name} {broken}")


def probe(trunk: PreTrainedModel, known: int | None) -> Layout:
    """`[2, entries]`: positions on both sides of every number in the config, as far as the trunk may be used.

    It has more entries than most windows and top-k, or as many as the config allows (`reach.limits`). In the first row
    all that is far is unsaid; in the second, said and unsaid take turns.
    """
    far, many = limits(trunk.config)
    reach = min([limit.size for limit in far] + [known or ENTRIES])
    room = max(4, min([limit.size - 1 for limit in many] + [ENTRIES]))
    near = range(min(NEAR, room // 2))
    edges = {n + step for n in _integers(trunk.config) for step in (-1, 0, 1)} | {reach - 1}
    beyond = sorted(n for n in edges if len(near) <= n < reach)
    between = [n for n in range(len(near), min(reach, ENTRIES)) if n not in edges]
    chosen = sorted([*near, *(beyond[::-1] + between)[: room - len(near)]])
    position = torch.tensor(chosen, device=trunk.device).clamp_max(reach - 1).expand(2, -1)
    turn = torch.arange(len(chosen), device=trunk.device)
    unsaid = torch.stack([turn >= (len(near) + 1) // 2, turn % 2 == 1])
    token = torch.stack([turn % 2, (turn + 1) // 2 % 2]) % vocabulary(trunk)
    order = torch.where(unsaid, 0, turn)
    horizon = torch.where(unsaid, FOREVER, order + 1)
    return Layout(token, position, order, horizon, torch.where(unsaid, 0, -1), torch.zeros_like(order))


def _integers(held: Any) -> Iterator[int]:
    """Every whole number in a config, whatever it means there."""
    if isinstance(held, int) and not isinstance(held, bool):
        yield held
    elif isinstance(held, dict | list | tuple):
        for each in held.values() if isinstance(held, dict) else held:
            yield from _integers(each)
    elif hasattr(held, "to_dict"):
        yield from _integers(vars(held))


@dataclass(frozen=True)
class _Probe:
    """A layout, and the states of a pass over it; each law is whether another pass says the same."""

    model: Probed
    layout: Layout
    plain: Tensor

    @property
    def turn(self) -> Tensor:
        return torch.arange(self.layout.shape[1], device=self.plain.device)

    def masks(self) -> bool:
        changed = self.layout.unsaid & (self.turn % 4 < 2)
        token = (self.layout.token + changed) % vocabulary(self.model.trunk)
        moved = self.model.states(replace(self.layout, token=token), SIDM)
        return _close(moved[~changed], self.plain[~changed])

    def positions(self) -> bool:
        index = torch.randperm(self.layout.shape[1], generator=torch.Generator().manual_seed(0))
        index = index.to(self.plain.device).expand(2, -1)
        return _close(self.model.states(self.layout.select(index), SIDM), entries_of(self.plain, index))

    def presence(self) -> bool:
        """Without the entries of the first row that nobody sees, all but one: what is far is gone."""
        index = self.turn[None, : int(self.layout.said[0].sum()) + 1]
        part = self.layout.rows(self.turn[:1]).select(index)
        return _close(self.model.states(part, SIDM), entries_of(self.plain[:1], index))

    def rows(self) -> bool:
        return _close(self.model.states(self.layout.rows(self.turn[1:2]), SIDM), self.plain[1:])

    def cache(self) -> bool:
        """Whether a pass in parts is the whole one, where the attention has a cache."""
        if not self.model.attention.cacheable:
            return True
        try:
            return self._in_parts()
        except Exception:  # a trunk that needs a cache of its own kind
            return False

    def _in_parts(self) -> bool:
        """Half the context, one token more, the rest of it, and the unsaid."""
        row = self.layout.rows(self.turn[1:2])
        row = row.select(row.unsaid.to(torch.uint8).argsort(stable=True))
        said, held, states = int(row.said.sum()), Cache(), []
        for low, high in pairwise([0, said // 2, said // 2 + 1, said, row.shape[1]]):
            if low < high:
                part = row.select(self.turn[None, low:high])
                states.append(self.model.states(part, CACHED_ALONE, held))
                held.keep(part, high - low)
        return _close(torch.cat(states, 1), self.model.states(row, CACHED_ALONE))


LAWS: tuple[tuple[Callable[[_Probe], bool], str], ...] = (
    (_Probe.masks, f"does not obey explicit masks: a token notices others that it may not see; {REMEDY}"),
    (_Probe.positions, f"does not obey explicit positions: the order of the list changes what it computes; {REMEDY}"),
    (_Probe.rows, f"computes a row otherwise in a batch than alone; {REMEDY}"),
    (_Probe.presence, f"computes a token otherwise when others that it does not see are not in the pass; {REMEDY}"),
    (_Probe.cache, "does not compute with a cache what it computes without; take an attention that has none: us.SCDM"),
)


def _other_head(probe: _Probe) -> str | None:
    """Why the trunk's logits are not what its own head makes of the last states; None where they are.

    The head is asked in two parts: it may not look at another entry.
    """
    part = probe.layout.rows(probe.turn[:1]).select(probe.turn[None, :NEAR])
    whole = probe.model.trunk(
        inputs_embeds=probe.model.embed(part), position_ids=part.position, attention_mask=probe.model.mask(part, SIDM)
    ).logits
    head = torch.cat([logits_of(probe.model.trunk, each) for each in probe.plain[:1, :NEAR].split(NEAR // 2 + 1, 1)], 1)
    if _close(head, whole.to(head.dtype)):  # some trunks give wider logits than they compute
        return None
    return f"computes its logits from more than the last states of their own entry; {REMEDY}"


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal but for rounding in the precision at hand; of some trunks' tables and routers, which are float32, at best.

    In half precision a quarter of the entries may differ: rounding alone sends a token to other experts.
    """
    eps = max(torch.finfo(b.dtype).eps, torch.finfo(torch.float32).eps)
    off = (a - b).abs().amax(-1).flatten().float()
    worst = off.quantile(0.75) if torch.finfo(b.dtype).bits == 16 else off.max()
    return bool(worst <= min(1000 * eps, 0.05) * b.abs().max())


def _no_numbers(trunk: PreTrainedModel) -> str:
    weights = (name for name, weight in trunk.named_parameters() if not weight.isfinite().all())
    if (name := next(weights, None)) is not None:
        return f"the trunk's weight {name} holds NaN or infinite numbers; take a checkpoint from before that"
    return f"the trunk computes NaN or infinite numbers in {trunk.dtype}; load it with a wider dtype"
