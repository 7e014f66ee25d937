"""Laws of the text task: any byte can be written, splits share none, a held-out text is measured once and whole."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unspoken.record import from_record, to_record
from unspoken.tasks.base import Task
from unspoken.tasks.splits import SPLITS
from unspoken.tasks.store import cache_dir
from unspoken.tasks.text import Text
from unspoken.tasks.text.books import book_file, collect, load, names, parts, read_book, table
from unspoken.tasks.text.vocabulary import piece_vocabulary
from unspoken.tasks.text.windows import cut, duplicates, hashes, part

BYTES = Text(length=64)
PIECES = Text(length=32, unit="bpe", pieces=400)
TASKS = [BYTES, PIECES]


def whole(task, split):
    return task.sample(split, task.size(split))


def said(task, examples):
    return int((task.bytes_in(examples.x0) - task.bytes_in(examples.prompt(task.mask_id))).sum())


@pytest.mark.parametrize("task", [*TASKS, replace(BYTES, mode="prefix"), replace(PIECES, mode="infill")])
def test_it_is_a_task(task):
    contract: Task = task
    assert contract.vocab_size == contract.mask_id + 1 == (257 if task.unit == "byte" else 401)
    assert from_record(Text, json.loads(json.dumps(to_record(task)))) == task
    for split in SPLITS:
        examples = whole(task, split)
        assert examples.x0.shape == examples.given.shape == (task.size(split), task.length)
        assert examples.x0.dtype == torch.int64 and examples.given.dtype == torch.bool
        assert examples.x0.min() >= 0 and examples.x0.max() < task.mask_id  # a mask is never among the clean
        assert (~examples.given).any(1).all()
        assert task.score(examples.prompt(task.mask_id), examples.x0).all()


def test_the_excerpt_is_what_its_checksum_says():
    book = load("excerpt")
    assert {"bytes": len(book.text), "sha256": book.sha256} == table()["excerpt"]
    assert b"It is a truth universally acknowledged" in book.text[:200]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=64))
def test_any_bytes_are_shown_and_read_back(text):
    tokens = torch.tensor([*text, *[BYTES.mask_id] * (64 - len(text))])
    line = BYTES.show(tokens)
    assert torch.equal(BYTES.encode(line), tokens) and len(line.splitlines()) <= 1
    assert BYTES.bytes_in(tokens[None]).item() == len(text)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=8), st.binary(max_size=3), st.text(max_size=4))
def test_pieces_say_any_text(a, b, c):
    text = a.encode() + b + c.encode()
    vocabulary = PIECES._vocabulary
    tokens = vocabulary.cut(text).tolist()
    assert b"".join(vocabulary.pieces[token] for token in tokens) == text
    if len(tokens) <= PIECES.length:
        row = torch.tensor([*tokens, *[PIECES.mask_id] * (PIECES.length - len(tokens))])
        again = PIECES.encode(PIECES.show(row))
        assert PIECES.show(again).rstrip("□") == PIECES.show(row).rstrip("□")
        assert PIECES.bytes_in(again[None]).item() == len(text)


def test_blanks_are_written_as_a_box_and_typed_with_a_backslash():
    tokens = BYTES.encode("a\\_\\_b\\nc\\\\\\x00é\n")
    assert tokens[:12].tolist() == [97, 256, 256, 98, 10, 99, 92, 0, 0xC3, 0xA9, 10, 256]
    assert BYTES.show(tokens) == "a□□b\\nc\\\\\\x00é\\n" + "□" * 53
    assert [BYTES.symbol(token) for token in (97, 10, 0, 233, 256)] == ["a", "↵", "\\x00", "\\xe9", "□"]
    assert BYTES.show(torch.tensor([*"□".encode(), *[256] * 61])).startswith("\\xe2\\x96\\xa1□")
    assert (BYTES.encode("") == BYTES.mask_id).all()
    assert [Text().gap(i) for i in (62, 63, 127)] == ["", "\n", ""]


@pytest.mark.parametrize("task", TASKS)
def test_splits_are_the_text_in_order_and_share_nothing(task):
    text = load("excerpt").text
    three = cut(text, (90, 5, 5))
    assert b"".join(three) == text
    for split, share in zip(SPLITS, three, strict=True):
        examples, its = whole(task, split), task._parts[split]
        fresh = examples.x0[~examples.given].tolist()
        assert b"".join(task._vocabulary.pieces[token] for token in fresh) == share  # in order, and each byte once
        assert (
            its.tokens[its.starts.max() : its.starts.max() + task.length].tolist()
            == its.tokens[-task.length :].tolist()
        )
    windows = [{tuple(x) for x in whole(task, split).x0.tolist()} for split in SPLITS]
    assert not windows[0] & windows[2] and not windows[0] & windows[1] and not windows[1] & windows[2]


@pytest.mark.parametrize("task", [*TASKS, replace(BYTES, length=57), replace(BYTES, length=9575)])
def test_bits_per_byte_are_over_the_whole_held_out_text(task):
    held_out = cut(load("excerpt").text, (90, 5, 5))[2]
    examples = whole(task, "test")
    assert said(task, examples) == len(held_out) == task.describe()["splits"]["test"]["bytes"]
    # A model that knows nothing says each byte in 8 bits.
    nats = (~examples.given).sum() * math.log(256)
    if task.unit == "byte":
        assert nats / math.log(2) / said(task, examples) == pytest.approx(8)


def test_modes_give_what_they_say():
    for share, ends in ((0.25, 16), (0.001, 1), (0.999, 63)):
        given = replace(BYTES, mode="prefix", share=share).sample("train", 9, torch.Generator().manual_seed(0)).given
        assert (given == (torch.arange(64) < ends)).all()
    for share, ends in ((0.25, 16), (0.001, 2), (0.999, 63)):
        task = replace(BYTES, mode="infill", share=share)
        fixed = [whole(task, split) for split in SPLITS]
        for examples in [*fixed, task.sample("train", 500, torch.Generator().manual_seed(0))]:
            given = examples.given
            assert (given.sum(1) == ends).all() and given[:, 0].all() and given[:, -1].all()
            assert ((given[:, 1:] != given[:, :-1]).sum(1) == 2).all()  # one gap
            places = len(given.unique(dim=0))
            assert places == ends - 1 if len(given) >= 500 else 1 <= places <= ends - 1
    task = replace(BYTES, mode="infill")
    assert not torch.equal(whole(task, "test").given, whole(replace(task, seed=1), "test").given)
    assert not whole(BYTES, "test").given[:-1].any()


@pytest.mark.parametrize("task", [*TASKS, replace(BYTES, mode="infill"), replace(PIECES, mode="prefix")])
@pytest.mark.parametrize("split", SPLITS)
def test_samples_depend_on_the_generators_state_alone(task, split):
    generator = torch.Generator().manual_seed(5)
    state = generator.get_state()
    first = task.sample(split, 10, generator)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    second = task.sample(split, 10, torch.Generator().set_state(state))
    assert torch.equal(first.x0, second.x0) and torch.equal(first.given, second.given)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first.x0, task.sample(split, 10, generator).x0)
    if split != "train":
        every = whole(task, split)
        rows = {(*x, *g) for x, g in zip(every.x0.tolist(), every.given.tolist(), strict=True)}
        assert {(*x, *g) for x, g in zip(first.x0.tolist(), first.given.tolist(), strict=True)} <= rows
    task.sample(split, 3).x0.zero_()
    assert torch.equal(task.sample(split, 3).x0, task.sample(split, 8).x0[:3]) and task.sample(split, 3).x0.any()


def test_score_says_that_an_answer_is_whole():
    task = replace(BYTES, mode="prefix")
    examples = task.sample("test", 20)
    prompt, other = examples.prompt(task.mask_id), examples.x0.roll(1, 1)
    assert task.score(prompt, torch.where(examples.given, examples.x0, other)).all()
    assert not task.score(prompt, prompt).any() and not task.score(prompt, torch.full_like(prompt, 0)).any()


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.txt"
    letters = "".join(chr(97 + i % 7) + chr(0x20AC + i) for i in range(700))
    file.write_bytes(b"\xef\xbb\xbf" + letters.encode().replace(b"c", b"\r\n"))
    text = letters.replace("c", "\n").encode()
    task = Text(length=50, path=str(file))
    assert b"".join(cut(text, (90, 5, 5))) == text and all(share.decode() for share in cut(text, (90, 5, 5)))
    assert sum(said(task, whole(task, split)) for split in SPLITS) == len(text)
    assert said(task, task.read(file)) == len(text)
    about = task.describe()
    assert about["source"] == str(file) and about["licence"] == "that of the file"
    assert about["books"]["mine.txt"]["bytes"] == len(text)
    assert replace(task, mode="prefix").describe()["splits"]["test"]["left_out"] == len(cut(text, (90, 5, 5))[2]) % 50
    for mode in ("prefix", "infill"):
        assert len(replace(task, mode=mode).read(file)) == len(text) // 50


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Three books that the table knows."""
    collect.cache_clear()
    parts.cache_clear()
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    known = {f"shakespeare-{k}": f"{k}: {'x' * i} and so on.\n" * 40 for i, k in enumerate(["lear", "john", "henry-v"])}
    rows = {name: {"bytes": len(text), "sha256": read(tmp_path, name, text).sha256} for name, text in known.items()}
    monkeypatch.setattr("unspoken.tasks.text.books.table", lambda: rows)
    for name, text in known.items():
        book_file(name).parent.mkdir(exist_ok=True)
        book_file(name).write_text(text)
    return known


def read(folder, name, text):
    (folder / name).write_text(text)
    return read_book(folder / name)


def test_a_book_can_be_held_out(shelf):
    assert names("shakespeare") == names("shakespeare-lear, shakespeare, shakespeare-john") == list(shelf)
    assert names("shakespeare-henry") == ["shakespeare-henry-v"]
    task = Text(length=20, books="shakespeare", held_out="shakespeare-john")
    assert said(task, whole(task, "test")) == len(shelf["shakespeare-john"])
    fresh = whole(task, "test")
    assert bytes(fresh.x0[~fresh.given].tolist()).decode() == shelf["shakespeare-john"]
    rest = [shelf["shakespeare-lear"], shelf["shakespeare-henry-v"]]
    assert sum(said(task, whole(task, split)) for split in ("train", "validation")) == sum(map(len, rest))
    random = task.sample("train", 300, torch.Generator().manual_seed(0)).x0.tolist()
    trained = [cut(text.encode(), (95, 5, 0))[0] for text in rest]
    assert all(any(bytes(row) in text for text in trained) for row in random)  # none spans two books
    assert {bytes(row) in trained[0] for row in random} == {True, False}
    with pytest.raises(ValueError, match="leaves no book to train on"):
        Text(books="shakespeare-john", held_out="shakespeare").size("train")


def test_the_excerpt_is_not_trained_on_beside_its_own_book(shelf, monkeypatch, tmp_path):
    (tmp_path / "excerpt.txt").write_text(shelf["shakespeare-lear"])
    monkeypatch.setattr("unspoken.tasks.text.books.HERE", tmp_path)
    monkeypatch.setattr("unspoken.tasks.text.books.EXCERPT_OF", "shakespeare-john")
    monkeypatch.setattr("unspoken.tasks.text.books.EXCERPT", "shakespeare-lear")
    beside = Text(books="shakespeare"), Text(books="shakespeare-lear", held_out="shakespeare-john")
    for task in beside:
        with pytest.raises(ValueError, match="is a part of shakespeare-john, and both are given"):
            task.size("train")


def test_a_book_that_is_missing_or_not_itself_says_what_to_run(shelf, monkeypatch):
    path = book_file("shakespeare-lear")
    assert path.parent == cache_dir() / "text"
    path.write_text("another")
    with pytest.raises(ValueError, match=r"7 bytes that are not the book shakespeare-lear.*tools/books.py shakespeare"):
        load("shakespeare-lear")
    path.unlink()
    with pytest.raises(ValueError, match=r"not there; run `python tools/books.py shakespeare`"):
        Text(books="shakespeare", length=21).size("train")


def test_duplicates_are_counted():
    rng = np.random.default_rng(0)
    train, other, length = rng.integers(256, size=1000), rng.integers(256, size=200), 16
    test = np.concatenate([train[5:53], other[:16], train[-16:], other[16:32]])
    train = np.concatenate([train[:16], train])
    width = np.ones(256, dtype=np.int64)
    made = [part([tokens.astype(np.int32)], length, width, True) for tokens in (train, other, test)]
    assert duplicates(made, length) == [1, 0, 6]
    starts = np.arange(len(train) - length + 1)
    _, by_hash = np.unique(hashes(train.astype(np.int32), length, starts), return_inverse=True)
    _, by_eye = np.unique(train[starts[:, None] + np.arange(length)], axis=0, return_inverse=True)
    assert (
        len(set(zip(by_hash.tolist(), by_eye.ravel().tolist(), strict=True))) == by_hash.max() + 1 == by_eye.max() + 1
    )


def test_pieces_that_are_not_whole_are_learned_again(tmp_path, monkeypatch):
    """Half a file, nothing, a letter that is another: what is learned is the same."""
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    texts = [b"the cat and the hat and the bat " * 20]
    first = piece_vocabulary(texts, 262).pieces
    (path,) = (tmp_path / "text").iterdir()
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", whole.replace(b"the", b"tha")):
        assert broken != whole
        path.write_bytes(broken)
        assert piece_vocabulary(texts, 262).pieces == first and path.read_bytes() == whole


def test_pieces_are_learned_from_train_alone_once(monkeypatch):
    assert PIECES.size("train") and len(PIECES._vocabulary.pieces) == PIECES.pieces
    train = cut(load("excerpt").text, (90, 5, 5))[0]
    monkeypatch.setattr("unspoken.tasks.text.vocabulary._learn", lambda *_: pytest.fail("learned again"))
    assert piece_vocabulary([train], PIECES.pieces).pieces == PIECES._vocabulary.pieces
    assert set(bytes([b]) for b in range(256)) <= set(PIECES._vocabulary.pieces)
    assert whole(PIECES, "test").x0.numel() < whole(replace(BYTES, length=32), "test").x0.numel() * 0.7


def test_malformed_files(tmp_path):
    file = tmp_path / "bad.txt"
    for content, message in [
        (b"", "bad.txt: no text in it"),
        (b" \n\n", "bad.txt: no text in it"),
        (b"one\ntw\xffo\n", "bad.txt, line 2: the byte 0xff is not UTF-8"),
        (b"short", "5 tokens of text, at least one window of 64"),
    ]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            BYTES.read(file)
    with pytest.raises(ValueError, match="length=64 given, but no text to train on has more than 4 tokens"):
        Text(length=64, path=str(file)).size("train")
    with pytest.raises(ValueError, match=r"none\.txt: no such file"):
        Text(path=str(tmp_path / "none.txt")).size("train")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Text(length=1), "length=1 given, at least 2 expected"),
        (lambda: Text(length=2, mode="infill"), "length=2 given, at least 3 expected"),
        (lambda: Text(unit="word"), "unit='word' given, one of byte, bpe"),  # type: ignore
        (lambda: Text(mode="some"), "mode='some' given, one of unconditional, prefix, infill"),  # type: ignore
        (lambda: Text(share=1.0), "share=1.0 given"),
        (lambda: Text(pieces=256), "pieces=256 given, more than 256"),
        (lambda: Text(unit="bpe", pieces=60_000).size("train"), "the training text has only [0-9]+; write pieces="),
        (lambda: Text(seed=-1), "seed=-1 given"),
        (lambda: Text(path="a.txt", held_out="excerpt"), "a file's own end is its test"),
        (lambda: Text(books="excerpts").size("test"), "no book 'excerpts'; with commas between them, some of excerpt"),
        (lambda: Text(books="").size("test"), "leaves no book"),
        (lambda: Text(books="excerpt,excerpt", held_out="bible").size("test"), "the book bible-kjv is not there"),
        (lambda: BYTES.size("dev"), "split='dev' given, one of train, validation, test"),  # type: ignore
        (lambda: BYTES.sample("test", 9_999), "9999 examples of test asked for, which holds 150"),
        (lambda: BYTES.sample("train", 9_999), "9999 examples of train asked for"),
        (lambda: BYTES.encode("x" * 65), "a text of 65 tokens given, at most 64 expected"),
        (lambda: BYTES.encode("a\\q"), "a backslash that begins none of"),
        (lambda: BYTES.show(torch.zeros(2, 64)), r"tokens of shape \(2, 64\) given"),
        (lambda: BYTES.show(torch.full((64,), 257)), r"one sequence \[64\] of ids 0..256"),
    ],
)
def test_errors_say_what_to_write(call, message):
    with pytest.raises(ValueError, match=message):
        call()
