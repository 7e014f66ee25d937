"""Adapters of `peft` on a trunk: trained, decoded with, saved alone, loaded and merged (float64, 1e-9)."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import float64, made
from torch import Tensor
from transformers import PreTrainedModel

import unspoken as us
from unspoken.layout.entries import one_block

peft = pytest.importorskip("peft")

RULES = [us.CACHED_JOINT, us.SCDM]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made("llama").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def loaded(folder: Path, rule: us.Attention = us.CACHED_JOINT, **options: Any) -> us.Denoiser:
    with float64():
        return us.Denoiser.from_pretrained(folder, attention=rule, dtype=torch.float64, **options)


LORA: dict[str, Callable[[us.Denoiser], Any]] = {
    "linear": lambda model: peft.LoraConfig(r=2, target_modules="all-linear"),
    "causal": lambda model: peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"),
    "mask": lambda model: peft.LoraConfig(
        r=2, target_modules="all-linear", trainable_token_indices=[model.mask_id], task_type="CAUSAL_LM"
    ),
    "embedding": lambda model: peft.LoraConfig(r=2, target_modules=["embed_tokens", "lm_head", "v_proj"]),
    "whole": lambda model: peft.LoraConfig(r=2, target_modules=["v_proj"], modules_to_save=["embed_tokens"]),
}


def trained(model: us.Denoiser, kind: str) -> us.Denoiser:
    """With a LoRA whose weights are no longer those that it begins with."""
    torch.manual_seed(0)
    model.trunk = peft.get_peft_model(model.trunk, LORA[kind](model))
    objective = us.MaskedDiffusion()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    x0 = torch.randint(12, (4, 8), generator=torch.Generator().manual_seed(1))
    packed = objective.pack(us.Absorbing(), x0, torch.arange(8).expand(4, -1) < 2, model.mask_id, torch.Generator())
    losses = []
    for _ in range(3):
        loss = packed.reduce(us.packed_losses(model, packed))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    return model


def asked(model: us.Denoiser) -> Tensor:
    tokens = torch.tensor([[3, 4, model.mask_id, model.mask_id, 5]])
    order = torch.tensor([[0, 0, 0, 1, 0]])
    with torch.no_grad():
        logits = model(one_block(tokens, tokens == model.mask_id, order), torch.tensor([[2, 3]]))
    return logits[..., :13]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("kind", LORA)
def test_alone_loaded_and_merged_agree(folder: Path, tmp_path: Path, rule: us.Attention, kind: str) -> None:
    plain = asked(loaded(folder, rule))
    model = trained(loaded(folder, rule), kind)
    with_it = asked(model)
    assert not torch.allclose(with_it, plain, atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of missing weights
        model.save_pretrained(tmp_path / "alone")
        again = us.Denoiser.from_pretrained(tmp_path / "alone", dtype=torch.float64)
    assert not (tmp_path / "alone" / "model.safetensors").exists()
    assert (again.attention, again.mask_id, again.vocab_size) == (model.attention, model.mask_id, model.vocab_size)
    assert torch.allclose(asked(again), with_it, atol=1e-9)
    assert any(p.requires_grad for p in again.parameters()), "it may be trained on"
    tokens = torch.tensor([[3, 4, *[model.mask_id] * 4]])
    decoder = us.Slots(latents=2, order="left_to_right")
    steps = list(us.decode(again, tokens, decoder=decoder))
    merged: Any = again.trunk
    again.trunk = merged.merge_and_unload()
    assert torch.allclose(asked(again), with_it, atol=1e-9)
    assert torch.equal(list(us.decode(again, tokens, decoder=decoder))[-1].tokens, steps[-1].tokens)
    for name in ("merged", "alone"):  # over the adapter too
        again.save_pretrained(tmp_path / name)
        whole = us.Denoiser.from_pretrained(tmp_path / name, dtype=torch.float64)
        assert torch.allclose(asked(whole), with_it, atol=1e-9)


def test_an_adapter_for_another_trunk_is_refused(folder: Path, tmp_path: Path) -> None:
    trained(loaded(folder), "linear").save_pretrained(tmp_path / "alone")
    shutil.copytree(tmp_path / "alone", tmp_path / "kept")
    wide, deep, same = (tmp_path / name for name in ("wide", "deep", "same"))
    made("llama", intermediate_size=64).save_pretrained(wide)
    made("gpt2").save_pretrained(deep)
    other: PreTrainedModel = made("llama")
    torch.nn.init.normal_(next(other.parameters()))
    other.save_pretrained(same)
    for base in (wide, deep, same):
        with pytest.raises(ValueError, match=r"adapter in .* is of another trunk"):
            us.Denoiser.from_pretrained(tmp_path / "alone", base=base)
    (tmp_path / "alone" / "unspoken.json").unlink()  # as peft alone writes it
    for base in (wide, deep):
        with pytest.raises(ValueError, match="does not fit"):
            us.Denoiser.from_pretrained(tmp_path / "alone", base=base, attention=us.SCDM)
    bad: tuple[dict[str, Any], ...] = ({"mask_id": 3}, {"pad_to": 64})
    for given in bad:
        with pytest.raises(ValueError, match="leave both out"):
            us.Denoiser.from_pretrained(tmp_path / "kept", base=folder, **given)
    with pytest.raises(ValueError, match="leave base out"):
        loaded(folder, base=same)


def test_an_adapter_of_tokens_is_refused(folder: Path) -> None:
    model = loaded(folder)
    prefix = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    model.trunk = peft.get_peft_model(model.trunk, prefix)
    with pytest.raises(ValueError, match="PromptTuningConfig puts tokens of its own"):
        asked(model)


def test_an_adapter_of_a_trunk_in_no_folder_is_not_saved(tmp_path: Path) -> None:
    model = us.Denoiser(made("llama"), us.SCDM, 12)
    model.trunk = peft.get_peft_model(model.trunk, LORA["linear"](model))
    with pytest.raises(ValueError, match="this trunk is in no folder"):
        model.save_pretrained(tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_unspoken_train_trains_a_lora(folder: Path, tmp_path: Path) -> None:
    model = made("llama", vocab_size=7)
    model.save_pretrained(tmp_path / "small")
    us.Denoiser.from_pretrained(tmp_path / "small", attention=us.CACHED_JOINT, mask_id=6).save_pretrained(folder)
    task = us.tasks.Chain(states=6, length=5, validation=4)
    trunk = us.Trunk(checkpoint=str(folder), lora=2)
    config = us.Train(task, us.CACHED_JOINT, trunk, steps=2, batch=4, validate=2, save=1, lr=0.1)
    found = us.train(config, tmp_path / "run")
    again = us.train(replace(config, steps=2), tmp_path / "run")
    before = dict(us.Denoiser.from_pretrained(folder).trunk.named_parameters())
    changed = [name for name, p in found.trunk.named_parameters() if ("lora_B" in name and bool(p.any()))]
    assert changed
    for name, weight in found.trunk.named_parameters():
        if "lora" not in name and "token" not in name:
            plain = name.replace("base_model.model.", "").replace(".base_layer", "").replace(".original_module", "")
            assert torch.equal(weight, before[plain])
    assert torch.equal(*(next(iter(m.parameters())) for m in (found, again)))
    with pytest.raises(ValueError, match="lora=2 without a checkpoint"):
        us.Trunk(lora=2)
