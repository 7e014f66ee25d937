"""The transformer inside a `Denoiser`, as a config of ours: which family, how large, or whose checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # slow to import: loaded where a trunk is made
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Trunk:
    """A transformer from scratch, or a checkpoint's.

    Attributes:
        layers: Transformer layers.
        width: Of the residual stream.
        heads: Attention heads.
        family: `gpt2` learns an embedding of every position; `llama` has rotary positions, which are relative: a latent
            that sees few others can not tell where on a board it is (docs/results/LOG.md).
        checkpoint: A Hugging Face folder or name to start from instead; its vocabulary must hold the task's.
    """

    layers: int = 4
    width: int = 96
    heads: int = 4
    family: Literal["gpt2", "llama"] = "gpt2"
    checkpoint: str = ""

    def __post_init__(self) -> None:
        if self.layers < 1 or self.heads < 1 or self.width < 1 or self.width % (2 * self.heads):
            raise ValueError(
                f"a trunk of {self.layers} layers, width {self.width}, {self.heads} heads: give at least one layer "
                "and a width that is an even multiple of the heads, e.g. 4, 96, 4"
            )

    def config(self, vocab_size: int, length: int) -> PretrainedConfig:
        """The trunk's config for a task's vocabulary and length. No special tokens: every id is the task's."""
        from transformers import GPT2Config, LlamaConfig

        if self.family == "llama":
            return LlamaConfig(
                vocab_size=vocab_size,
                hidden_size=self.width,
                intermediate_size=32 * round(self.width * 8 / 3 / 32),  # 8/3 of the width, as in Llama
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                max_position_embeddings=length,
                bos_token_id=None,
                eos_token_id=None,
            )
        return GPT2Config(
            vocab_size=vocab_size,
            n_positions=length,
            n_embd=self.width,
            n_layer=self.layers,
            n_head=self.heads,
            # No dropout: losses are then those of the model that decodes, and a resumed run is exact.
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,  # nothing to share: the vocabulary is a handful of symbols
            bos_token_id=None,
            eos_token_id=None,
        )
