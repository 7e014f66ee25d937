"""Laws of calibration: a table worked out by hand, the rows that are read, a figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_reading import MASK, MODELS, PRESENT, TOKENS

import unspoken as us
from unspoken.show.reliability import reliability_figure
from unspoken.tasks.base import Examples

SAID = torch.tensor([0.1, 0.25, 0.5, 0.6, 0.7, 1.0], dtype=torch.float64)
RIGHT = torch.tensor([False, True, False, True, True, True])


def test_a_table_by_hand() -> None:
    """Four bins; an edge belongs to the bin below it, and the third bin's mean is .65."""
    found = us.reliability(SAID, RIGHT, bins=4)
    assert found.counts == (2, 1, 2, 1)
    assert found.confidence == pytest.approx((0.175, 0.5, 0.65, 1.0))
    assert found.right == (0.5, 0.0, 1.0, 1.0)
    assert found.error == pytest.approx((2 * 0.325 + 0.5 + 2 * 0.35 + 0) / 6)


def test_known_limits() -> None:
    sure = us.reliability(torch.ones(4), torch.ones(4, dtype=torch.bool))
    assert sure.error == 0 and sure.counts == (0,) * 9 + (4,) and math.isnan(sure.right[0])
    assert us.reliability(torch.ones(4), torch.zeros(4, dtype=torch.bool)).error == 1
    one_bin = us.reliability(SAID, RIGHT, bins=1)
    assert one_bin.error == pytest.approx(abs(float(SAID.mean()) - 4 / 6))


def test_a_model_is_measured_by_its_rows() -> None:
    """Short rows included; the answer for a slot is the example's token."""
    x0 = torch.where(TOKENS == MASK, 9, TOKENS)
    examples = Examples(x0, (TOKENS != MASK) | ~PRESENT, document=torch.where(PRESENT, 0, -1))
    for temperature in (0.5, 2.0):
        found = us.calibration(MODELS["mdm"], examples, temperature=temperature, batch=2)
        rows = us.read_ids(MODELS["mdm"], TOKENS, present=PRESENT, temperature=temperature, top_k=1)
        slots = [slot for row in range(3) for slot in rows.slots(row)]
        said = torch.tensor([slot.logp[0] for slot in slots], dtype=torch.float64).exp()
        expected = us.reliability(said, torch.tensor([slot.ids[0] == 9 for slot in slots]))
        assert found.counts == expected.counts and sum(found.counts) == 7
        assert found.error == pytest.approx(expected.error)


def test_a_share_of_the_tokens_is_open() -> None:
    x0 = torch.arange(4).expand(50, 4)
    examples = Examples(x0, torch.zeros_like(x0, dtype=torch.bool))
    found = us.calibration(MODELS["sidm"], examples, share=0.5)
    assert 60 < sum(found.counts) < 140  # 200 of 1/2: 5.6 standard deviations


def test_the_figure(tmp_path: Path) -> None:
    path = reliability_figure({"a": us.reliability(SAID, RIGHT)}, tmp_path / "figure.png")
    assert path.stat().st_size > 1000
    with pytest.raises(ValueError, match="no reliability"):
        reliability_figure({}, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("said", "right", "bins", "message"),
    [
        (SAID, RIGHT, 0, "bins"),
        (SAID, RIGHT[:2], 4, "right"),
        (SAID[:0], RIGHT[:0], 4, "one prediction"),
        (SAID + 1, RIGHT, 4, "outside"),
    ],
)
def test_bad_tables_are_refused(said: Any, right: Any, bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        us.reliability(said, right, bins)


def test_bad_examples_are_refused() -> None:
    x0 = TOKENS.clamp_max(9)
    given = torch.zeros_like(PRESENT)
    asked: list[tuple[Examples, dict[str, Any], str]] = [
        (Examples(x0, ~given), {}, "no token"),
        (Examples(x0, given), {"share": 0.0}, "share"),
        (Examples(x0, given, value=x0[..., None]), {}, "values"),
        (Examples(x0, given, document=torch.arange(6).expand(3, 6)), {}, "several documents"),
    ]
    for examples, options, message in asked:
        with pytest.raises(ValueError, match=message):
            us.calibration(MODELS["mdm"], examples, **options)
