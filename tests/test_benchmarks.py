"""The benchmarks run, and what they compare says the same; times are not looked at."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load_script(name: str):
    sys.path.insert(0, str(FOLDER))  # they share `timing`
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
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


def test_decode(tmp_path: Path) -> None:
    bench = load_script("decode")
    board, text = (bench.Shape(layers=1, width=16, heads=2, length=n, given=0.25) for n in (12, 16))
    options = bench.Options(
        shapes=(board,),
        text=text,
        batches=(1, 3),
        commit=2,
        latents=3,
        repeats=1,
        lengths=(40,),
        sampler=(2, (8,)),
        out=tmp_path,
    )
    bench.main(options)
    record = json.loads((tmp_path / "decode.json").read_text())
    rows = record["ways"]
    assert [(r["length"], r["batch"]) for r in rows[::8]] == [(12, 1), (12, 3), (16, 1)]
    base = rows[:8][0]
    assert base["way"] == bench.BASE and base["faster"] == base["fewer_flops"] == 1
    assert (base["passes"], base["entries"]) == (9, 9 * 12)  # 9 of 12 tokens are said, and all are in every pass
    by_way = {r["way"]: r for r in rows[:8]}
    assert by_way["MDM, 2 a pass"]["passes"] == 5
    # With a cache a pass computes what was said last and what is left: the prompt first, then two and the rest.
    assert by_way["cached, 2 a pass"]["entries"] == (3 + 9) + (2 + 7) + (2 + 5) + (2 + 3) + (2 + 1)
    (alone,) = record["sampler"]
    assert alone["steps"] == 7 and alone["ours_ratio"] > 0 and alone["ours_of_8_ratio"] > 0
    assert [r["length"] for r in record["by_length"]] == [40]


def test_ratios_are_of_the_same_turn() -> None:
    timing = load_script("timing")
    mine, base = (
        timing.Timed(seconds, 5, 10.0, flops) for seconds, flops in (([1.0, 2.0, 1.0], 4.0), ([2.0, 8.0, 3.0], 8.0))
    )
    found = timing.costs(mine, base)
    assert (found["faster"], found["faster_range"], found["fewer_flops"], found["seconds"]) == (
        3.0,
        [2.0, 4.0],
        2.0,
        1.0,
    )


def test_the_plain_sampler_is_the_decoder_with_every_candidate() -> None:
    """What ours is timed against says the same tokens, where the network says the same at every place."""
    bench = load_script("decode")
    network, tokens = bench.Free(2, 8), torch.full((2, 8), bench.VOCAB)
    tokens[:, 0] = 0
    said = bench.plain(network, tokens)
    assert torch.equal(said[:, 1:], network.logits.argmax(-1)[:, 1:])


def test_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))  # put back, as the benchmark sets its own
    bench = load_script("tasks")
    names = ("countdown-3", "sudoku-4x4", "path-star")
    bench.main(bench.Options(tasks=names, examples=2000, base=50, out=tmp_path))
    rows = json.loads((tmp_path / "tasks.json").read_text())["rows"]
    assert [(r["task"], r["base"]) for r in rows] == [("countdown-3", 2000), ("sudoku-4x4", 50), ("path-star", None)]
    assert all(r["examples_per_second"] > 0 for r in rows)


def test_head(tmp_path: Path) -> None:
    bench = load_script("head")
    options = bench.Options(layers=1, batch=2, length=8, vocab=5_000, repeats=1, out=tmp_path, peaks=False)
    model = bench.model_of(options)
    packed = bench.batch_of(options, model)
    losses = {way: float(make(model, packed).detach()) for way, make in bench.WAYS.items()}
    assert losses["asked"] == pytest.approx(losses["everywhere"], rel=1e-5)
    assert losses["ours"] == pytest.approx(losses["asked"], rel=1e-2)  # which leave the mask its probability
    bench.main(options)
    rows = json.loads((tmp_path / "head.json").read_text())["rows"]
    assert [r["way"] for r in rows] == list(bench.WAYS) and rows[0]["ours_takes"] == 1
    assert all(r["cpu_seconds"] > 0 for r in rows) and bench.measure_peak(options, "ours") >= 0


def test_imports(capsys) -> None:
    bench = load_script("imports")
    bench.main(bench.Options(modules=("json",), processes=1))
    assert re.fullmatch(r"json +\d\.\d\d s of CPU\n", capsys.readouterr().out)


def test_generate(tmp_path: Path) -> None:
    bench = load_script("generate")
    bench.main(bench.Options(layers=1, vocab=50, width=64, batches=(2,), prompt=3, new=4, repeats=1, out=tmp_path))
    (row,) = json.loads((tmp_path / "generate.json").read_text())["rows"]
    assert row["same_tokens"] == 1 and row["ours_ms_a_token"] > 0
