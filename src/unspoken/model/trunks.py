"""What a trunk must do for the laws to hold, checked when a `Denoiser` is made and, cheaply, at every pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unspoken.layout.attention import SIDM, Attention
from unspoken.layout.entries import Layout, one_block

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

REMEDY = "take a decoder with full attention and rotary or learned positions, such as Llama, Qwen or GPT-2"


class Clock(nn.Module):
    """Every token's time, read at the input: cosines of it, and one linear map that begins at nothing."""

    WAVES = 16

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(self.WAVES, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, t: Tensor) -> Tensor:
        """`[batch, entries]` in [0, 1] to `[batch, entries, width]`."""
        waves = torch.arange(1, self.WAVES + 1, device=t.device) * torch.pi
        return self.linear(torch.cos(t[..., None] * waves).to(self.linear.weight.dtype))


def vocabulary(trunk: PreTrainedModel) -> int:
    """Token ids that the trunk reads, the mask included."""
    embedding = trunk.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.num_embeddings


def output_head(trunk: PreTrainedModel) -> nn.Module:
    """From last states to logits. Raises ValueError where there is none."""
    head = trunk.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(trunk).__name__} has no output embedding; take a causal language model")
    return head


def cache_argument(trunk: PreTrainedModel) -> str:
    """What the trunk calls its keys and values: transformers renamed `past_key_values` to `cache` in 5.24."""
    return "cache" if "cache" in signature(trunk.base_model.forward).parameters else "past_key_values"


def check_reach(config: PretrainedConfig, known: int | None, layout: Layout) -> None:
    """Refuses layouts that the trunk would compute wrongly without a word, or fail on without a reason.

    known: how many positions the model was made for, None where it does not say.
    """
    # A sliding window is dropped by transformers when it is handed a 4-D mask: refuse rather than differ.
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if layout.position.is_cuda and not window:
        return  # asking the device would stall every pass; the embedding itself refuses
    furthest = int(layout.position.max()) if layout.position.numel() else 0
    if window and furthest >= window:
        raise ValueError(
            f"positions reach {furthest}, past the trunk's sliding window of {window}; use shorter sequences, "
            "or a config with sliding_window=None"
        )
    if known and furthest >= known:
        raise ValueError(
            f"positions reach {furthest}, the model knows 0 to {known - 1}; use shorter sequences, or a model "
            "made for longer ones"
        )


@torch.no_grad()
def check_trunk(
    trunk: PreTrainedModel,
    embed: Callable[[Layout], Tensor],
    states: Callable[[Layout, Attention], Tensor],
    known: int | None,
) -> None:
    """Probes, on four tokens, that the trunk does what every law here stands on; ValueError where it does not.

    It must obey a mask (a said token must not notice unsaid ones that it may not look at) and explicit positions (the
    order of the list must mean nothing), and its logits must be its output embedding of its last states (so that the
    head can run where it is needed alone). Trunks with recurrent states, positions by list order or capped logits
    fail here, not later and silently. `embed` and `states` are the `Denoiser`'s.
    """
    name, vocab = type(trunk).__name__, vocabulary(trunk)
    ids = torch.tensor([[0, 1, 0, 1]], device=trunk.device) % vocab
    unsaid = torch.tensor([[False, False, True, True]], device=trunk.device)
    layout = one_block(ids, unsaid, torch.zeros_like(ids))
    layout = replace(layout, position=layout.position.clamp_max((known or 4) - 1))
    other = replace(layout, token=torch.where(unsaid, (ids + 1) % vocab, ids))
    flip = torch.tensor([[3, 2, 1, 0]], device=trunk.device)
    try:
        plain = states(layout, SIDM)
        moved, flipped = states(other, SIDM), states(layout.select(flip), SIDM)
        whole = trunk(
            inputs_embeds=embed(layout), position_ids=layout.position, attention_mask=layout.mask(SIDM)
        ).logits
        head = output_head(trunk)(plain)
    except Exception as error:  # whatever a foreign trunk does with input it was not made for
        raise ValueError(f"{name} does not take a mask, positions and embeddings: {error!r}; {REMEDY}") from error
    if not _close(moved[:, :2], plain[:, :2]) or not _close(flipped, plain[:, [3, 2, 1, 0]]):
        raise ValueError(f"{name} does not obey explicit masks and positions; {REMEDY}")
    if not _close(head, whole):
        raise ValueError(
            f"{name} changes its logits after the output embedding (scaling or soft caps); "
            "take a trunk whose head is one linear map"
        )


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal but for rounding in the precision at hand."""
    rounding = min(1000 * torch.finfo(b.dtype).eps, 0.05)
    return bool((a - b).abs().max() <= rounding * b.abs().max())
