"""Text with any tokenizer: prompts and answers, chats, windows of text; a tokenizer is made here.

Laws: what is given and what is asked are the template's header and the answer; letters of a special token in a text are
letters; every document is in one split, and twins in the same; rows hold every document once, and are trained as the
documents alone; a text is asked to the last token, once; what is stored is stored whole or made again.
"""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import unspoken as us
from unspoken.cli.commands import run
from unspoken.noise.space import PADDING
from unspoken.record import from_record, to_record
from unspoken.tasks import Prompted, Tasks
from unspoken.tasks.base import SPLITS, Examples, Split
from unspoken.tasks.prompted import store
from unspoken.tasks.prompted.sources import Source
from unspoken.training.losses import packed_losses
from unspoken.training.models import new_denoiser
from unspoken.training.run import Run

SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|mask|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune,\nmust be in want.\n"
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Who <|mask|> are you?<|end|>  "},
    {"role": "assistant", "content": "A model."},
    {"role": "user", "content": "Of what é?"},
    {"role": "assistant", "content": "Of <|user|>\ntext."},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return folder


def written(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def questions(n: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {i % (n // 2)} more?", "response": f" {'and ' * (i % 5)}{i}."} for i in range(n)]


@pytest.fixture
def asked(made: Path, tmp_path: Path) -> Prompted:
    """200 records, each prompt twice with another response."""
    data = written(tmp_path / "questions.jsonl", questions(200))
    return Prompted(str(made), str(data), length=64, validation=0.2, test=0.2)


def documents(examples: Examples) -> list[tuple[Tensor, Tensor]]:
    """The tokens of each document, and which are given."""
    assert examples.document is not None
    found = []
    for x0, given, document in zip(examples.x0, examples.given, examples.document, strict=True):
        found += [(x0[document == n], given[document == n]) for n in document.unique().tolist() if n != PADDING]
    return found


def every(task: Prompted, split: Split) -> Examples:
    return task.sample(split, task.size(split))


@pytest.mark.parametrize("turns", ["last", "every"])
def test_a_chat_is_the_template_s_with_the_answers_asked(made: Path, tmp_path: Path, turns: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made)
    data = written(tmp_path / "chat.jsonl", [{"messages": CHAT}])
    task = Prompted(str(made), str(data), length=128, validation=0.0, test=0.0, turns=turns)
    ((x0, given),) = documents(every(task, "train"))
    header = tokenizer.apply_chat_template(CHAT[:-1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(CHAT, tokenize=False).rstrip()
    assert tokenizer.decode(x0) == whole and whole.startswith(header)
    asked = [tokenizer.decode(x0[~given])]
    if turns == "every":
        assert asked == ["A model.<|end|>Of <|user|>\ntext.<|end|>"]
    else:
        assert asked == ["Of <|user|>\ntext.<|end|>"] and tokenizer.decode(x0[given]) == header
    # Of the special tokens there are those of the template alone, and the mask is none of them.
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in SPECIAL}
    counts = {word: int((x0 == number).sum()) for word, number in ids.items()}
    assert counts == {"<|end|>": 5, "<|user|>": 2, "<|assistant|>": 2, "<|system|>": 1, "<|mask|>": 0}


@pytest.mark.parametrize("mask", ["", "<|mask|>"])
def test_the_mask_s_letters_in_a_text_are_letters(made: Path, tmp_path: Path, mask: str) -> None:
    text = "a <|mask|><|mask|> <|end|>\ue000 <|ma"
    data = written(tmp_path / "one.jsonl", [{"prompt": text, "response": text}])
    task = Prompted(str(made), str(data), length=128, validation=0.0, test=0.0, mask=mask)
    tokenizer = AutoTokenizer.from_pretrained(made)
    ((x0, given),) = documents(every(task, "train"))
    assert task.mask_id == tokenizer.convert_tokens_to_ids("<|mask|>"), "the tokenizer has one of the default's name"
    assert task.vocab_size == len(tokenizer) and not bool((x0 == task.mask_id).any())
    assert tokenizer.decode(x0[given]) == text and tokenizer.decode(x0[~given]) == text + "<|end|>"
    assert x0[-1] == tokenizer.eos_token_id and int((x0 == tokenizer.eos_token_id).sum()) == 1
    assert int(task.bytes_in(every(task, "train").x0)[0]) == 2 * len(text.encode())


def test_every_document_is_in_one_split_with_its_twins(asked: Prompted) -> None:
    tokenizer = asked.coding.tokenizer
    prompts = {split: [tokenizer.decode(x[g]) for x, g in documents(every(asked, split))] for split in SPLITS}
    assert sorted(prompt for its in prompts.values() for prompt in its) == sorted(q["prompt"] for q in questions(200))
    sets = [set(its) for its in prompts.values()]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    # 100 prompts, .2 each: 5 standard deviations on both sides.
    assert all(0 <= len(its) <= 40 for its in sets[1:]) and len(sets[1]) and len(sets[2])
    other = replace(asked, seed=1)
    assert {tokenizer.decode(x[g]) for x, g in documents(every(other, "test"))} != sets[2]


def test_rows_hold_every_document_once_and_no_more_than_they_have_room_for(asked: Prompted) -> None:
    rows, alone = every(asked, "train"), every(replace(asked, packed=False), "train")
    assert len(rows) < len(alone) / 2 and len(documents(alone)) == len(alone)
    for (x0, given), (x, g) in zip(documents(rows), documents(alone), strict=True):
        assert torch.equal(x0, x) and torch.equal(given, g) and bool(given[0]) and not bool(given[-1])
    assert rows.document is not None and alone.document is not None
    gone = rows.document == PADDING
    assert bool(rows.given[gone].all()) and bool((rows.x0[gone] == asked.coding.pad_id).all())
    # The next document would not have fitted: none is smaller than what is left but where it begins the next row.
    sizes, at = [len(x0) for x0, _ in documents(alone)], 0
    for there in (~gone).sum(1).tolist():
        while there > 0:
            there, at = there - sizes[at], at + 1
        assert there == 0
    free = gone.sum(1)[:-1]
    firsts = [int((rows.document[row] == 0).sum()) for row in range(1, len(rows))]
    assert all(first > room for first, room in zip(firsts, free.tolist(), strict=True))


@torch.no_grad()
def test_rows_are_trained_as_the_documents_alone(asked: Prompted) -> None:
    rows, alone = (every(task, "train") for task in (asked, replace(asked, packed=False)))
    config = us.Train(asked, us.CACHED_JOINT, us.Trunk(layers=1, width=16, heads=2, init=0.3))
    model = new_denoiser(config).double()
    for objective in (us.NextTokenPrediction(), us.MultiToken(window=2)):
        found = []
        for its in (rows, alone):
            packed = objective.pack(us.Absorbing(), its.x0, its.given, model.mask_id, document=its.document)
            found.append(packed_losses(model, packed)[packed.one.real])
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)
        assert isinstance(objective, us.MultiToken) or len(found[0]) == int((~alone.given).sum())


def test_a_text_is_asked_once_to_its_last_token(made: Path, tmp_path: Path) -> None:
    text = "".join(f"Line {i} é <|end|> of it.\n" for i in range(40))
    (tmp_path / "text.txt").write_text(text)
    task = Prompted(str(made), str(tmp_path / "text.txt"), length=20, validation=0.0, test=0.0, packed=False)
    found = documents(every(task, "train"))
    tokens = torch.cat([found[0][0][:1], *(x0[1:] for x0, _ in found)])
    assert task.coding.tokenizer.decode(tokens) == text and tokens.tolist() == task.coding.ids(text)
    assert all(given.tolist() == [True] + [False] * (len(given) - 1) for _, given in found)
    assert all(torch.equal(a[0][-1], b[0][0]) for a, b in pairwise(found))
    assert [len(x0) for x0, _ in found[:-1]] == [20] * (len(found) - 1)
    its = every(task, "train")
    asked = task.bytes_in(its.x0) - task.bytes_in(its.prompt(task.mask_id))
    assert int(asked.sum()) == len(text.encode()) - len(task.coding.pieces[int(tokens[0])])


def test_large_texts_come_in_pieces_that_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a line\r\n  another\n" * 50 + "the end"
    (tmp_path / "text.txt").write_bytes(text.encode())
    monkeypatch.setattr("unspoken.tasks.prompted.sources._PIECE", 40)
    pieces = list(Source("text.txt", tmp_path / "text.txt", "").texts())
    assert "".join(pieces) == text.replace("\r\n", "\n") and len(pieces) > 10
    assert all(not piece[0].isspace() and len(piece) < 80 for piece in pieces)


def test_what_is_held_out_is_the_test(made: Path, tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{i}.jsonl", questions(40 + i)) for i in range(2)]
    task = Prompted(str(made), ",".join(map(str, paths)), str(paths[1]), length=64)
    assert task.size("test") == 41 == len(documents(every(task, "test")))
    sizes = [len(documents(every(task, split))) for split in SPLITS[:2]]
    assert sum(sizes) == 40
    assert len(task.read(paths[1])) == 41 and torch.equal(task.read(paths[1]).x0, every(task, "test").x0)


def test_what_is_shown_is_read_again(asked: Prompted) -> None:
    its = every(asked, "test")
    for x0, prompt in zip(its.x0[:5], its.prompt(asked.mask_id)[:5], strict=True):
        line = asked.show(prompt)
        assert line.endswith("□" * int((prompt == asked.mask_id).sum())) and "\n" not in line
        assert torch.equal(asked.encode(line), prompt)
        assert (
            asked.show(x0).endswith(".<|end|>") and asked.show(asked.encode(asked.show(x0)))[:9] == asked.show(x0)[:9]
        )
    text = r"a\nb \\ \x3c|mask|> <|user|>é"
    assert asked.show(asked.encode(text)).rstrip("□") == text
    assert asked.coding.tokenizer.decode(asked.encode(text)[:20]).startswith("a\nb \\ <|mask|> <|user|>é"[:9])
    assert "".join(asked.symbol(int(token)) for token in asked.encode("a\nb<|end|>□")[:5]) == "a↵b<|end|>□"
    assert bool(asked.score(its.prompt(asked.mask_id), its.x0).all())
    assert not bool(asked.score(its.prompt(asked.mask_id), its.prompt(asked.mask_id)).any())


def test_the_prompt_ends_where_the_row_is_open(asked: Prompted) -> None:
    """Padding is not given to a decoder: how long the answer is would be told."""
    its = every(asked, "test")
    assert its.document is not None
    open_ = its.prompt(asked.mask_id) == asked.mask_id
    assert torch.equal(open_, ~its.given | (its.document == PADDING)) and bool(open_[:, -1].all())
    with pytest.raises(ValueError, match="not measured here"):
        its.whole()


def test_what_is_stored_is_read_and_what_is_torn_is_made_again(
    asked: Prompted, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(asked, length=65)  # of this test alone
    before = set(cache.glob("prompted-*"))
    builds, build = [0], store._build

    def counted(*given: Any) -> None:
        builds[0] += 1
        build(*given)

    def again() -> Tensor:
        store.stored.cache_clear()
        return every(replace(asked), "train").x0

    monkeypatch.setattr(store, "_build", counted)
    with monkeypatch.context() as patch:  # stopped in the middle of the work
        patch.setattr(store._Writer, "_add", _stopped)
        with pytest.raises(KeyboardInterrupt):
            again()
    (folder,) = set(cache.glob("prompted-*")) - before
    assert {path.name for path in folder.iterdir()} == {"lock"}
    first = again()
    assert builds == [2] and torch.equal(again(), first) and builds == [2]
    for name in ("tokens.bin", "documents.npy", "card.json"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])
        (folder / "left.tmp").touch()  # by one that was killed
        assert torch.equal(again(), first)
    assert builds == [5] and not list(folder.glob("*.tmp"))
    assert isinstance(store.stored(asked.coding, asked._wanted).tokens, np.memmap)


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


LINES = {
    '{"prompt": "a", "response": ': "line 2: .* is no JSON",
    '{"prompt": "a"}': "line 2: .*expected",
    '["a"]': "line 2: .*expected",
    '{"prompt": " ", "response": "b"}': "line 2: prompt is ' '; text expected, not empty",
    '{"prompt": "a", "response": ""}': "line 2: response is ''; text expected",
    '{"prompt": "a", "response": 3}': "line 2: response is 3",
    '{"messages": []}': r"line 2: messages is \[\]",
    '{"messages": [{"role": "user", "content": "a"}]}': "line 2: messages of user: a prompt, and at last",
    '{"messages": [{"role": "assistant", "content": "a"}]}': "line 2: messages of assistant",
    '{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "b"}]}': "line 2: messages is",
    '{"prompt": "' + "a long one " * 40 + '", "response": "b"}': "line 2: a prompt of .* tokens and length=64",
    '{"prompt": "a", "response": "' + "a long one " * 40 + '"}': "line 2: prompt and response of .* or cut=True",
    "\ufffe" * 250_000: "line 2: a line of 250,001 characters",
}


@pytest.mark.parametrize(("line", "said"), LINES.items(), ids=range(len(LINES)))
def test_what_is_wrong_in_a_file_is_told_with_its_line(made: Path, tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n' + line + "\n")
    with pytest.raises(ValueError, match=said) as caught:
        Prompted(str(made), str(path), length=64).size("train")
    assert str(path) in str(caught.value) and len(str(caught.value)) < 900


def test_what_does_not_fit_is_cut_where_that_is_asked(made: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "long.jsonl", [{"prompt": "a", "response": "b " * 100}])
    task = Prompted(str(made), str(data), length=16, validation=0.0, test=0.0, cut=True)
    ((x0, _),) = documents(every(task, "train"))
    assert len(x0) == 16 and task.coding.eos_id not in x0


def test_what_is_missing_is_told(made: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "one.jsonl", questions(4))
    chat = written(tmp_path / "chat.jsonl", [{"messages": CHAT}])
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink(missing_ok=True)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"a\n\xff")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "nothing").mkdir()
    wrong: list[tuple[Prompted, str]] = [
        (Prompted("", str(data)), "no tokenizer given"),
        (Prompted(str(tmp_path / "nothing"), str(data)), "nothing is not to be read"),
        (Prompted(str(made), str(data), mask="<|none|>"), "mask='<|none|>' is no token"),
        (Prompted(str(made), "gone.jsonl"), "gone.jsonl: no such file"),
        (Prompted(str(made), "a-book"), "data: 'a-book' given; a file .jsonl or .txt, or the name of a book"),
        (Prompted(str(made), str(data), "a-book"), "held_out: 'a-book'"),
        (Prompted(str(made), str(data), str(data)), "leaves nothing to train on"),
        (Prompted(str(made), str(bad)), "line 2: the byte 0xff is not UTF-8"),
        (Prompted(str(made), str(tmp_path / "empty.txt")), "no text in it"),
        (Prompted(str(tmp_path / "plain"), str(chat)), "has no chat template"),
    ]
    for task, said in wrong:
        with pytest.raises(ValueError) as caught:
            task.size("train")
        assert said in str(caught.value)
    fields: tuple[tuple[str, Any], ...] = (
        ("length", 1),
        ("turns", "all"),
        ("validation", 1.5),
        ("test", 0.99),
        ("seed", -1),
    )
    for field, value in fields:
        with pytest.raises(ValueError, match=field):
            replace(Prompted(str(made), str(data)), **{field: value})


def test_a_task_is_its_record(asked: Prompted) -> None:
    assert from_record(Tasks, to_record(asked)) == asked
    card = asked.describe()
    assert card["splits"]["train"]["documents"] == len(documents(every(asked, "train")))


def test_a_model_learns_it_from_the_command_line(asked: Prompted, tmp_path: Path, capsys: Any) -> None:
    words = ["train", "prompted", "--task.tokenizer", asked.tokenizer, "--task.data", asked.data, "--task.length", "48"]
    words += ["--trunk.layers", "1", "--trunk.width", "16", "--trunk.heads", "2", "--steps", "30", "--batch", "4"]
    folder = tmp_path / "run"
    assert run([*words, "--warmup", "5", "--lr", "1e-2", "--log", "10", "--folder", str(folder)]) == 0
    metrics = Run(folder).metrics()
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.5 and metrics[-1]["validation"] > 0
    model = us.load(folder, device="cpu")
    assert model.mask_id == asked.mask_id
    assert run(["show", str(folder)]) == 0
    assert run(["solve", str(folder), "--puzzle", "What is 3 more?", "--latents", "0"]) == 0
    assert "What is 3 more?" in capsys.readouterr().out
    flags = ["--tokenizer", asked.tokenizer, "--data", asked.data]
    assert run(["tasks", "show", "prompted", *flags]) == 0
    assert "documents" in capsys.readouterr().out
    assert run(["train", "prompted", "--folder", str(tmp_path / "none")]) == 2
    assert "no tokenizer given" in capsys.readouterr().err and not (tmp_path / "none").exists()
