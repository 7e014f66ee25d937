"""Checkpoints of diffusion models whose architecture transformers has under another name: read by renaming alone.

A LLaDA is a Llama in OLMo's names and a Dream is a Qwen2; both see every position. Their folders bring code of their
own, which is not run. What a recipe does not know is refused: a variant would load, and compute something else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from unspoken.layout.attention import MDM, Attention
from unspoken.messages import first_line, quoted

KEPT = ("vocab_size", "rope_theta", "rms_norm_eps", "mask_token_id")  # in both, and needed
OPTIONAL = ("bos_token_id", "eos_token_id", "pad_token_id", "torch_dtype", "dtype")


@dataclass(frozen=True)
class Recipe:
    """How a folder of one `model_type` becomes a model.

    trunk: the class of transformers that computes the same. config: keys of config.json that are needed, and what that
    class calls them. optional: as `config`, where they are there.
    needs: values that the config must have. refuses: keys that must be missing, false or null: what the class lacks.
    weights: parts of their names, replaced in this order. attention, shift: how it was trained to be read.
    """

    trunk: str
    config: Mapping[str, str]
    optional: Mapping[str, str]
    needs: Mapping[str, Any]
    refuses: tuple[str, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    attention: Attention = MDM
    shift: bool = False


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


LLADA = Recipe(  # arXiv 2502.09992
    trunk="LlamaForCausalLM",
    config={
        "d_model": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
        "mlp_hidden_size": "intermediate_size",
        "max_sequence_length": "max_position_embeddings",
        **_same(*KEPT),
    },
    # The table of embeddings may be longer than the vocabulary. Last of those that are there, it is the one taken.
    optional={
        "n_kv_heads": "num_key_value_heads",
        "weight_tying": "tie_word_embeddings",
        "embedding_size": "vocab_size",
        **_same(*OPTIONAL),
    },
    needs={"block_type": "llama", "layer_norm_type": "rms", "activation_type": "silu", "rope": True},
    refuses=(
        "alibi",
        "attention_layer_norm",
        "bias_for_layer_norm",
        "clip_qkv",
        "include_bias",
        "include_qkv_bias",
        "input_emb_norm",
        "multi_query_attention",
        "quantization_config",
        "rope_scaling",
        "scale_logits",
    ),
    weights={
        "model.transformer.wte.": "model.embed_tokens.",
        "model.transformer.ln_f.": "model.norm.",
        "model.transformer.ff_out.": "lm_head.",
        "model.transformer.blocks.": "model.layers.",
        ".q_proj.": ".self_attn.q_proj.",
        ".k_proj.": ".self_attn.k_proj.",
        ".v_proj.": ".self_attn.v_proj.",
        ".attn_out.": ".self_attn.o_proj.",
        ".ff_proj.": ".mlp.gate_proj.",
        ".up_proj.": ".mlp.up_proj.",
        ".ff_out.": ".mlp.down_proj.",
        ".attn_norm.": ".input_layernorm.",
        ".ff_norm.": ".post_attention_layernorm.",
    },
)

DREAM = Recipe(  # arXiv 2508.15487
    trunk="Qwen2ForCausalLM",
    config=_same(
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        *KEPT,
    ),
    optional=_same("hidden_act", "rope_scaling", "tie_word_embeddings", *OPTIONAL),
    needs={},
    refuses=("block_size", "mlp_bias", "quantization_config", "use_mrope", "use_sliding_window"),
    shift=True,
)

RECIPES: dict[str, Recipe] = {"llada": LLADA, "Dream": DREAM}

REFUSED: dict[str, str] = {
    "diffusion_gemma": "its encoder reads the prompt and its decoder, which has other layers, denoises a canvas of "
    "fixed length; a model here is one trunk that reads prompt and masks together",
}


@dataclass(frozen=True)
class Foreign:
    """A folder and its recipe. Raises ValueError, when made, for a variant that the recipe does not know."""

    folder: Path
    recipe: Recipe
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        kind, trunk = self.config["model_type"], self.recipe.trunk.removesuffix("ForCausalLM")
        if missing := [key for key in self.recipe.config if type(self.config.get(key)) not in (int, float)]:
            raise ValueError(
                f"{self.folder} is of the type {kind!r}, and its config.json has no number for "
                f"{', '.join(missing[:3])}: it is damaged or another variant, such as a mixture of experts; those that "
                f"compute what {trunk} does are read"
            )
        needs = {key: value for key, value in self.recipe.needs.items() if self.config.get(key) != value}
        key = next(iter([*needs, *(key for key in self.recipe.refuses if self.config.get(key))]), None)
        if key is not None:
            instead = f"{key}={needs[key]!r}" if key in needs else f"none ({key} is missing, false or null)"
            raise ValueError(
                f"{self.folder} is of the type {kind!r} with {key}={quoted(self.config.get(key))}, and {trunk}, as "
                f"which it is read, has {instead}: load the trunk yourself and hand it to us.Denoiser"
            )

    @property
    def defaults(self) -> dict[str, Any]:
        """Of `Denoiser`: how the model was trained to be read."""
        return {
            "attention": self.recipe.attention,
            "mask_id": self.config["mask_token_id"],
            "shift": self.recipe.shift,
        }

    def load(self, options: dict[str, Any]) -> Any:
        """What `from_pretrained` of the recipe's class returns for the renamed weights. options: its own."""
        import transformers

        kind = getattr(transformers, self.recipe.trunk)
        names = {**self.recipe.config, **self.recipe.optional}
        fields = {new: self.config[old] for old, new in names.items() if self.config.get(old) is not None}
        try:
            config = kind.config_class(**{"bos_token_id": None, "eos_token_id": None} | fields)
        except Exception as error:  # of whatever type its checks raise
            raise ValueError(f"its config.json makes no {kind.config_class.__name__}: {first_line(error)}") from error
        return kind.from_pretrained(None, config=config, state_dict=self.weights(), **options)

    def weights(self) -> dict[str, Tensor]:
        """All of the folder's, by the names of the recipe's class. Raises OSError where there are none."""
        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise OSError("it holds no weights in *.safetensors")
        return {self.renamed(name): weight for file in files for name, weight in load_file(file).items()}

    def renamed(self, name: str) -> str:
        """What the recipe's class calls a weight."""
        for old, new in self.recipe.weights.items():
            name = name.replace(old, new)
        return name


def foreign(folder: str | Path) -> Foreign | None:
    """A folder whose `model_type` has a recipe; None for others. Raises ValueError for a variant that is not known."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text())
        recipe = RECIPES.get(config.get("model_type"))
    except (OSError, ValueError, AttributeError, TypeError):
        return None  # a name of the Hub, or what `loading` refuses
    return None if recipe is None else Foreign(Path(folder), recipe, config)
