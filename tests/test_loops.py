"""A trunk that loops: the same layers several times, the input given to every loop (float64).

Laws: one loop is the plain trunk to the last bit; n loops are the layers called by hand; the weights are those of one
loop, saved once, and the gradient sums over the loops; every law of a trunk holds, the cache's too; n loops cost what
n times the layers cost.
"""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from laws import LAWS, some_layout
from safetensors.torch import load_file
from small import MASK as LAST
from small import float64, made
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toy import EXACT, TRUNK, Spy, ragged_clean, seeded, tiny
from transformers import AutoModelForCausalLM

from unspoken.decoders.autoregressive import next_tokens
from unspoken.decoders.decode import decode
from unspoken.layout.attention import ANY_ORDER, ATTENTIONS, CACHED_JOINT, SCDM
from unspoken.layout.entries import Layout, one_block, random_order
from unspoken.measure.costs import pass_flops
from unspoken.measure.relation import looks
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Denoiser
from unspoken.tasks import Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loading import load
from unspoken.training.loop import train, training
from unspoken.training.models import new_denoiser
from unspoken.training.run import Run

MASK = 6
BY_HAND: dict[str, Any] = {"rtol": 0.0, "atol": 1e-12}
TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(TASK, trunk=replace(TRUNK, loops=2), steps=6, batch=8, accumulate=2, lr=1e-2, save=3, log=1, validate=3)


def a_layout() -> Layout:
    """Of ragged prompts, in random order, some masked."""
    x0, given = ragged_clean()
    unsaid = ~given & (torch.rand(x0.shape, generator=seeded(2)) < 0.6)
    return random_order(torch.where(unsaid, MASK, x0), unsaid, given, seeded())


def by_hand(model: Denoiser, layout: Layout, loops: int) -> Tensor:
    """The last states, layer by layer."""
    inner: Any = model.trunk.base_model
    embedded, mask = model.embed(layout), layout.mask(model.attention)
    rotary = inner.rotary_emb(embedded, position_ids=layout.position)
    states = torch.zeros_like(embedded)
    for _ in range(loops):
        hidden = embedded + states
        for layer in inner.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=layout.position)
        states = inner.norm(hidden)
    return states


# --- what is computed


def test_one_loop_is_the_plain_trunk_to_the_last_bit() -> None:
    model, layout = tiny(SCDM, positions=7, loops=1), a_layout()
    plain = model.trunk.base_model(
        inputs_embeds=model.embed(layout),
        position_ids=layout.position,
        attention_mask=layout.mask(SCDM),
        use_cache=False,
    ).last_hidden_state
    states = model.states(layout)
    assert torch.equal(states, plain)
    weights = list(model.parameters())
    mine, its = (torch.autograd.grad(s.square().sum(), weights, allow_unused=True) for s in (states, plain))
    pairs = [(a, b) for a, b in zip(mine, its, strict=True) if a is not None and b is not None]
    assert len(pairs) == len(weights) - 1  # all but the output head
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("rule", ATTENTIONS)
@torch.no_grad()
def test_loops_are_the_layers_called_by_hand(rule: str) -> None:
    model, layout = tiny(ATTENTIONS[rule], positions=7, loops=3), a_layout()
    states = model.states(layout)
    assert torch.allclose(states, by_hand(model, layout, 3), **BY_HAND)
    assert not torch.allclose(states, by_hand(model, layout, 2), rtol=0, atol=1e-3)


WEIGHTS = ("wte.weight", "h.0.mlp.c_fc.weight", "ln_f.weight")  # the input's, a layer's, the last norm's


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_gradient_of_a_shared_weight_is_the_difference_quotient(name: str) -> None:
    """Of a trunk that is float64 throughout; Llama's norms are float32."""
    with float64():
        model = Denoiser(made("gpt2"), SCDM, LAST, loops=3)
    layout, step = some_layout(model), 1e-5
    weight = model.get_parameter(f"trunk.transformer.{name}")
    seen = torch.randn(*layout.shape, 32, generator=seeded(3), dtype=torch.float64)

    def loss() -> Tensor:
        return (model.states(layout) * seen).sum()

    (gradient,) = torch.autograd.grad(loss(), [weight])
    at = int(gradient.abs().argmax())
    with torch.no_grad():
        flat = weight.view(-1)
        flat[at] += step
        above = loss()
        flat[at] -= 2 * step
        below = loss()
    assert float(gradient.view(-1)[at]) == pytest.approx(float(above - below) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "opt"])
@torch.no_grad()
def test_every_law_of_a_trunk_holds_with_loops(family: str) -> None:
    """But that of the head: the trunk's own logits are those of one loop."""
    with float64(), torch.random.fork_rng():
        model = Denoiser(made(family), ANY_ORDER, LAST, loops=2)
        layout = some_layout(model)
        states = model.states(layout)
        broken = {name: law(model, layout, states) for name, law in LAWS.items() if name != "head"}
    assert max(broken.values()) < 1e-6, broken


@torch.no_grad()
def test_who_looks_at_whom_is_the_mean_over_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    model, layout = tiny(SCDM, positions=7), a_layout()
    first, read = looks(model, layout), model.embed(layout) + model.states(layout)
    with monkeypatch.context() as patch:
        patch.setattr(model, "embed", lambda _: read)
        second = looks(model, layout)
    assert not torch.allclose(first, second, rtol=0, atol=1e-3)
    twice = tiny(SCDM, positions=7, loops=2)
    assert torch.allclose(looks(twice, layout), (first + second) / 2, rtol=0, atol=1e-6)


# --- the cache


WAYS: dict[str, Any] = {
    "confidence": lambda model, tokens, cache: decode(model, tokens, latents=2, commit=2, cache=cache),
    "left to right": lambda model, tokens, cache: decode(
        model, tokens, latents=1, order="left_to_right", latent_policy="next", cache=cache
    ),
    "next token": lambda model, tokens, cache: next_tokens(model, tokens, cache=cache),
}


@pytest.mark.parametrize("loops", [2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_cached_is_recomputed(way: str, loops: int) -> None:
    spy = Spy(tiny(CACHED_JOINT, positions=7, loops=loops))
    x0, given = ragged_clean((6, 5, 3, 1))
    tokens = torch.where(given, x0, MASK)
    cached, anew = (list(WAYS[way](spy, tokens, cache)) for cache in (True, False))
    assert len(cached) == len(anew) > 1 and cached[-1].cached > anew[-1].cached == 0
    for a, b in zip(cached, anew, strict=True):
        assert torch.equal(a.tokens, b.tokens) and torch.allclose(a.confidence, b.confidence, **EXACT)


@torch.no_grad()
def test_each_loop_has_keys_of_its_own() -> None:
    model, layout = tiny(CACHED_JOINT, positions=7, loops=3), a_layout()
    cache = model.new_cache()
    assert cache is not None
    model(layout, cache=cache)
    cache.keep(layout, 7)
    assert len(cache.layers) == 3 * 2 and len({float(layer.keys.sum()) for layer in cache.layers}) == 6
    assert [len(cache.take(torch.arange(2)).of(3)), len(cache)] == [3, 7]
    with pytest.raises(ValueError, match=r"made for 1 loops, and the model has 3: take model\.new_cache"):
        model(layout, cache=Cache())


# --- weights, folders, costs


def test_loops_add_no_weights() -> None:
    """The same weights from the same seed, and as many as the trunk says before it is made."""
    plain, looped = (new_denoiser(replace(CONFIG, trunk=replace(TRUNK, loops=n))) for n in (1, 4))
    assert (plain.loops, looped.loops) == (1, 4)
    a, b = plain.state_dict(), looped.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    number = replace(TRUNK, loops=4).parameters(TASK.vocab_size, TASK.length)
    assert number == sum(p.numel() for p in looped.parameters())


@torch.no_grad()
def test_a_saved_model_loops_again_and_its_file_holds_each_weight_once(tmp_path: Path) -> None:
    model, layout = tiny(SCDM, positions=7, loops=3), a_layout()
    model.save_pretrained(tmp_path)
    again = Denoiser.from_pretrained(tmp_path)
    assert again.loops == 3 and torch.equal(again(layout), model(layout))
    held = load_file(tmp_path / "model.safetensors")
    assert held.keys() == dict(model.trunk.named_parameters()).keys()
    once = Denoiser.from_pretrained(tmp_path, loops=1)
    assert once.loops == 1 and torch.allclose(once.states(layout), by_hand(model, layout, 1), **BY_HAND)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.num_hidden_layers == 2


def test_a_folder_of_before_there_were_loops_has_one(tmp_path: Path) -> None:
    tiny(SCDM).save_pretrained(tmp_path)
    record = json.loads((tmp_path / "unspoken.json").read_text())
    assert record.pop("loops") == 1
    (tmp_path / "unspoken.json").write_text(json.dumps(record))
    assert Denoiser.from_pretrained(tmp_path).loops == 1


def test_a_checkpoint_keeps_its_loops_unless_more_are_asked_for(tmp_path: Path) -> None:
    for loops in (1, 2):
        start = replace(CONFIG, trunk=replace(TRUNK, loops=loops))
        new_denoiser(start).save_pretrained(tmp_path / str(loops))
    asked = [("1", 1, 1), ("1", 3, 3), ("2", 1, 2), ("2", 3, 3)]
    for folder, loops, expected in asked:
        trunk = Trunk(checkpoint=str(tmp_path / folder), loops=loops)
        assert new_denoiser(replace(CONFIG, trunk=trunk)).loops == expected


def test_a_run_that_is_gone_on_with_is_the_whole_run(tmp_path: Path) -> None:
    model = train(CONFIG, tmp_path / "whole")
    list(islice(training(CONFIG, tmp_path / "parts"), 4))  # past the checkpoint of step 3
    again = train(CONFIG, tmp_path / "parts")
    a, b = model.state_dict(), again.state_dict()
    assert model.loops == again.loops == load(tmp_path / "parts").loops == 2
    assert all(torch.equal(a[name], b[name]) for name in a)
    curves = [[m["loss"] for m in Run(tmp_path / name).metrics()] for name in ("whole", "parts")]
    assert curves[0] == curves[1] and len(curves[0]) == 6


@pytest.mark.parametrize("cached", [0, 5])
@torch.no_grad()
def test_flops_are_those_of_so_many_times_the_layers(cached: int) -> None:
    """As torch counts them."""
    sized = [Trunk(2, 16, 2, loops=3), Trunk(6, 16, 2), Trunk(2, 16, 2)]
    looped, deep, plain = (new_denoiser(replace(CONFIG, attention=CACHED_JOINT, trunk=t)).eval() for t in sized)
    tokens = torch.zeros(2, cached + 4, dtype=torch.int64)
    layout = one_block(tokens, torch.arange(cached + 4).expand(2, -1) >= cached, tokens)
    first, second = layout.select_where(layout.said), layout.select_where(layout.unsaid)
    cache = looped.new_cache()
    assert cache is not None
    with sdpa_kernel(SDPBackend.MATH):
        if cached:
            looped(first, cache=cache)
            cache.keep(first, cached)
        with FlopCounterMode(display=False) as counter:
            looped(second, torch.tensor([[0, 2]] * 2), cache)
    flops = pass_flops(looped, 4, 2, cached)
    assert counter.get_total_flops() == 2 * flops and flops == pass_flops(deep, 4, 2, cached)
    assert pass_flops(looped, 4, 0, cached) == 3 * pass_flops(plain, 4, 0, cached)


# --- what is refused


@pytest.mark.parametrize("loops", [0, -1, 1.5, True, "2"])
def test_what_is_no_number_of_loops_is_refused(tmp_path: Path, loops: Any) -> None:
    with pytest.raises(ValueError, match=r"loops=.*whole numbers of 1 or more"):
        replace(TRUNK, loops=loops)
    with pytest.raises(ValueError, match=r"loops=.*whole numbers of 1 or more"):
        tiny(SCDM, loops=loops)
    tiny(SCDM).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"loops=.*whole numbers of 1 or more"):
        Denoiser.from_pretrained(tmp_path, loops=loops)


def test_a_trunk_that_reads_another_width_than_it_gives_is_refused() -> None:
    trunk = tiny(SCDM).trunk
    trunk.set_input_embeddings(nn.Embedding(7, 8))
    with pytest.raises(ValueError, match="have width 16 and its input has 8, so they can not be added; take loops=1"):
        Denoiser(trunk, SCDM, MASK, loops=2)
