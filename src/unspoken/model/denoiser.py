"""A `transformers` trunk that reads a `Layout` and predicts the clean token at the entries asked for.

There is no modelling code here: the trunk is any `AutoModelForCausalLM`; what makes it MDM, SCDM or SIDM is the
mask that `Attention` draws over the layout. A checkpoint folder is an ordinary Hugging Face folder plus
`unspoken.json`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from unspoken.layout.attention import Attention, Prompt
from unspoken.layout.condition import condition_of
from unspoken.layout.entries import Layout, entries_of
from unspoken.layout.packing import Packed
from unspoken.layout.questions import Question
from unspoken.model.adapters import with_adapter
from unspoken.model.asking import losses_of
from unspoken.model.cache import Cache
from unspoken.model.codes import CodeWeights
from unspoken.model.folder import OURS, codec_in
from unspoken.model.foresight import fusion_of, is_frozen, load_foresight
from unspoken.model.loading import load_inputs
from unspoken.model.masks import write_silence
from unspoken.model.ports import Categorical, Port, VectorWeights, check_port, check_values
from unspoken.model.posterior import PosteriorWeights
from unspoken.model.pretrained import Asked, read_parts
from unspoken.model.probe import check_trunk
from unspoken.model.reach import check_reach
from unspoken.model.saving import save
from unspoken.model.shift import answering
from unspoken.model.trunks import (
    Clock,
    cache_argument,
    carried_state,
    check_given,
    looped,
    mask_of,
    places,
    use_attention,
    vocabulary,
)

if TYPE_CHECKING:  # slow to import: loaded where a trunk is made
    from transformers import PretrainedConfig, PreTrainedModel

    from unspoken.model.tokens import Tokenizer

Kernel = Literal["sdpa", "flex", "eager"]


class Denoiser(nn.Module):
    """Trunk, mask rule and heads. Make one with `from_config` or `from_pretrained`.

    trunk: the model's from now on: it is set to evaluation and to the kernel, and gets a config of its own.
    positions: where above 0, an embedding of each of so many positions is learned and added at the input. A rotary
        trunk knows distances alone, and a latent that sees few others can not tell from them where on a board it is.
    times: every token's time is shown at the input (`Layout.time`): what is said may be noise, where a process says so.
    port: of tokens that are values, read at entries of its placeholder id and predicted by its own head.
    kernel: `sdpa`; `flex` for FlexAttention, which needs CUDA; `eager` for trunks that have no other (Gemma 2).
    loops: how often a pass runs through the layers, from the second time on with the last states added to the input.
    carry: a slot (an unsaid entry of the mask) reads the last state that its position had in the pass before, where
        `Layout.carried` has it.
    shift: the answer for a position is read at the entry to its left, as Dream and DiffuLLaMA do (`shift.left_of`).
    unused: so many of the last token ids are never said, as the mask is not.
    decoder: the one that it was trained for, as a record or as a value (`us.Slots(latents=4)`); None where nobody said.
    tokenizer: of its text, where it has one; it is saved and loaded with the weights.
    """

    def __init__(
        self,
        trunk: PreTrainedModel,
        attention: Attention,
        mask_id: int,
        positions: int = 0,
        kernel: Kernel = "sdpa",
        times: bool = False,
        port: Port | None = None,
        decoder: Any = None,
        loops: int = 1,
        carry: bool = False,
        shift: bool = False,
        unused: int = 0,
    ):
        super().__init__()
        check_given(trunk, mask_id, kernel, loops, carry, unused)
        if shift and port is not None:
            raise ValueError(f"shift=True with {port}: values are read at their own entries; leave one of them out")
        self.trunk, self.attention, self.mask_id, self.shift, self.unused = trunk, attention, mask_id, shift, unused
        self.kernel: Kernel = "sdpa" if kernel == "flex" else kernel
        self.decoder = decoder
        self.added = False  # whether the mask is a new token of the trunk, begun at the mean
        self.tokenizer: Tokenizer | None = None
        self.codec: Denoiser | None = None  # of thoughts; it is never trained with this model
        self.place = places(trunk, positions)
        self.clock = Clock(trunk.config.hidden_size).to(trunk.device, trunk.dtype) if times else None
        self.port, self.values, self.carried = port, None, None
        self.foresight, self.fusion = None, None
        self.cache_argument = cache_argument(trunk)
        self.loops = 1  # it is probed with one loop and without flex, whatever follows: each loop obeys the same laws
        use_attention(trunk, self.kernel)
        self.eval()
        if trunk.device.type != "meta":
            check_trunk(self)
        write_silence(trunk, mask_id, unused)
        self.loops = loops
        if kernel != self.kernel:
            self.kernel = kernel
            use_attention(trunk, kernel)
        if port is not None:  # after the check, which shows the trunk tokens alone
            check_port(port, vocabulary(trunk), mask_id)
            self.values = port.build(trunk.config.hidden_size).to(trunk.device, trunk.dtype)
        self.carry(carry)

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig,
        *,
        attention: Attention,
        mask_id: int,
        positions: int = 0,
        kernel: Kernel = "sdpa",
        times: bool = False,
        port: Port | None = None,
        decoder: Any = None,
        loops: int = 1,
        carry: bool = False,
        shift: bool = False,
    ) -> Denoiser:
        """A trunk from scratch in evaluation mode, its weights drawn from torch's global generator.

        config: any decoder's config (`LlamaConfig(...)`, `Qwen3Config(...)`, ...), its vocabulary holding the mask.
        """
        from transformers import AutoModelForCausalLM

        trunk = AutoModelForCausalLM.from_config(copy.deepcopy(config))
        return cls(trunk, attention, mask_id, positions, kernel, times, port, decoder, loops, carry, shift).eval()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        attention: Attention | None = None,
        mask_id: int | str | None = None,
        kernel: Kernel = "sdpa",
        port: Port | None = None,
        loops: int | None = None,
        carry: bool | None = None,
        prompt: Prompt | None = None,
        shift: bool | None = None,
        pad_to: int = 1,
        tokenizer: Tokenizer | None = None,
        base: str | Path | None = None,
        **trunk_options: object,
    ) -> Denoiser:
        """A folder that `save_pretrained` wrote, or any Hugging Face causal language model; in evaluation mode.

        attention, mask_id, loops, carry, shift: what the folder records unless given; of LLaDA and Dream, what it was
            trained with. For other foreign models `attention` must be given. mask_id: an id, or the text of a token,
            which is added where the tokenizer has none such; by default a foreign model gets a new one, "<|mask|>".
        port: of values, for a foreign model; one of ours records its own.
        prompt: how the prompt is read under an attention with a cache (`Attention.prompt`); by default as the folder
            records, and of a foreign model `causal`, as it was trained.
        pad_to: the vocabulary grows to a multiple of it; the ids that nobody uses are never said.
        tokenizer: in place of the folder's; it gets the mask as well.
        base: where the folder holds an adapter of `peft`, the model it is of; by default as the adapter records.
        trunk_options: passed to `AutoModelForCausalLM.from_pretrained` (dtype, device_map, ...).
        Raises ValueError where the folder is missing, says nothing and the caller does not either, or does not hold
            just the weights that its config asks for.
        """
        asked = Asked(attention, mask_id, port, loops, shift, prompt, pad_to, tokenizer, base)
        parts = read_parts(folder, asked, trunk_options)
        with torch.random.fork_rng():  # the places drawn here are loaded over
            model = cls(parts.trunk, kernel=kernel, **parts.given)
            load_foresight(model, folder, {"kernel": kernel, **trunk_options})
        if model.inputs and (Path(folder) / OURS).exists():
            load_inputs(model.inputs, folder)
        if carry is not None:
            model.carry(carry)
        if (codec := codec_in(folder)) is not None:
            options: dict[str, Any] = dict(trunk_options)
            model.codec = cls.from_pretrained(codec, kernel=kernel, **options).requires_grad_(False)
        model.tokenizer, model.added = parts.tokenizer, parts.added
        if parts.base != folder:
            model.trunk = with_adapter(model.trunk, folder, parts.base)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the trunk as a Hugging Face folder, and beside it our `unspoken.json` and learned inputs.

        Raises ValueError for a decoder that can not be recorded, before anything is written.
        """
        save(self, folder)

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        max_new_tokens: int = 64,
        decoder: Any = None,
        **options: Any,
    ) -> Tensor:
        """Prompts and what the model says after them, as ids, in the manner of `transformers`; see `us.generate_ids`.

        input_ids: `[batch, n]`. attention_mask: `[batch, n]`, 0 where a prompt is padded. decoder: by default the
            model's own. options: `eos_token_id`, `num_return_sequences`, `streamer`, ..., and those of the decoder:
            `latents`, `temperature`, `top_p`, ...
        """
        import unspoken  # decoders stand on this room

        return unspoken.generate_ids(
            self, input_ids, attention_mask, max_new_tokens=max_new_tokens, decoder=decoder, **options
        )

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """The trunk's: states between layers are computed again in the backward pass, and need no memory."""
        trunk: Any = self.trunk
        (getattr(trunk, "activation_checkpointing_enable", None) or trunk.gradient_checkpointing_enable)(**options)

    gradient_checkpointing_enable = activation_checkpointing_enable  # what it was called before

    def train(self, mode: bool = True) -> Denoiser:
        """As of every module; a codec, and a predictor that is not trained, stay in evaluation."""
        super().train(mode)
        if self.codec is not None:
            self.codec.eval()
        if self.foresight is not None and is_frozen(self.foresight):
            self.foresight.eval()
        return self

    def carry(self, carry: bool = True) -> None:
        """From now on slots read carried states, by a new map of zeros where there is none yet; or they do not.

        Raises ValueError for a model whose tokens are values, and for a trunk that reads another width than it gives.
        """
        if not carry:
            self.carried = None
        elif self.carried is None:
            self.carried = carried_state(self.trunk, self.port)

    def foresee(self, predictor: Denoiser | None) -> None:
        """From now on every entry reads what the predictor's states tell of it, by a new map of zeros; None: no more.

        The predictor sees the prompt and masks, and neither noise nor times: its states are computed once a pass where
        `Layout.foreseen` does not bring them, from the entries of the pass. It is saved with the model.
        Raises ValueError for a predictor of other tokens.
        """
        self.fusion = None if predictor is None else fusion_of(self, predictor)
        self.foresight = predictor
        self.train(self.training)

    def foreseeing(self, layout: Layout, cache: Cache | None = None) -> Layout:
        """The layout with what the predictor foresees of every entry, as it is where it has that or there is none.

        Raises ValueError beside a cache, where a layout does not hold every entry.
        """
        if self.foresight is None or layout.foreseen is not None:
            return layout
        if cache is not None:
            raise ValueError(
                "what is foreseen depends on the entries in the cache too: decode by us.Slots(), which computes it "
                "once, or without a cache"
            )
        return replace(layout, foreseen=self.foresight.states(condition_of(layout, self.mask_id)))

    @overload
    def forward(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor: ...
    @overload
    def forward(
        self, layout: Layout, *, questions: Sequence[Question], then: Packed | None = None
    ) -> tuple[Tensor, ...]: ...

    def forward(
        self,
        layout: Layout,
        at: Tensor | None = None,
        cache: Cache | None = None,
        questions: Sequence[Question] | None = None,
        then: Packed | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Logits `[batch, m, vocab]` (float32 or wider) at the entries `at` `[batch, m]`; see `Model`.

        questions: in place of `at`: the loss of each, `[batch, m]`, all from one pass of the trunk (`layout.pricing`).
        then: a pass after this one, which reads of it what `Packed.reads` says; the losses of its questions follow.
        """
        if questions is not None:
            return losses_of(self, Packed(layout, tuple(questions), then))
        layout = self.foreseeing(layout, cache)
        return self.ids.predict(answering(self.states(layout, cache=cache), layout, at, cache, self.shift))

    def predict_values(self, layout: Layout, at: Tensor, cache: Cache | None = None) -> Any:
        """What the port predicts at the entries `at` `[batch, m]`: a `Seen`, or `CodeStates` to draw codes from."""
        return self.reader.predict(entries_of(self.states(layout, cache=cache), at))

    @property
    def ids(self) -> Categorical:
        """The trunk's own embedding and head."""
        return Categorical(self.trunk, self.mask_id, self.unused)

    @property
    def reader(self) -> VectorWeights | CodeWeights | PosteriorWeights:
        """The port of values, with its weights. Raises ValueError where tokens are ids."""
        if self.values is None:
            raise ValueError("the model has no port of values; make it with port=us.Vectors(...) or us.Codes(...)")
        return self.values

    def states(self, layout: Layout, attention: Attention | None = None, cache: Cache | None = None) -> Tensor:
        """The trunk's last hidden states `[batch, entries, width]`: one pass over the layout's entries.

        attention: the rule, by default the model's own.
        cache: what it holds is seen and not computed.
        """
        layout = self.foreseeing(layout, cache)
        check_reach(self.trunk.config, self.known_positions, layout, 0 if cache is None else len(cache))
        if not layout.token.numel():  # which trunks can not reshape
            return self.embed(layout)
        seen = layout if cache is None else cache.before(layout)
        embedded = states = self.embed(layout)
        for output in looped(
            self.trunk,
            embedded,
            [{}] * self.loops if cache is None else [{self.cache_argument: keys} for keys in cache.of(self.loops)],
            position_ids=layout.position,
            attention_mask=self.mask(seen, attention or self.attention, seen.shape[1] - layout.shape[1]),
            use_cache=cache is not None,
        ):
            states = output.last_hidden_state
        if cache is not None and self.shift:
            cache.newest = states
        return states

    def mask(self, layout: Layout, attention: Attention, first: int = 0) -> Any:
        """Who may look at whom, as the kernel reads it. first: see `Layout.mask`."""
        return mask_of(self.kernel, layout, attention, first, self.trunk.dtype)

    def new_cache(self) -> Cache | None:
        """An empty cache of the context, None under an attention whose context states change as tokens are said."""
        return Cache(self.loops) if self.attention.cacheable else None

    def embed(self, layout: Layout) -> Tensor:
        """What the trunk reads of each entry, `[batch, entries, width]`: token, place, time, and a slot its state."""
        embedded = self.ids.read(layout.token)
        if layout.value is not None or (self.values is not None and bool((layout.token == self.placeholder).any())):
            embedded = embedded + self._shown(layout)
        if self.place is not None:
            embedded = embedded + self.place(layout.position)
        if self.carried is not None and layout.carried is not None:
            slots = (layout.unsaid & (layout.token == self.mask_id))[..., None]
            embedded = embedded + torch.where(slots, self.carried(layout.carried), 0.0)
        embedded = embedded if self.clock is None else embedded + self.clock(layout.times)
        if self.fusion is None:
            return embedded
        foreseen = self.foreseeing(layout).foreseen
        assert foreseen is not None
        return self.fusion(embedded, foreseen, layout.times)

    def _shown(self, layout: Layout) -> Tensor:
        """`[batch, entries, width]`: the values of the entries that show one, 0 at the others."""
        check_values(self.port, layout.value)
        assert layout.value is not None
        shows = (layout.token == self.placeholder)[..., None]
        # Twice: a value that is no number and not shown must not reach the gradient either.
        return torch.where(shows, self.reader.read(torch.where(shows, layout.value, 0)), 0.0)

    @property
    def inputs(self) -> nn.ModuleDict:
        """What we add to the trunk, by name; empty where nothing is."""
        ours = {"place": self.place, "clock": self.clock, "port": self.values, "carried": self.carried}
        ours["fusion"] = self.fusion
        return nn.ModuleDict({name: module for name, module in ours.items() if module is not None})

    @property
    def vocab_size(self) -> int:
        """Token ids, the mask included."""
        return vocabulary(self.trunk)

    @property
    def known_positions(self) -> int | None:
        """How many positions the model was made for, None where its trunk does not say."""
        if self.place is not None:
            return self.place.num_embeddings
        return getattr(self.trunk.config, "max_position_embeddings", None)

    @property
    def placeholder(self) -> int:
        """The token id of entries that show a value. Raises ValueError where tokens are ids."""
        if self.port is None or self.port.placeholder is None:
            raise ValueError("the model has no port of values; make it with port=us.Vectors(...) or us.Codes(...)")
        return self.port.placeholder

    @property
    def device(self) -> torch.device:
        """Where the trunk lives."""
        return self.trunk.device
