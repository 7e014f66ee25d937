"""The mask of a pretrained model: which token it is, what its embedding begins with, and that nobody says it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small import float64, made
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

import unspoken as us
from unspoken.tasks.prompted import Prompted
from unspoken.training.loading import checkpoint_folder

WORDS = ["<end>", "<spare>", *(f"w{i}" for i in range(28))]  # 30 tokens

Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Saved]:
    """Makes the folder of a causal model of so many ids, and of a tokenizer of 30."""

    def save(vocab: int = 30, tokens: int = 30, tie: bool = False, tokenizer: bool = True) -> Path:
        folder = tmp_path / f"plain-{vocab}-{tie}"
        made("llama", vocab_size=vocab, tie_word_embeddings=tie).save_pretrained(folder)
        if tokenizer:
            words_of(tokens).save_pretrained(folder)
        return folder

    with float64():
        yield save


def words_of(tokens: int) -> PreTrainedTokenizerFast:
    vocab = {word: i for i, word in enumerate([*WORDS, *(f"x{i}" for i in range(tokens))][:tokens])}
    plain = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", additional_special_tokens=["<spare>"])


def loaded(folder: Path, **options: Any) -> us.Denoiser:
    given: dict[str, Any] = {"attention": us.CACHED_JOINT, "dtype": torch.float64} | options
    return us.Denoiser.from_pretrained(folder, **given)


def tables(trunk: PreTrainedModel) -> list[torch.Tensor]:
    parts: list[Any] = [trunk.get_input_embeddings(), trunk.get_output_embeddings()]
    return [part.weight.detach() for part in parts]


@pytest.mark.parametrize("tie", [True, False])
def test_a_new_mask_begins_with_the_mean(saved: Saved, tie: bool) -> None:
    folder = saved(tie=tie)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = torch.get_rng_state()
        model, again = loaded(folder), loaded(folder)
        assert torch.equal(torch.get_rng_state(), before)
    assert (model.mask_id, model.vocab_size, model.unused) == (30, 31, 0)
    for table, same, plain in zip(
        tables(model.trunk), tables(again.trunk), tables(AutoModelForCausalLM.from_pretrained(folder)), strict=True
    ):
        assert torch.equal(table, same)
        assert torch.equal(table[:30], plain.double())
        assert torch.allclose(table[30], plain.double().mean(0))
    assert model.tokenizer is not None
    assert model.tokenizer("w3 <|mask|> w4")["input_ids"] == [5, 30, 6]


@pytest.mark.parametrize(
    ("mask", "vocab", "pad_to", "expected"),
    [
        (None, 40, 1, (30, 40, 9)),  # within a padded vocabulary
        (None, 30, 16, (30, 32, 1)),
        ("<spare>", 30, 1, (1, 30, 0)),
        ("<spare>", 40, 64, (1, 64, 34)),
        ("<blank>", 30, 64, (30, 64, 33)),
        (7, 30, 1, (7, 30, 0)),
        (7, 30, 8, (7, 32, 2)),
    ],
)
def test_masks_of_every_kind(
    saved: Saved, mask: Any, vocab: int, pad_to: int, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    folder = saved(vocab)
    plain = tables(AutoModelForCausalLM.from_pretrained(folder))[0].double()
    model = loaded(folder, mask_id=mask, pad_to=pad_to)
    model.save_pretrained(tmp_path / "ours")
    for its in (model, us.Denoiser.from_pretrained(tmp_path / "ours", dtype=torch.float64)):
        assert (its.mask_id, its.vocab_size, its.unused) == expected
        assert its.tokenizer is not None
        kept = [i for i in range(vocab) if i != its.mask_id or mask in ("<spare>", 7)]
        table = tables(its.trunk)[0]
        assert torch.equal(table[kept], plain[kept]), "of a known token nothing is changed"
        if mask not in ("<spare>", 7):
            assert torch.allclose(table[its.mask_id], plain[:30].mean(0))
            assert its.tokenizer.convert_ids_to_tokens(its.mask_id) == (mask or "<|mask|>")


def test_nobody_says_the_mask_or_what_is_unused(saved: Saved, tmp_path: Path) -> None:
    folder = saved(40)
    model = loaded(folder, pad_to=16)
    with torch.no_grad():  # what is never said would be said always
        tables(model.trunk)[1][30:] *= 100
    tokens = torch.tensor([[3, 4, 30, 30]])
    logits = model(us.one_block(tokens, tokens == 30, torch.tensor([[0, 0, 0, 1]])), torch.tensor([[2, 3]]))
    assert bool((logits[..., 30:] == -torch.inf).all()) and bool(logits[..., :30].isfinite().all())
    model.save_pretrained(tmp_path / "ours")
    trunk: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float64)
    assert trunk.config.mask_token_id == 30
    ids = torch.arange(3, 29)[:, None]
    assert bool((trunk(ids).logits.argmax(-1) >= 30).any()), "the test could fail"
    said = trunk.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert int(said.max()) < 30
    assert torch.equal(said, model.generate(ids, max_new_tokens=5, eos_token_id=()))
    assert AutoTokenizer.from_pretrained(tmp_path / "ours").convert_tokens_to_ids("<|mask|>") == 30


def test_without_a_tokenizer_an_id_is_added(saved: Saved) -> None:
    folder = saved(tokenizer=False)
    assert loaded(folder).mask_id == 30
    assert loaded(folder).tokenizer is None
    given = loaded(folder, tokenizer=words_of(30))
    assert given.tokenizer is not None and given.tokenizer.convert_tokens_to_ids("<|mask|>") == given.mask_id == 30
    with pytest.raises(ValueError, match="the model has no tokenizer"):
        loaded(folder, mask_id="<|mask|>")


def run_of(folder: Path, data: Path, checkpoint: str, **options: Any) -> us.Train:
    task = Prompted(str(folder), str(data), length=12, validation=0.3, test=0, **options)
    trunk = us.Trunk(layers=1, width=16, heads=2, learned_positions=False, checkpoint=checkpoint)
    steps: dict[str, Any] = {"steps": 2, "batch": 2, "validate": 2, "save": 1}
    return us.Train(task, us.CACHED_JOINT, trunk, objective=us.MultiToken(window=2, prefixes=2), **steps)


@pytest.mark.parametrize("start", [True, False], ids=["checkpoint", "scratch"])
@pytest.mark.parametrize("mask", ["", "<spare>"])
def test_text_is_trained_with_the_tokenizer(
    saved: Saved, start: bool, mask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, data = saved(), tmp_path / "data.jsonl"
    record = '{"prompt": "w1 w%d", "response": "w2 w3 w%d"}\n'
    data.write_text("".join(record % (i, i) for i in range(4, 20)))
    config = run_of(folder, data, str(folder) if start else "", mask=mask)
    model = us.train(config, tmp_path / "run")
    assert model.mask_id == config.task.mask_id == (1 if mask else 30)
    assert model.tokenizer is not None
    assert model.tokenizer.convert_tokens_to_ids(mask or "<|mask|>") == model.mask_id
    assert us.generate(model, "w1 w2", max_new_tokens=3)
    last = checkpoint_folder(tmp_path / "run")
    again = run_of(Path(last), data, str(last), mask=mask)
    assert again.task.mask_id == model.mask_id, "its tokenizer has the mask"
    assert us.train(again, tmp_path / "more").mask_id == model.mask_id
    words_of(29).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="is another than that of"):
        us.train(run_of(tmp_path / "other", data, str(folder)), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_tokenizer_of_another_vocabulary_is_refused(saved: Saved) -> None:
    with pytest.raises(ValueError, match=r"40 tokens, and the model 30.*another model"):
        loaded(saved(tokens=40))
    with pytest.raises(ValueError, match=r"pad_to.*0"):
        loaded(saved(), pad_to=0)
    with pytest.raises(ValueError, match="mask_id=''"):
        loaded(saved(), mask_id="")
