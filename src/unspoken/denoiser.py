"""A `transformers` trunk that reads a `Layout` and predicts the clean token at the entries asked for.

There is no modelling code here: the trunk is any `AutoModelForCausalLM`; what makes it MDM, SCDM or SIDM is the
mask that `Attention` draws over the layout. A checkpoint folder is an ordinary Hugging Face folder plus
`unspoken.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unspoken.attention import Attention
from unspoken.layout import Layout, one_block

if TYPE_CHECKING:  # slow to import: loaded where a trunk is made
    from transformers import PretrainedConfig, PreTrainedModel

OURS, WEIGHTS = "unspoken.json", "unspoken.safetensors"
Kernel = Literal["sdpa", "flex"]


class Model(Protocol):
    """What losses and decoders ask of a network; `Denoiser` is one, an exact table in a test is another."""

    @property
    def attention(self) -> Attention: ...
    @property
    def mask_id(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...

    def __call__(self, layout: Layout, at: Tensor | None = None) -> Tensor:
        """Logits `[batch, m, vocab]` of the clean token at the entries `at` `[batch, m]` (all when None).

        The mask is never a clean token: its logit is -inf.
        """
        ...


class Denoiser(nn.Module):
    """Trunk, mask rule and heads. Make one with `from_config` or `from_pretrained`.

    positions: where above 0, an embedding of each of so many positions is learned and added at the input. A rotary
        trunk knows distances alone, and a latent that sees few others can not tell from them where on a board it is.
    kernel: `sdpa`, or `flex` for FlexAttention (its backward needs CUDA).
    """

    def __init__(
        self,
        trunk: PreTrainedModel,
        attention: Attention,
        mask_id: int,
        positions: int = 0,
        kernel: Kernel = "sdpa",
    ):
        super().__init__()
        vocab = _vocabulary(trunk)
        if not 0 <= mask_id < vocab:
            raise ValueError(
                f"mask_id={mask_id} is outside the trunk's vocabulary of {vocab}; give one of its ids "
                "(from_pretrained without mask_id adds a new one)"
            )
        self.trunk = trunk
        self.attention = attention
        self.mask_id = mask_id
        self.kernel: Kernel = kernel
        self.place = nn.Embedding(positions, trunk.config.hidden_size) if positions else None
        if self.place is not None:
            nn.init.normal_(self.place.weight, std=getattr(trunk.config, "initializer_range", 0.02))
            self.place.to(trunk.device, trunk.dtype)
        trunk.set_attn_implementation({"sdpa": "sdpa", "flex": "flex_attention"}[kernel])
        _check_trunk(self)

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig,
        *,
        attention: Attention,
        mask_id: int,
        positions: int = 0,
        kernel: Kernel = "sdpa",
    ) -> Denoiser:
        """A trunk from scratch, its weights drawn from torch's global generator (seed it for a fixed start).

        config: any decoder's config (`LlamaConfig(...)`, `Qwen3Config(...)`, ...), its vocabulary holding the mask.
        """
        from transformers import AutoModelForCausalLM

        return cls(AutoModelForCausalLM.from_config(config), attention, mask_id, positions, kernel)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        attention: Attention | None = None,
        mask_id: int | None = None,
        kernel: Kernel = "sdpa",
        **trunk_options: object,
    ) -> Denoiser:
        """A folder that `save_pretrained` wrote, or any Hugging Face causal language model.

        attention, mask_id: what the folder records unless given. For a foreign model `attention` must be given;
            without a `mask_id` its vocabulary grows by one id for the mask.
        trunk_options: passed to `AutoModelForCausalLM.from_pretrained` (dtype, device_map, ...).
        Raises ValueError where the folder is missing, or says nothing and the caller does not either.
        """
        from transformers import AutoModelForCausalLM

        ours, positions = Path(folder) / OURS, 0
        if ours.exists():
            record = json.loads(ours.read_text())
            attention = attention or Attention(**record["attention"])
            mask_id = record["mask_id"] if mask_id is None else mask_id
            positions = record.get("positions", 0)
        if attention is None:
            raise ValueError(f"{folder} has no {OURS}: say who may look at whom, e.g. attention=us.SCDM")
        try:
            with _quiet():
                trunk = AutoModelForCausalLM.from_pretrained(folder, **trunk_options)
        except OSError as error:
            raise ValueError(f"no model in {folder}: {error}") from error
        if mask_id is None:
            mask_id = _vocabulary(trunk)
            trunk.resize_token_embeddings(mask_id + 1)
        with torch.random.fork_rng():  # the places drawn here are loaded over
            model = cls(trunk, attention, mask_id, positions, kernel)
        if model.place is not None:
            model.place.load_state_dict(load_file(Path(folder) / WEIGHTS))
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the trunk as a Hugging Face folder, and beside it our `unspoken.json` and learned positions."""
        with _quiet():
            self.trunk.save_pretrained(folder)
        positions = 0 if self.place is None else self.place.num_embeddings
        if self.place is not None:
            save_file(self.place.state_dict(), Path(folder) / WEIGHTS)
        record = {"attention": asdict(self.attention), "mask_id": self.mask_id, "positions": positions}
        (Path(folder) / OURS).write_text(json.dumps(record, indent=1) + "\n")

    def forward(self, layout: Layout, at: Tensor | None = None) -> Tensor:
        """Logits `[batch, m, vocab]` (float32 or wider) at the entries `at` `[batch, m]`; see `Model`."""
        hidden = self.states(layout)
        if at is not None:
            hidden = hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = _head(self.trunk)(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.index_fill(-1, torch.tensor([self.mask_id], device=logits.device), -torch.inf)

    def states(self, layout: Layout) -> Tensor:
        """The trunk's last hidden states `[batch, entries, width]`: one pass over the layout's entries."""
        _check_reach(self.trunk.config, layout)
        mask = layout.block_mask if self.kernel == "flex" else layout.mask
        return self.trunk.base_model(
            inputs_embeds=self.embed(layout),
            position_ids=layout.position,
            attention_mask=mask(self.attention),
            use_cache=False,
        ).last_hidden_state

    def embed(self, layout: Layout) -> Tensor:
        """What the trunk reads of each entry, `[batch, entries, width]`: its token's embedding and its place's."""
        embedded = self.trunk.get_input_embeddings()(layout.token)
        return embedded if self.place is None else embedded + self.place(layout.position)

    @property
    def vocab_size(self) -> int:
        """Token ids, the mask included."""
        return _vocabulary(self.trunk)

    @property
    def device(self) -> torch.device:
        """Where the trunk lives."""
        return self.trunk.device


def _vocabulary(trunk: PreTrainedModel) -> int:
    embedding = trunk.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.num_embeddings


def _head(trunk: PreTrainedModel) -> nn.Module:
    head = trunk.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(trunk).__name__} has no output embedding; take a causal language model")
    return head


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars: they would break into ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_reach(config: PretrainedConfig, layout: Layout) -> None:
    """Refuses layouts that the trunk would compute wrongly without a word."""
    # A sliding window is dropped by transformers when it is handed a 4-D mask: refuse rather than differ.
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window and int(layout.position.max()) >= window:
        raise ValueError(
            f"positions reach {int(layout.position.max())}, past the trunk's sliding window of {window}; use "
            "shorter sequences, or a config with sliding_window=None"
        )


@torch.no_grad()
def _check_trunk(model: Denoiser) -> None:
    """Probes, on three tokens, that the trunk does what every law here stands on.

    It must obey a 4-D mask and explicit positions (so that order in the list means nothing), and its logits
    must be its output embedding of its last states (so that the head can run where it is needed alone).
    Trunks with recurrent states, ALiBi by list order or capped logits fail here, not later and silently.
    """
    if model.device.type == "meta" or model.kernel == "flex":
        return
    training, trunk = model.training, model.trunk
    model.eval()
    ids = torch.tensor([[0, 1 % model.vocab_size, 0]], device=model.device)
    layout = one_block(ids, torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids))
    states = model.states(layout)
    flip = torch.tensor([[2, 1, 0]], device=model.device)
    if not _close(model.states(layout.select(flip)), states[:, [2, 1, 0]]):
        raise ValueError(
            f"{type(trunk).__name__} does not obey explicit masks and positions (it reads the order of the list); "
            "take a decoder with full attention and rotary or learned positions, such as Llama, Qwen or GPT-2"
        )
    whole = trunk(
        inputs_embeds=model.embed(layout),
        position_ids=layout.position,
        attention_mask=layout.mask(model.attention),
        use_cache=False,
    ).logits
    head = _head(trunk)(states)
    if not _close(head, whole):
        raise ValueError(
            f"{type(trunk).__name__} changes its logits after the output embedding (scaling or soft caps); "
            "take a trunk whose head is one linear map"
        )
    model.train(training)


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal but for the rounding of half precision."""
    return torch.allclose(a, b, rtol=1e-2, atol=1e-2 * float(b.abs().max()))
