"""The transformer inside a `Denoiser`, as a config of ours: how large, or whose checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import: loaded where a trunk is made
    from transformers import LlamaConfig


@dataclass(frozen=True)
class Trunk:
    """A Llama trunk from scratch, or a checkpoint's.

    Attributes:
        layers: Transformer layers.
        width: Of the residual stream; the MLP is 8/3 of it, as in Llama.
        heads: Attention heads.
        learned_positions: Add a learned embedding of every position to the trunk's rotary ones, as the paper's model
            does. Without it a lone latent does not know where on a board it is (docs/results/LOG.md).
        checkpoint: A Hugging Face folder or name to start from instead; its vocabulary must hold the task's.
    """

    layers: int = 4
    width: int = 96
    heads: int = 4
    learned_positions: bool = True
    checkpoint: str = ""

    def __post_init__(self) -> None:
        if self.layers < 1 or self.heads < 1 or self.width < 1 or self.width % (2 * self.heads):
            raise ValueError(
                f"a trunk of {self.layers} layers, width {self.width}, {self.heads} heads: give at least one layer "
                "and a width that is an even multiple of the heads, e.g. 4, 96, 4"
            )

    def config(self, vocab_size: int, length: int) -> LlamaConfig:
        """The Llama config for a task's vocabulary and length. No special tokens: every id is the task's."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.width,
            intermediate_size=32 * round(self.width * 8 / 3 / 32),
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=length,
            bos_token_id=None,
            eos_token_id=None,
        )
