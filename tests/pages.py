"""The README and the pages of docs as tests read them: Python, commands, links, and what running them needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config
from words import SIZE, tokenizer

import unspoken as us
from unspoken.cli import solve
from unspoken.cli.commands import parse
from unspoken.decoders.decode import Decoders, read_decoder
from unspoken.presets.tasks import TRAIN
from unspoken.training.config import Train

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
RUNNABLE = ("sudoku_4x4", "chain_gidd", "bouncing", "digits")  # presets that a page may train: each costs time


def blocks(page: Path) -> list[str]:
    """The Python of a page, a block each."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words of every `unspoken ...` line of a page's blocks, without comments."""
    lines = page.read_text().replace("\\\n", "").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("unspoken ")]


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures that are not on the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [link for link in found if not link.startswith(("http://", "https://"))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a block in a folder that holds a tiny Hugging Face model with a tokenizer; presets train for four steps."""
    monkeypatch.chdir(folder)
    for name in RUNNABLE:
        monkeypatch.setattr(us.presets, name, _short(getattr(us.presets, name)))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=SIZE,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        bos_token_id=1,
        eos_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained("any-hf-decoder")
    tokenizer().save_pretrained("any-hf-decoder")
    exec(code, {"__name__": "__main__"})


def _short(preset: Callable[[], Train]) -> Callable[[], Train]:
    config = replace(preset(), steps=4, batch=16, save=4, validate=4)
    return lambda: config


def check_commands(page: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Parses every command of a page; the options of `solve` are those of the run that it names. How many there are."""

    def of_preset(run: Path) -> Decoders:
        train = TRAIN[run.parts[1]]()  # runs/PRESET/...
        return read_decoder(train.objective.decoder(train.process))

    monkeypatch.setattr(solve, "decoder_of_run", of_preset)
    monkeypatch.setattr(solve.Run, "config", lambda run, hint: TRAIN[run.folder.parts[1]]())
    for words in commands(page):
        assert callable(parse(words))
    return len(commands(page))
