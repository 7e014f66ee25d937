"""`unspoken complete` and `unspoken chat`: what they print is what `us.generate` gives, by their options."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from small import made
from test_generate import tokenizer

import unspoken as us
from unspoken import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with a tokenizer."""
    torch.manual_seed(3)
    words: Any = tokenizer()
    trunk = made("llama", vocab_size=len(words) + 1)
    for weight in trunk.parameters():
        weight.data *= 4
    model = us.Denoiser(trunk, us.CACHED_JOINT, len(words))
    model.tokenizer = words
    folder = tmp_path_factory.mktemp("m") / "model"
    model.save_pretrained(folder)
    return folder


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int | str | None, str, str]:
    capsys.readouterr()
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("latents", [None, 2])
def test_complete_prints_prompt_and_continuation(
    folder: Path, latents: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = us.load(folder)
    asked: dict[str, Any] = {} if latents is None else {"latents": latents}
    for drawn in ({}, {"temperature": 1.0, "top_p": 0.9}):
        options = asked | drawn
        flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        written = us.generate(model, "the cat", max_new_tokens=6, seed=4, **options)
        code, out, _ = call(
            capsys, "complete", folder, "--prompt", "the cat", "--max-new-tokens", 6, "--seed", 4, *flags
        )
        assert code == 0 and out == f"the cat{written}\n"


def test_complete_fills_gaps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "the <fill 2> sat"
    code, out, _ = call(capsys, "complete", folder, "--prompt", text, "--latents", 3)
    assert code == 0 and out == us.generate(us.load(folder), text, latents=3) + "\n"


def test_a_chat_is_a_line_a_message(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer knows the first message and its answer; an empty line ends the talk, and so does the end."""
    model, options = us.load(folder), {"max_new_tokens": 5}
    one = [{"role": "user", "content": "a dog"}]
    first = us.generate(model, one, **options)
    two = [*one, {"role": "assistant", "content": first}, {"role": "user", "content": "the mat"}]
    second = us.generate(model, two, **options)
    for lines, said in (("a dog\nthe mat\n", [first, second]), ("a dog\n\nthe mat\n", [first]), ("", [])):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        code, out, _ = call(capsys, "chat", folder, "--max-new-tokens", 5)
        assert code == 0 and out == "".join(f"{text}\n" for text in said)


def test_what_can_not_be_said_ends_in_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    model = us.load(folder)
    assert model.tokenizer is not None
    model.tokenizer.chat_template = None
    model.save_pretrained(tmp_path / "plain")
    model.tokenizer = None
    model.save_pretrained(tmp_path / "bare")
    for words, message in (
        (["complete", "/no/run", "--prompt", "a"], "there is no /no/run"),
        (["complete", folder], "--prompt"),
        (["complete", folder, "--prompt", ""], "an empty prompt"),
        (["complete", folder, "--prompt", "a", "--max-new-tokens", 99], "knows 64"),
        (["complete", folder, "--prompt", "a", "--top-p", 0.5, "--max-new-tokens", 4], "temperature"),
        (["complete", tmp_path / "bare", "--prompt", "a"], "needs the model's tokenizer"),
        (["chat", tmp_path / "plain"], "has no chat template"),
    ):
        code, out, err = call(capsys, *words)
        assert code == 2 and not out and message in " ".join(err.split())
