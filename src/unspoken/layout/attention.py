"""Who may look at whom: the one rule between said (context) and unsaid (latent) tokens.

Every model of this family is a row of the table below; the trunk, the loss and the decoder are the same.

| name           | context       | latents | context sees latents | KV cache | literature                              |
| -------------- | ------------- | ------- | -------------------- | -------- | --------------------------------------- |
| `MDM`          | bidirectional | joint   | yes                  | no       | MDLM, LLaDA: every mask is a latent     |
| `SCDM`         | bidirectional | ordered | no                   | no       | semi-causal model, arXiv 2602.03769     |
| `SIDM`         | bidirectional | alone   | no                   | no       | its ablation: no joint prediction       |
| `JOINT`        | bidirectional | joint   | no                   | no       | ours: a dial where trained in `Groups`  |
| `ANY_ORDER`    | causal        | ordered | no                   | yes      | Eso-LM (B), AO-GPT                      |
| `CACHED_JOINT` | causal        | joint   | no                   | yes      | AR + MTP when the order is left to right|
| `CACHED_ALONE` | causal        | alone   | no                   | yes      | AO-ARM, XLNet's query stream            |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor

Prompt = Literal["joint", "causal"]


class Entry(NamedTuple):
    """What the rule may know of an entry: a layout's fields and the entry's slot in the list, to tell it from others.

    Tensors of any broadcastable shapes.
    """

    order: Tensor
    horizon: Tensor
    block: Tensor
    document: Tensor
    position: Tensor
    slot: Tensor


@dataclass(frozen=True)
class Attention:
    """The rule between said and unsaid tokens.

    context: `bidirectional`, context tokens see each other; `causal`, they see those committed no later.
    latents: within their block, latents see each other (`joint`), those of lower order (`ordered`) or
        none but themselves (`alone`). Latents of equal order do not see each other under `ordered`.
    context_sees_latents: whether a said token may look at unsaid ones.
    prompt: how the prompt (context of order 0) is read: all of it by each of its tokens (`joint`), or from left to
        right (`causal`), as a pretrained causal model was trained to read it. The second needs a causal context.
    """

    context: Literal["bidirectional", "causal"]
    latents: Literal["joint", "ordered", "alone"]
    context_sees_latents: bool = False
    prompt: Prompt = "joint"

    def __post_init__(self) -> None:
        if self.context not in ("bidirectional", "causal"):
            raise ValueError(f"context is {self.context!r}; write 'bidirectional' or 'causal'")
        if self.latents not in ("joint", "ordered", "alone"):
            raise ValueError(f"latents is {self.latents!r}; write 'joint', 'ordered' or 'alone'")
        if self.prompt not in ("joint", "causal"):
            raise ValueError(f"prompt is {self.prompt!r}; write 'joint' or 'causal'")
        if self.prompt == "causal" and not self.cacheable:
            raise ValueError(
                f"prompt='causal' with context={self.context!r}, context_sees_latents={self.context_sees_latents}: the "
                "prompt's tokens would see each other through the rest; take a causal context that sees no latents, "
                "or prompt='joint'"
            )
        if self.context_sees_latents and self.latents != "joint":
            # Through the context every latent would reach every other, whatever `latents` says.
            raise ValueError(
                f"context_sees_latents=True undoes latents={self.latents!r}: "
                "latents would meet through the context; write latents='joint' or context_sees_latents=False"
            )

    @property
    def cacheable(self) -> bool:
        """True where a context token's states never change once it is said, so a KV cache is exact."""
        return self.context == "causal" and not self.context_sees_latents

    @property
    def full(self) -> bool:
        """True where every entry sees every other of its document, as noise at any time needs: nothing is context."""
        return self.context == "bidirectional" and self.latents == "joint" and self.context_sees_latents

    @property
    def name(self) -> str:
        """The literature's name for this rule, or its three fields."""
        known = (name for name, rule in ATTENTIONS.items() if rule == replace(self, prompt="joint"))
        plain = next(known, f"{self.context}-{self.latents}{'-seen' * self.context_sees_latents}")
        return plain + ", causal prompt" * (self.prompt == "causal")

    def visible(self, q: Entry, k: Entry) -> Tensor:
        """Bool, broadcast of the fields: may query entry `q` look at key entry `k`?

        Both masks, dense and FlexAttention's, are this predicate. It holds no data-dependent branch.
        """
        q_said, k_said, itself = q.block < 0, k.block < 0, q.slot == k.slot
        reach = k.order < q.horizon
        if self.prompt == "causal":
            reach = reach & ~((q.order == 0) & (k.order == 0) & q_said & (q.position < k.position))
        if self.context == "bidirectional":
            reach = reach | q_said
        peers = ~q_said & (q.block == k.block)
        if self.latents == "ordered":
            peers = peers & ((k.order < q.order) | itself)
        elif self.latents == "alone":
            peers = peers & itself
        if self.context_sees_latents:
            peers = peers | q_said
        return (q.document == k.document) & ((k_said & reach) | (~k_said & peers))


MDM = Attention("bidirectional", "joint", context_sees_latents=True)
SCDM = Attention("bidirectional", "ordered")
SIDM = Attention("bidirectional", "alone")
JOINT = Attention("bidirectional", "joint")
ANY_ORDER = Attention("causal", "ordered")
CACHED_JOINT = Attention("causal", "joint")
CACHED_ALONE = Attention("causal", "alone")

ATTENTIONS: dict[str, Attention] = {
    "mdm": MDM,
    "scdm": SCDM,
    "sidm": SIDM,
    "joint": JOINT,
    "any-order": ANY_ORDER,
    "cached-joint": CACHED_JOINT,
    "cached-alone": CACHED_ALONE,
}
