"""The benchmarks run, and what they compare says the same; times are not looked at."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("batch", [1, 3])
def test_left_to_right(tmp_path: Path, batch: int) -> None:
    bench = load_script("left_to_right")
    shape = bench.Shape(layers=1, width=16, heads=2, length=12)
    bench.main(bench.Options(shapes=(shape,), batches=(batch,), latents=(0, 3), repeats=1, out=tmp_path))
    rows = json.loads((tmp_path / "left_to_right.json").read_text())["rows"]
    assert [(r["latents"], r["way"]) for r in rows] == [
        *[(0, "recomputed"), (0, "cached")],
        *[(3, "recomputed"), (3, "cached"), (3, "speculation")],
    ]
    assert all(r["same_tokens"] == 1 for r in rows)
    # 9 of 12 tokens are said, one a pass: the prompt first, then what was said last, and the latents that are left.
    assert [r["entries"] for r in rows[:2]] == [sum(3 + said + 1 for said in range(9)), 3 + 1 + 8 * 2]
    assert rows[3]["entries"] == 3 + 8 + sum(1 + min(3, 8 - said) for said in range(9))
    assert rows[4]["passes"] <= 9
