"""Every decoder family of the installed transformers, made small without a download."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCAB, MASK = 13, 12
LARGE = 20_000_000  # more weights than a small model should have: nothing is made of them

WIDTHS = dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "emb_dim", "dim_model_base"), 32)
INNER = dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size"), 32)
INNER |= dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16)
LAYERS = dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 4)
LAYERS |= {"decoder_layers": 2, "encoder_layers": 1, "first_k_dense_replace": 1, "num_dense_layers": 1}
HEADS = dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads"), 4)
HEADS |= {"num_key_value_heads": 2, "head_dim": 8, "encoder_attention_heads": 4, "rotary_dim": 4}
LATENT = dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8)
LATENT |= dict.fromkeys(("q_lora_rank", "kv_lora_rank", "index_head_dim"), 16)
EXPERTS = dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "zero_expert_num"), 4)
EXPERTS |= {"num_experts_per_tok": 2, "moe_topk": 2, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
# Numbers at which arithmetic may switch: small, so that a pass of a few entries lies on both sides of each.
EDGES = {"sliding_window": 16, "attention_chunk_size": 16, "attention_window_size": 16, "window_size": 16}
EDGES |= {"index_topk": 8, "keep_window_size": 8, "index_block_size": 4, "index_topk_blocks": 2, "index_n_heads": 2}
EDGES |= {"floor_scale": 8, "log_scaling_n_floor": 8, "local_attention": 32, "sliding_window_size": 16}
EDGES |= dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 64)
OTHER: dict[str, Any] = {"vocab_size": VOCAB, "initializer_range": 0.3, "init_std": 0.3, "is_decoder": True}
OTHER |= {"vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
OTHER |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1}
SIZES = WIDTHS | INNER | LAYERS | HEADS | LATENT | EXPERTS | EDGES | OTHER

# What a family needs beside these; its `text_config` is under the family's name too.
ROPE = {"rope_type": "default", "rope_theta": 1e4}
QWEN4: dict[str, Any] = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8}
QWEN4 |= {"indexer_compress_ratio": 2, "ngram_vocab_size_base": 16, "split_ngram_parts": 2, "ple_embed_dim": 8}
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 4, "mamba_d_state": 8},
    "blt": {"encoder_hash_byte_group_vocab": 16},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": dict.fromkeys(("sliding_attention", "full_attention"), ROPE),
    },
    "dbrx": {
        "attn_config": {"rope_theta": 1e4, "kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 32, "hidden_size": 32},
    },
    "dory": {"num_hidden_layers": 4, "n_input_layers": 1, "n_output_layers": 1, "num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0}},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"mamba_n_heads": 4, "mamba_d_state": 8},
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8, "num_key_value_heads": 4},
    "mamba2": {"num_heads": 8, "n_groups": 1, "state_size": 8},
    "qwen4_exp": {"text_config": QWEN4},
    "qwen4_exp_text": QWEN4,
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"] * 2},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 32},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}


def shrunk(family: str, **more: Any) -> PretrainedConfig:
    """A small config of a family, and of each config inside it."""
    return _shrunk(
        CONFIG_MAPPING[family], copy.deepcopy(OWN.get(family, {}) | more)
    )  # a config changes what it is given


def _shrunk(make: Any, own: dict[str, Any]) -> PretrainedConfig:
    names = {field.name for field in dataclasses.fields(make)}
    chosen = {name: value for name, value in SIZES.items() if name in names}
    if names >= {"qk_rope_head_dim", "num_key_value_heads"}:
        chosen["num_key_value_heads"] = 4  # with latent keys, one head for each of the queries
    inner = make.sub_configs
    plain = make() if inner else None
    for name in inner:
        if isinstance(config := getattr(plain, name, None), PretrainedConfig):
            chosen[name] = _shrunk(type(config), own.get(name, {}))
    return make(**chosen | {name: value for name, value in own.items() if name not in inner})


def made(family: str, **more: Any) -> PreTrainedModel:
    """A small model of a family in float64, its weights from a fixed seed. Raises ValueError where there is none."""
    config = shrunk(family, **more)
    with torch.device("meta"):
        size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGE:
        raise ValueError(f"{size:,} weights where all the sizes are small that families share")
    with float64():
        torch.manual_seed(0)
        trunk = AutoModelForCausalLM.from_config(config)
        trunk.set_experts_implementation("eager")  # the others know no float64
    return trunk.eval()


@contextmanager
def float64() -> Iterator[None]:
    """Tensors made without a dtype are wide."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
