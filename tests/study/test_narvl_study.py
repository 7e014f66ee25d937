"""The study of answers in one pass, on runs of a few steps; and its claims, which can come out either way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unspoken.measure.accuracy import Outcome
from unspoken.noise.space import paired
from unspoken.show import answers
from unspoken.study.narvl import TABLE, NarvlStudy
from unspoken.study.one_pass import ANY, DISTILLED, LEFT, MANY, ONE, QUERIES, TRAINED, WISE, WISE_DISTILLED, claims
from unspoken.study.report import Result
from unspoken.systems import narvl
from unspoken.tasks import Scenes, Strips
from unspoken.training.objective import QueryCTC

TINY = NarvlStudy(
    Strips(test=12, validation=4, queries=9),
    Scenes(),
    steps=2,
    batch=4,
    layers=1,
    width=16,
    taught=200,
    examples=6,
    alone=2,
    together=(0, 2),
    data=(ONE, MANY),
    seeds=(0,),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: Any) -> tuple[Result, Path]:
    """A teacher of two steps says nothing that a student could be asked for: it stutters."""
    runs = tmp_path_factory.mktemp("narvl")

    def taught(model: Any, task: Strips, path: Path, n: int, **options: Any) -> float:
        its = task.sample("train", n, torch.Generator().manual_seed(0))
        assert its.value is not None
        path.write_text("".join(f"{task.show(row)}\n" for row in paired(its.x0, its.value)))
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narvl, "taught", taught)
        *_, result = TINY.run(runs)
    assert isinstance(result, Result)
    return result, runs


def part(result: Result, name: str) -> list[dict[str, Any]]:
    return [row for row in result.rows if row["part"] == name]


def test_every_model_has_its_rows(done: tuple[Result, Path]) -> None:
    cells = [(data, name) for data in (ONE, MANY) for name in TRAINED[data]]
    for name in ("answers", "training"):
        assert [(row["data"], row["model"]) for row in part(done[0], name)] == cells
    assert [(row["model"], row["together"]) for row in part(done[0], "dial")] == [(ANY, 0), (ANY, 2)]
    assert len({row["parameters"] for row in part(done[0], "training")}) == 1  # one trunk
    shares = {row["model"]: row.get("taught") for row in part(done[0], "training") if row["data"] == MANY}
    assert shares[DISTILLED] == [1.0] and shares[DISTILLED] == shares[WISE_DISTILLED] and not shares[QUERIES]


def test_all_but_one_answer_in_one_pass(done: tuple[Result, Path]) -> None:
    """And the dial at 0 is the model's own decoding."""
    passes = {(row["data"], row["model"]): row["passes"] for row in part(done[0], "answers")}
    assert all((count == 1) == (name != LEFT) for (_, name), count in passes.items())
    own = next(row for row in part(done[0], "answers") if row["model"] == ANY)
    assert part(done[0], "dial")[0]["right"] == own["right"]


def test_one_seed_gives_no_verdict_and_a_figure(done: tuple[Result, Path], tmp_path: Path) -> None:
    assert [claim.holds for claim in done[0].claims] == [None] * 3
    assert all(len(TABLE.cells(row)) == len(TABLE.headings) for row in done[0].rows)
    assert answers.narvl(done[0].rows, tmp_path / "figure.png").stat().st_size > 10_000


def test_a_study_goes_on_with_what_there_is(done: tuple[Result, Path]) -> None:
    """The teacher's answers are not written anew."""
    file = TINY.answers(MANY, 0, done[1])
    written = file.stat().st_mtime_ns
    *_, again = TINY.run(done[1])
    assert isinstance(again, Result)
    assert file.stat().st_mtime_ns == written
    same = [[row["right"] for row in part(result, "answers")] for result in (again, done[0])]
    assert same[0] == same[1]


def outcome(share: float, passes: float) -> Outcome:
    right = (torch.arange(300) < 300 * share).double().expand(3, -1)
    return Outcome(right, passes, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("shares", "held"),
    [
        ({}, [True, True, True]),
        ({(ONE, QUERIES): 0.90}, [False, True, True]),
        ({(ONE, LEFT): 0.85}, [False, True, True]),
        ({(MANY, LEFT): 0.85}, [True, False, False]),
        ({(MANY, WISE): 0.35}, [True, False, True]),
        ({(MANY, DISTILLED): 0.48}, [True, True, False]),
    ],
)
def test_each_claim_can_come_out_false(shares: dict[tuple[str, str], float], held: list[bool]) -> None:
    usual = {
        (ONE, LEFT): 0.95,
        (ONE, QUERIES): 0.96,
        (MANY, LEFT): 0.95,
        (MANY, WISE): 0.1,
        (MANY, QUERIES): 0.4,
        (MANY, DISTILLED): 0.7,
    }
    found = {cell: outcome(share, 6 if cell[1] == LEFT else 1) for cell, share in (usual | shares).items()}
    assert [claim.holds for claim in claims(found, 3)] == held
    assert [claim.holds for claim in claims(found, 2)] == [None] * 3
    found[ONE, QUERIES] = replace(found[ONE, QUERIES], passes=2)
    assert claims(found, 3)[0].holds is False


def test_the_queries_of_a_study_are_those_of_its_runs() -> None:
    train, folder = TINY.job(MANY, ANY, 3, Path("runs"))
    assert train.objective == QueryCTC(train.task.end, -1) if isinstance(train.task, Strips) else False
    assert train.seed == 3 and folder == Path("runs/strips-two-spellings/queries-any-number-together-seed3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"together": (1, 2)}, "together"),
        ({"data": (ONE,)}, "two spellings"),
        ({"data": (ONE, MANY, "more")}, "data="),
        ({"examples": 13}, "at most the 12"),
        ({"alone": 7}, "alone=7"),
        ({"strips": Strips(spellings=2)}, "one spelling"),
        ({"batch": 0}, "batch"),
    ],
)
def test_a_study_says_what_is_wrong(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(TINY, **change)
