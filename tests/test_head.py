"""A trunk's own head: what it does beside its output embedding is done, or the trunk is refused (float64)."""

import copy
from typing import Any, cast

import pytest
import torch
from families import EXACT
from laws import measured, some_layout
from small import MASK, float64, made, shrunk
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from unspoken.layout.attention import ANY_ORDER, SCDM
from unspoken.layout.packing import ask_masks
from unspoken.model.denoiser import Denoiser
from unspoken.model.trunks import logits_of, output_head
from unspoken.training.losses import packed_losses

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers says of its families

# What each does beside one linear map of its last states.
SCALED: dict[str, dict[str, Any]] = {
    "granite": {"logits_scaling": 8.0},
    "granitemoe": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.0625},
    "minicpm3": {"scale_emb": 12.0, "dim_model_base": 8},
    "nanochat": {"final_logit_softcapping": 2.0},
    "gemma3_text": {"final_logit_softcapping": 2.0},
    "bert": {},  # a dense layer before the head
}


@pytest.mark.parametrize("family", SCALED)
def test_scaled_and_capped_logits_are_the_trunks_own(family: str) -> None:
    """All laws, the head's among them; and the output embedding alone would be wrong."""
    with float64():
        model = Denoiser(made(family, **SCALED[family]), ANY_ORDER, MASK)
    assert max(measured(model).values()) <= EXACT
    with torch.no_grad():
        layout = some_layout(model)
        linear, ours = output_head(model.trunk)(model.states(layout)), model(layout)
    assert (linear - ours)[..., :MASK].abs().max() > 1e-2


def test_eager_attention_is_for_caps_that_sdpa_has_not() -> None:
    """Gemma 2 caps its attention scores, and its logits."""
    with float64():
        trunk = made("gemma2", final_logit_softcapping=2.0)
        with pytest.raises(ValueError, match="or try kernel='eager'"):
            Denoiser(trunk, ANY_ORDER, MASK)
        model = Denoiser(trunk, ANY_ORDER, MASK, kernel="eager")
    assert max(measured(model).values()) <= EXACT
    with torch.no_grad():
        layout = some_layout(model)
        linear, ours = output_head(model.trunk)(model.states(layout)), model(layout)
    assert (linear - ours)[..., :MASK].abs().max() > 1e-2


def test_losses_and_gradients_are_of_scaled_logits() -> None:
    """Eight times smaller logits by the config and by the weights: the same losses, and gradients."""
    config = {"granite": 8.0, "plain": 1.0}
    with float64():
        scaled, plain = (Denoiser(made("granite", logits_scaling=s), SCDM, MASK) for s in config.values())
    plain.load_state_dict(scaled.state_dict())
    head: Any = output_head(plain.trunk)
    head.weight = torch.nn.Parameter(head.weight.detach() / 8)  # no longer the input's
    layout = some_layout(scaled)
    packed = ask_masks(layout, torch.zeros(3, 64, dtype=torch.int64))
    losses = [packed_losses(model, packed) for model in (scaled, plain)]
    assert torch.allclose(*losses, rtol=0, atol=1e-12)
    name = "trunk.model.layers.0.mlp.down_proj.weight"
    grads = [
        torch.autograd.grad(packed.reduce(loss), model.get_parameter(name))[0]
        for loss, model in zip(losses, (scaled, plain), strict=True)
    ]
    assert grads[0].abs().max() > 1e-6 and torch.allclose(*grads, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_head_follows_its_trunk() -> None:
    """Nothing of it is kept: not in a copy, and not where a part is replaced later; the trunk stays as it was."""
    with float64():
        model = Denoiser(made("granite", logits_scaling=8.0), SCDM, MASK)
    layout, parts = some_layout(model), dict(model.trunk.named_modules())
    before = model(layout)
    other = copy.deepcopy(model)
    next(output_head(other.trunk).parameters()).mul_(2)
    assert torch.equal(model(layout), before) and not torch.allclose(other(layout)[..., :MASK], before[..., :MASK])
    assert dict(model.trunk.named_modules()) == parts
    states = model.states(layout)
    model.trunk.config.logits_scaling = 4.0
    assert torch.allclose(logits_of(model.trunk, states)[..., :MASK], 2 * before[..., :MASK], rtol=0, atol=1e-12)


class Peeking(LlamaForCausalLM):
    """Logits that look at the input as well, or at the entries beside."""

    def forward(self, *args: Any, inputs_embeds: Tensor, **given: Any) -> Any:
        out: Any = super().forward(*args, inputs_embeds=inputs_embeds, **given)
        out.logits = out.logits + inputs_embeds.sum(-1, keepdim=True) * torch.arange(out.logits.shape[-1])
        return out


class Neighbouring(LlamaForCausalLM):
    """Logits that are centred over the entries of the pass."""

    def forward(self, *args: Any, **given: Any) -> Any:
        out: Any = super().forward(*args, **given)
        out.logits = out.logits - out.logits.mean(1, keepdim=True)
        return out


@pytest.mark.parametrize("kernel", ["sdpa", "eager", "flex"])
@pytest.mark.parametrize("family", [Peeking, Neighbouring])
def test_a_head_that_looks_elsewhere_is_refused(family: type[LlamaForCausalLM], kernel: Any) -> None:
    with float64():
        torch.manual_seed(0)
        trunk = family(cast(LlamaConfig, shrunk("llama"))).eval()
        with pytest.raises(ValueError, match=f"{family.__name__} computes its logits from more than the last states"):
            Denoiser(trunk, SCDM, MASK, kernel=kernel)
