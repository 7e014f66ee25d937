"""Every decoder family of the installed transformers, made small without a download, and what is measured on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCAB = 13

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "initializer_range": 0.3,
    "init_std": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 1,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_layer": 4,
    "n_head": 4,
    "num_layers": 4,
    "num_heads": 4,
    "decoder_layers": 2,
    "encoder_layers": 1,
    "decoder_ffn_dim": 32,
    "encoder_ffn_dim": 32,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "ffn_dim": 32,
    "n_layers": 4,
    "n_heads": 4,
    "is_decoder": True,
    "sliding_window": 16,
    "index_topk": 8,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "keep_window_size": 8,
    "first_k_dense_replace": 1,
}


def shrunk(make: type[PretrainedConfig], **more: Any) -> PretrainedConfig:
    names = {f.name for f in dataclasses.fields(make)}
    chosen = {name: value for name, value in SIZES.items() if name in names}
    for name, sub in make.sub_configs.items():
        if name in names and isinstance(sub, type) and dataclasses.is_dataclass(sub):
            chosen[name] = shrunk(sub)
    return make(**chosen | more)
