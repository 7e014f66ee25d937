"""What is asked of a `transformers` trunk, whatever its family."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unspoken import checks
from unspoken.layout.attention import Attention
from unspoken.layout.entries import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedModel


KERNELS = {"sdpa": "sdpa", "flex": "flex_attention", "eager": "eager"}  # as transformers names them
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


class CarriedState(nn.Module):
    """What a slot reads of its last state in the pass before: one linear map of it, normalised, that begins at nothing.

    A state of 0 is none, and adds nothing.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width))  # no random number is drawn for it

    def forward(self, states: Tensor) -> Tensor:
        """`[batch, entries, width]` to that shape."""
        normal = nn.functional.rms_norm(states, states.shape[-1:], eps=1e-6)
        return nn.functional.linear(normal, self.weight)


def vocabulary(trunk: PreTrainedModel) -> int:
    """Token ids that the trunk reads, the mask included."""
    embedding = trunk.get_input_embeddings()
    while (inner := getattr(embedding, "base_layer", getattr(embedding, "original_module", None))) is not None:
        embedding = inner  # of an adapter
    if not isinstance(embedding, nn.Embedding):
        raise ValueError(f"{type(trunk).__name__} does not read tokens by one table of embeddings; {REMEDY}")
    return embedding.num_embeddings


def never_said(mask_id: int, unused: int, vocab: int) -> list[int]:
    """The mask, and the last `unused` ids of a vocabulary."""
    return [mask_id, *(i for i in range(vocab - unused, vocab) if i != mask_id)]


def bare(trunk: PreTrainedModel) -> PreTrainedModel:
    """The model of transformers inside the wrapper of an adapter of `peft`, with the adapter's layers in it.

    Raises ValueError for adapters that put tokens of their own before every pass.
    """
    kind = getattr(trunk, "active_peft_config", None) if hasattr(trunk, "get_base_model") else None
    if kind is None:
        return trunk
    if kind.is_prompt_learning:
        raise ValueError(
            f"{type(kind).__name__} puts tokens of its own before every pass, and a layout has no place for them; take "
            "an adapter of layers, such as LoraConfig"
        )
    inner: Any = trunk
    return inner.get_base_model()


def output_head(trunk: PreTrainedModel) -> nn.Module:
    """From last states to logits. Raises ValueError where there is none."""
    head = trunk.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(trunk).__name__} has no output embedding; take a causal language model")
    return head


def body(trunk: PreTrainedModel) -> PreTrainedModel:
    """What computes the last states, without the output embedding. Raises ValueError where there is no such part."""
    trunk = bare(trunk)
    inner: Any = trunk.base_model if trunk.base_model is not trunk else getattr(trunk, "model", None)
    if inner is None:
        raise ValueError(f"{type(trunk).__name__} has no part that computes its last states alone")
    return inner


class _Given:
    """What a body returns whose last states are given, and nothing else."""

    def __init__(self, states: Tensor):
        self.last_hidden_state = states

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None  # caches, attentions, the routers of experts: there are none


class _Giving(nn.Module):
    """In a body's place: it returns given states, whatever it is called with."""

    def __init__(self, states: Tensor):
        super().__init__()
        self.given = _Given(states)

    @property
    def decoder(self) -> _Giving:
        """Some families call this part of their body (OPT, Whisper)."""
        return self

    def forward(self, *_: Any, **__: Any) -> _Given:
        return self.given


def logits_of(trunk: PreTrainedModel, states: Tensor) -> Tensor:
    """The trunk's own logits `[batch, m, vocab]` of last states `[batch, m, width]`, scaled or capped as it does.

    Its `forward` is run with the body replaced, in a copy that shares all other parts: so what a family does beside its
    output embedding is the family's own code. The trunk itself is not touched.
    """
    trunk = bare(trunk)
    inner = body(trunk)
    owner, name = next((part, name) for part in trunk.modules() for name, its in part.named_children() if its is inner)
    stand_in: Any = copy.copy(owner)
    stand_in._modules = owner._modules | {name: _Giving(states)}
    return type(owner).forward(stand_in, inputs_embeds=states).logits


def looped(trunk: PreTrainedModel, embedded: Tensor, held: Sequence[dict[str, Any]], **given: Any) -> Iterator[Any]:
    """What the trunk's body returns in each of its loops, which share all weights.

    The first loop reads the input `embedded` `[batch, entries, width]`, each further one the input plus the last states
    of the loop before, after the trunk's final norm: z = f(x + z) of Yang et al., arXiv 2311.12424.

    held: for each loop the arguments that differ, which are its keys and values. given: those of all loops.
    """
    output = None
    for own in held:
        read = embedded if output is None else embedded + output.last_hidden_state
        output = body(trunk)(inputs_embeds=read, **own, **given)
        yield output


def check_given(trunk: PreTrainedModel, mask_id: int, kernel: str, loops: int, carry: bool, unused: int = 0) -> None:
    """Raises ValueError on an unknown kernel, a mask that is no token id, and states that the trunk can not read."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel={kernel!r}; write one of {', '.join(KERNELS)}")
    if not 0 <= mask_id < vocabulary(trunk):
        raise ValueError(
            f"mask_id={mask_id} is outside the trunk's vocabulary of {vocabulary(trunk)}; give one of its ids "
            "(from_pretrained without mask_id adds a new one)"
        )
    checks.count("unused", unused)
    if mask_id >= vocabulary(trunk) - unused or unused >= vocabulary(trunk):
        raise ValueError(
            f"unused={unused} of the trunk's {vocabulary(trunk)} ids, and the mask is {mask_id}: give fewer, for it is "
            "none of them"
        )
    checks.count("loops", loops, 1)
    if loops > 1:
        check_widths(trunk, f"loops={loops}", "loops=1")
    if carry:
        check_widths(trunk, "carry=True", "carry=False")


def check_widths(trunk: PreTrainedModel, asked: str, instead: str) -> None:
    """Raises ValueError where last states can not be added to the input. asked, instead: what wants it and what not."""
    read, last = (getattr(part, "weight", None) for part in (trunk.get_input_embeddings(), output_head(trunk)))
    if read is not None and last is not None and read.shape[-1] != last.shape[-1]:
        raise ValueError(
            f"{asked}: the last states of {type(trunk).__name__} have width {last.shape[-1]} and its input has "
            f"{read.shape[-1]}, so they can not be added; take {instead}, or a trunk of one width"
        )


def places(trunk: PreTrainedModel, positions: int) -> nn.Embedding | None:
    """A new embedding of so many positions, as wide as the trunk's states; None of none."""
    if not positions:
        return None
    made = nn.Embedding(positions, trunk.config.hidden_size)
    nn.init.normal_(made.weight, std=getattr(trunk.config, "initializer_range", 0.02))
    return made.to(trunk.device, trunk.dtype)


def carried_state(trunk: PreTrainedModel, port: object) -> CarriedState:
    """A new map of a trunk's last states to its input. Raises ValueError where it can not read them.

    port: of the model, which must have none: the states of values are not carried.
    """
    if port is not None:
        raise ValueError(f"carry=True with {port}: the states of values are not carried; leave one of them out")
    check_widths(trunk, "carry=True", "carry=False")
    return CarriedState(trunk.config.hidden_size).to(trunk.device, trunk.dtype)


def cache_argument(trunk: PreTrainedModel) -> str:
    """What the trunk calls its keys and values: transformers renamed `past_key_values` to `cache` in 5.24."""
    return "cache" if "cache" in signature(body(trunk).forward).parameters else "past_key_values"


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as eager attention reads it: numbers that are added to the scores, 0 where one may look."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


def mask_of(kernel: str, layout: Layout, attention: Attention, first: int, dtype: torch.dtype) -> Any:
    """Who may look at whom, as a kernel reads it. first: see `Layout.mask`; dtype: of the trunk.

    Raises ValueError for flex on a CPU.
    """
    if kernel != "flex":
        mask = layout.mask(attention, first)
        return added(mask, dtype) if kernel == "eager" else mask
    if layout.token.device.type == "cpu":
        raise ValueError("kernel='flex' (FlexAttention) needs a GPU: move model and layout there, or use 'sdpa'")
    return layout.block_mask(attention, first)


def use_attention(trunk: PreTrainedModel, kernel: str) -> None:
    """Sets how a trunk computes attention, in configs of its own: other models of the same config stay as they are.

    Raises ValueError where transformers has no such implementation for its family.
    """
    memo: dict[int, Any] = {}  # one copy of each, whichever modules hold it
    for module in trunk.modules():
        if (config := getattr(module, "config", None)) is not None:
            module.config = copy.deepcopy(config, memo)  # pyright: ignore[reportArgumentType]
    try:
        trunk.set_attn_implementation(KERNELS[kernel])
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"{type(trunk).__name__} does not support an attention implementation by {kernel} in transformers; "
            f"{REMEDY}, or try kernel='eager'"
        ) from error
