"""What a pass costs, in FLOPs."""

from __future__ import annotations

from torch import nn

from unspoken.model.denoiser import Denoiser


def matmul_weights(model: Denoiser) -> int:
    """Weights of the trunk's body that multiply every entry: its matrices, embeddings and output head apart."""
    body = model.trunk.base_model
    embeddings = {id(m.weight) for m in body.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in body.parameters() if p.dim() >= 2 and id(p) not in embeddings)


def pass_flops(model: Denoiser, entries: int, heads: int, cached: int = 0) -> int:
    """FLOPs of one row of a pass: matrices and attention over `entries`, the output head at `heads` of them.

    cached: entries that are looked at and not computed.

    Two for a multiplication and its addition; norms, activations and softmax, which are linear in the entries and
    small beside the matrices, are left out.
    """
    config = model.trunk.config
    width = config.hidden_size
    per_head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * per_head * entries * (cached + entries)
    return 2 * matmul_weights(model) * entries + attention + 2 * width * model.vocab_size * heads
