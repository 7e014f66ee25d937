"""A step's loss and gradient are the whole batch's, however it is cut into parts and processes; weights are float32."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import TRUNK, ragged_clean, seeded, tiny

from unspoken.layout.attention import CACHED_JOINT, MDM, SCDM, Attention
from unspoken.layout.entries import one_block
from unspoken.layout.packing import Packed
from unspoken.layout.questions import CTC, Question
from unspoken.model.denoiser import Denoiser
from unspoken.model.ports import Codes, Port, Vectors
from unspoken.noise import Absorbing, AnyProcess, Gaussian, Hybrid
from unspoken.tasks import PathStar, Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loop import train, training
from unspoken.training.losses import packed_losses
from unspoken.training.objective import (
    BlockDiffusion,
    Denoising,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Objective,
    Teacherless,
)
from unspoken.training.run import Run

FREE = (6, 4, 1, 0, 2, 6, 3, 5)  # of eight rows of seven tokens
TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(TASK, trunk=TRUNK, steps=4, batch=8, warmup=1, lr=1e-2, save=2, log=1, validate=2)
STAR = PathStar(2, 3, 8, validation=10, test=10)

OBJECTIVES: list[tuple[Objective, Attention, AnyProcess, Port | None]] = [
    (MaskedDiffusion(), SCDM, Absorbing(), None),
    (MaskedDiffusion(bound=True), MDM, Absorbing(), None),
    (MaskedDiffusion(carry=2), CACHED_JOINT, Absorbing(), None),
    (NextTokenPrediction(), CACHED_JOINT, Absorbing(), None),
    (MultiToken(), CACHED_JOINT, Absorbing(), None),
    (MultiToken(window=2, decay=0.9, next_token=0.2), CACHED_JOINT, Absorbing(), None),
    (Teacherless(), CACHED_JOINT, Absorbing(), None),
    (MuToR(), CACHED_JOINT, Absorbing(), None),
    (BlockDiffusion(size=3), CACHED_JOINT, Absorbing(), None),
    (Denoising(), MDM, Hybrid(), None),
    (MaskedDiffusion(), MDM, Absorbing(), Codes(3, 5, placeholder=6)),
    (Denoising(weight="flat"), MDM, Gaussian(), Vectors(3, "v", placeholder=6)),
    (Teacherless(), MDM, Absorbing(), Vectors(3, placeholder=6)),
]


def gradient(model: Denoiser, parts: list[Packed]) -> torch.Tensor:
    """Of the sum of the parts' losses, all weights in a row."""
    model.zero_grad()
    for packed in parts:
        packed.reduce(packed_losses(model, packed)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def cut(packed: Packed, size: int) -> list[Packed]:
    return [packed.rows(first, first + size) for first in range(0, len(FREE), size)]


@pytest.mark.parametrize(
    ("objective", "attention", "process", "port"), OBJECTIVES, ids=[f"{o[0]}-{o[3]}" for o in OBJECTIVES]
)
def test_the_gradient_is_the_whole_batchs_however_it_is_cut(objective, attention, process, port):
    """In float64, to 1e-6 of its norm: two parts, four, eight rows alone, and parts of unlike sizes."""
    x0, given = ragged_clean(FREE)
    given[:, 0] |= isinstance(objective, NextTokenPrediction | MuToR | MultiToken)
    value = None
    if isinstance(port, Vectors):
        value = torch.randn(*x0.shape, 3, generator=seeded(3), dtype=torch.float64)
    elif port is not None:
        value = torch.randint(5, (*x0.shape, 3), generator=seeded(3))
    if port is not None:
        x0 = torch.full_like(x0, 6)
    model = tiny(attention, vocab=7 if port else 6, positions=7, port=port, carry=objective.carries)
    packed = objective.pack(process, x0, given, model.mask_id, seeded(5), value)
    whole = gradient(model, [packed])
    assert whole.norm() > 1e-3
    for parts in (
        cut(packed, 4),
        cut(packed, 2),
        cut(packed, 1),
        [packed.rows(0, 1), packed.rows(1, 6), packed.rows(6, 8)],
    ):
        assert float((gradient(model, parts) - whole).norm() / whole.norm()) < 1e-6


def test_an_alignment_loss_is_cut_with_its_rows():
    model = tiny(MDM, vocab=6, positions=7)
    x0, given = ragged_clean((6, 5, 5, 6, 5, 6, 6, 5))
    layout = one_block(torch.where(given, x0, 6), ~given, torch.zeros_like(x0))
    at = (~given).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :6]
    weight = (~given).gather(1, at) / (~given).sum()
    target = torch.randint(5, at.shape, generator=seeded(2))
    lengths = torch.tensor([2, 1, 2, 2, 1, 1, 2, 1])
    packed = Packed(layout, (Question(at, target, weight, at, loss=CTC(5, lengths)),))
    whole = gradient(model, [packed])
    assert float((gradient(model, cut(packed, 2)) - whole).norm() / whole.norm()) < 1e-6


def test_a_masked_token_weighs_the_same_in_every_row():
    """In rows of few masks as in rows of many, for any number of parts: here one part has 1 mask and another 30."""
    packed = MaskedDiffusion().pack(Absorbing(), *ragged_clean(FREE), 6, seeded(5))
    for part in cut(packed, 1):
        weights = part.weight[part.weight > 0]
        assert torch.equal(weights, torch.full_like(weights, float(packed.weight.max())))


@pytest.mark.parametrize("accumulate", [2, 8])
def test_parts_do_not_change_a_training(accumulate, tmp_path):
    train(CONFIG, tmp_path / "whole")
    train(replace(CONFIG, accumulate=accumulate), tmp_path / "parts")
    whole, parts = (Run(tmp_path / name).metrics() for name in ("whole", "parts"))
    assert [m["loss"] for m in parts] == pytest.approx([m["loss"] for m in whole], abs=1e-5)
    assert parts[-1]["validation"] == pytest.approx(whole[-1]["validation"], abs=1e-4)


@pytest.mark.slow
def test_processes_do_not_change_a_training_and_may_change_on_the_way(tmp_path):
    """Two processes (gloo) train what one does; a run begun on two goes on on one, and the other way round."""
    train(CONFIG, tmp_path / "one")

    def on_two(folder: str, steps: int) -> None:
        code = (
            "from test_cuts import CONFIG; from itertools import islice; from unspoken.training.loop import training;"
            f"list(islice(training(CONFIG, {str(tmp_path / folder)!r}), {steps}))"
        )
        (tmp_path / "job.py").write_text(code)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        done = subprocess.run(
            [*launch, "job.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr

    on_two("two", 4)
    on_two("first two", 2)
    train(CONFIG, tmp_path / "first two")
    one = [m["loss"] for m in Run(tmp_path / "one").metrics()]
    for name in ("two", "first two"):
        assert [m["loss"] for m in Run(tmp_path / name).metrics()] == pytest.approx(one, abs=1e-5)


def environment() -> dict[str, str]:
    import os

    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def test_a_batch_that_does_not_split_over_the_processes_is_refused():
    with pytest.raises(ValueError, match="accumulate=3 equal parts"):
        replace(CONFIG, accumulate=3)


def test_processes_that_would_each_train_alone_are_refused(tmp_path, monkeypatch):
    """As torchrun starts them on CPUs, where accelerate is not told to use them together."""
    train(CONFIG, tmp_path / "alone")  # from now on accelerate knows of one process
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="set ACCELERATE_USE_CPU=true"):
        train(CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_registers_that_fit_nowhere_leave_all_of_the_loss_to_the_next_token():
    """Every row has one free token, and the register is asked for a later one: next tokens weigh 1, not .7."""
    x0, given = ragged_clean((1, 1, 1))
    for seed in range(20):
        packed = MuToR(reach=4).pack(Absorbing(), x0, given, 6, seeded(seed))
        assert float(packed.weight.sum()) == pytest.approx(1)


def test_weights_and_average_are_float32_whatever_the_checkpoint(tmp_path):
    """Small steps must not be lost: nearly all weights move in 40 steps at lr 1e-5, and so does a slow average."""
    start = replace(CONFIG, trunk=Trunk(layers=1, width=16, heads=2), steps=2, save=2)
    half = train(start, tmp_path / "start").to(torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    config = replace(
        CONFIG, trunk=Trunk(checkpoint=str(tmp_path / "half")), steps=40, lr=1e-5, save=40, decay="constant"
    )
    trained = train(config, tmp_path / "run")
    before, after = half.state_dict(), trained.state_dict()
    assert {w.dtype for w in after.values()} == {torch.float32}
    moved = torch.cat([(after[name] != before[name].float()).flatten() for name in before])
    assert moved.float().mean() > 0.95


def test_fp16_on_a_cpu_is_refused_before_anything_is_written(tmp_path):
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator, and fp16 has an effect")
    with pytest.raises(ValueError, match="no effect on a CPU; take 'bf16'"):
        train(replace(CONFIG, precision="fp16"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_trainings_of_different_precision_in_one_process(tmp_path):
    """One after the other, and step by step at the same time: each is what it is alone."""
    bf16 = replace(CONFIG, precision="bf16")
    train(CONFIG, tmp_path / "float32")
    train(bf16, tmp_path / "bf16")
    both = zip(training(CONFIG, tmp_path / "a"), training(bf16, tmp_path / "b"), strict=True)
    assert len(list(both)) == CONFIG.steps
    runs = {n: [m["loss"] for m in Run(tmp_path / n).metrics()] for n in ("float32", "bf16", "a", "b")}
    assert runs["a"] == runs["float32"] and runs["b"] == runs["bf16"] and runs["a"] != runs["b"]


def test_the_rate_of_the_last_step_is_as_documented():
    config = replace(CONFIG, warmup=0)
    assert config.rate(config.steps - 1) == pytest.approx(config.lr / config.steps)
