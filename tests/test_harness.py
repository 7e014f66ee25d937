"""Log-likelihoods as lm-evaluation-harness asks for them, by its interface (a stub of it where it is not installed)."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from small import float64, made
from test_masks import words_of
from toy import Exact, random_distribution

import unspoken as us
from unspoken.measure.harness_tasks import documents
from unspoken.measure.scoring import default_likelihood, scores
from unspoken.tasks.text.books import load as load_book


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made("llama", vocab_size=30).save_pretrained(tmp_path)
    words_of(30).save_pretrained(tmp_path)
    return tmp_path


def loaded(folder: Path, rule: us.Attention = us.CACHED_JOINT) -> us.Denoiser:
    with float64():
        return us.Denoiser.from_pretrained(folder, attention=rule, dtype=torch.float64)


def test_exact_is_the_trunk_and_the_library(folder: Path) -> None:
    model = loaded(folder)
    context, continuation = [3, 4, 5], [6, 7, 8, 9]
    (score,) = scores(model, [(context, continuation)])
    ids = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        logp = model.trunk(ids).logits[..., :30].log_softmax(-1)
        expected = logp[0, 2:6].gather(1, ids[0, 3:, None]).sum()
        packed = us.NextTokenPrediction().pack(us.Absorbing(), ids, torch.arange(7)[None] < 3, model.mask_id)
        own = us.packed_losses(model, packed).sum()
    assert score.total == pytest.approx(float(expected), abs=1e-9) == pytest.approx(-float(own), abs=1e-9)
    assert score.error == 0 and not score.greedy
    said = model.generate(ids[:, :3], max_new_tokens=4, eos_token_id=())[0, 3:].tolist()
    assert scores(model, [(context, said)])[0].greedy
    assert scores(model, [(context, []), (context, said)])[0].total == 0


def test_slots_are_asked_one_prefix_at_a_time(folder: Path) -> None:
    model = loaded(folder)
    x0 = torch.tensor([[3, 4, 5, 6, 7]])
    (score,) = scores(model, [([3, 4], [5, 6, 7])], "slots")
    total = 0.0
    for position in (2, 3, 4):
        tokens = torch.where(torch.arange(5) < position, x0, model.mask_id)[:, : position + 1]
        order = (torch.arange(position + 1) - 1).clamp_min(0)[None] * (tokens != model.mask_id)
        with torch.no_grad():
            logits = model(us.one_block(tokens, tokens == model.mask_id, order), torch.tensor([[position]]))
        total += float(logits.log_softmax(-1)[0, 0, x0[0, position]])
    assert score.total == pytest.approx(total, abs=1e-9)


@dataclass
class Table(Exact):
    """What is asked of a `Denoiser` beside being a `Model`."""

    device: str = "cpu"
    known_positions: None = None
    decoder: None = None


@pytest.mark.parametrize("likelihood", ["any_order", "nelbo"])
def test_estimates_are_right_within_their_error(likelihood: Any) -> None:
    """False alarms: 5 standard errors of 400 draws, below 1e-5 for each of 4."""
    p = random_distribution(3, 4)
    model: Any = Table(p, 3, 4)
    table = p.view(3, 3, 3, 3)
    for row in ([0, 1, 2, 0], [2, 2, 1, 1]):
        (score,) = scores(model, [(row[:1], row[1:])], likelihood, draws=400)
        first, *rest = row
        expected = float((table[first][tuple(rest)] / table[first].sum()).log())
        assert score.error > 0
        assert abs(score.total - expected) < 5 * score.error


def test_greedy_of_a_masked_model_is_its_likeliest_row() -> None:
    p = random_distribution(3, 4)
    model: Any = Table(p, 3, 4)
    row, table = [1], p.view(3, 3, 3, 3)[1]
    for _ in range(3):
        row.append(int(table.flatten(1).sum(1).argmax() if table.dim() > 1 else table.argmax()))
        table = table[row[-1]]
    other = [*row[:3], (row[3] + 1) % 3]
    found = scores(model, [([1], row[1:]), ([1], other[1:])], draws=2)
    assert [score.greedy for score in found] == [True, False]
    assert default_likelihood(model) == "nelbo"


def test_what_can_not_be_scored_is_refused(folder: Path) -> None:
    model = loaded(folder)
    for pair, said in (
        (([], [3]), "an empty context"),
        (([3], [3] * 64), "knows 64 positions"),
        (([3], [model.mask_id]), "holds the mask"),
    ):
        with pytest.raises(ValueError, match=said):
            scores(model, [pair])
    with pytest.raises(ValueError, match="its context is not causal"):
        scores(loaded(folder, us.SCDM), [([3], [4])], "exact")


class StandIn:
    """`lm_eval.api.model.LM`, as far as a model of it depends on it."""

    def __init__(self) -> None:
        self._rank, self._world_size = 0, 1


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The adapter, over lm_eval or a stub of its interface."""
    if find_spec("lm_eval") is None:
        for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model", "lm_eval.api.registry"):
            module: Any = ModuleType(name)
            module.__spec__, module.__path__ = ModuleSpec(name, None), []
            module.LM, module.register_model = StandIn, lambda *_: lambda kind: kind
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "unspoken.measure.harness", raising=False)
    return importlib.import_module("unspoken.measure.harness")


@dataclass
class Request:
    args: tuple[Any, ...]


def test_the_harness_is_answered_by_the_library(harness: Any, folder: Path) -> None:
    model = loaded(folder)
    adapter = harness.Harness(model)
    asked = [("w1 w2", " w3 w4"), ("w1 ", "w5"), ("", "w6 w7")]
    pairs = [([3, 4], [5, 6]), ([3], [7]), ([0], [8, 9])]
    expected = scores(model, pairs)
    assert [adapter.pair(*each) for each in asked] == pairs
    found = adapter.loglikelihood([Request(each) for each in asked])
    assert found == [(score.total, score.greedy) for score in expected]
    assert adapter.scored == expected
    long = [3 + i % 20 for i in range(100)]
    (total,) = adapter.loglikelihood_rolling([Request((" ".join(f"w{i - 2}" for i in long),))])
    windows = scores(model, [([0], long[:63]), (long[62:63], long[63:])])
    assert total == pytest.approx(sum(score.total for score in windows), abs=1e-9)
    (said,) = adapter.generate_until([Request(("w1 w2", {"until": ["w9"], "max_gen_toks": 5, "do_sample": False}))])
    assert said == us.generate(model, "w1 w2", max_new_tokens=5, stop_strings=["w9"])
    with pytest.raises(ValueError, match="generation with num_beams"):
        adapter.generate_until([Request(("w1", {"num_beams": 2}))])
    long_one = [Request(("w1", {"max_gen_toks": 5})), Request(("w1", {"max_gen_toks": 64}))]
    with pytest.raises(ValueError, match="knows"):
        adapter.generate_until(long_one)
    for wrong in ({"max_gen_toks": 0}, {"top_p": 2.0, "do_sample": True}):
        with pytest.raises(ValueError, match="|".join(wrong)):
            adapter.generate_until([Request(("w1", wrong))])
    with pytest.raises(ValueError, match="likelyhood"):
        harness.Harness(model, likelyhood="nelbo")
    drawn = {"max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    assert len(set(adapter.generate_until([Request(("w1", drawn))] * 4))) > 1, "the same request again is drawn anew"
    model.tokenizer = None
    with pytest.raises(ValueError, match="tokenizer"):
        harness.Harness(model)


def test_it_goes_where_it_can_and_reads_a_foreign_model(harness: Any, folder: Path) -> None:
    """The harness says cuda:0 unless it is told otherwise."""
    adapter = harness.Harness(str(folder), attention="cached-joint", device="cuda:0")
    assert adapter.model.attention.prompt == "causal"
    assert adapter.model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    adapter.model.save_pretrained(folder / "ours")
    assert harness.Harness(str(folder / "ours"), device="cpu").model.attention == adapter.model.attention
    with pytest.raises(ValueError, match="attention=x: give one of mdm"):
        harness.Harness(str(folder), attention="x")


def test_the_tasks_that_ship() -> None:
    """Four different continuations, of which the right one is the book's; every place is right as often as others."""
    its = documents.choices()
    book = " ".join(load_book("excerpt").text.decode().split())
    assert len(its) > 100 and all(len(set(each["choices"])) == 4 for each in its)
    for each in its:
        follows = [f"{each['passage']} {choice}" in book for choice in each["choices"]]
        assert follows == [number == each["answer"] for number in range(4)]
    places = [sum(each["answer"] == place for each in its) for place in range(4)]
    assert max(places) - min(places) <= 1
    assert all(each["text"] in book for each in documents.texts())
    assert all(f"{each['passage']} " in book and each["word"].strip() for each in documents.words())
    asked = [path.read_text() for path in Path(documents.__file__).parent.glob("*.yaml")]
    named = {name for text in asked for name in re.findall(r"!function documents\.(\w+)", text)}
    assert named == {name for name in vars(documents) if name.startswith("of_")}
    (group,) = (text for text in asked if text.startswith("group: unspoken_excerpt"))
    tasks = {name for text in asked for name in re.findall(r"^task: (\w+)$", text, re.MULTILINE)}
    assert set(re.findall(r"- (\w+)$", group, re.MULTILINE)) == tasks and len(tasks) == 3


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the harness")
def test_the_harness_runs_the_tasks_that_ship(harness: Any, folder: Path) -> None:
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    adapter = harness.Harness(loaded(folder))
    known = TaskManager(include_path=str(harness.TASKS))
    found = simple_evaluate(adapter, tasks=["excerpt_choice"], task_manager=known, limit=3)["results"]
    assert 0 <= found["excerpt_choice"]["acc,none"] <= 1


def test_without_the_harness_it_says_what_to_install() -> None:
    if find_spec("lm_eval") is not None:
        pytest.skip("it is installed")
    sys.modules.pop("unspoken.measure.harness", None)
    with pytest.raises(ValueError, match=r"unspoken\[harness\]"):
        importlib.import_module("unspoken.measure.harness")
