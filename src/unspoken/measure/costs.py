"""What a pass costs, in FLOPs."""

from __future__ import annotations

from torch import nn

from unspoken.model.denoiser import Denoiser
from unspoken.training.config import Train
from unspoken.training.loop import packed_batch
from unspoken.training.models import new_denoiser
from unspoken.training.seeds import seeded


def matmul_weights(model: Denoiser) -> int:
    """Weights of the trunk's body that multiply every entry, once a loop: matrices, without embeddings and the head."""
    body = model.trunk.base_model
    embeddings = {id(m.weight) for m in body.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in body.parameters() if p.dim() >= 2 and id(p) not in embeddings)


def pass_flops(model: Denoiser, entries: int, heads: int, cached: int = 0) -> int:
    """FLOPs of one row of a pass: matrices and attention over `entries`, the output head at `heads` of them.

    cached: entries that are looked at and not computed.

    A loop of the trunk costs as much as the first, and the head is read once. A model that carries states maps that of
    every entry, in each pass but the first of a decoding or of a training step, which is counted alike.
    Two for a multiplication and its addition; norms, activations and softmax, which are linear in the entries and
    small beside the matrices, are left out.
    """
    config = model.trunk.config
    width = config.hidden_size
    per_head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * per_head * entries * (cached + entries)
    once = 2 * matmul_weights(model) * entries + attention
    carried = 0 if model.carried is None else 2 * width**2 * entries
    return model.loops * once + carried + 2 * width * model.vocab_size * heads


def training_flops(config: Train) -> float:
    """FLOPs of a training run: three times the forward passes of its steps, as wide as a few drawn batches are."""
    model, batches = new_denoiser(config), 4
    total = 0
    for step in range(batches):
        generator = seeded("costs", step)
        examples = config.task.sample("train", config.batch, generator)
        packed = packed_batch(config, model, examples, generator, step / batches)
        for each in packed.passes:
            total += pass_flops(model, each.layout.shape[1], sum(q.at.shape[1] for q in each.questions))
    return 3.0 * config.steps * config.batch * total / batches
