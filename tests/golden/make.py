"""Numbers of before the house was rebuilt: training losses, decodings, bounds and data. They must never change.

`python tests/golden/make.py` (from the repository's root) writes them anew; only a change that is meant to change a
number may do so.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import unspoken as us

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy import ragged_clean, seeded, tiny

GOLDEN = Path(__file__).with_name("golden.json")

TRAININGS: dict[str, tuple[Any, us.Attention, Any]] = {
    "masked mdm": (us.MaskedDiffusion(), us.MDM, us.Absorbing()),
    "masked scdm": (us.MaskedDiffusion(), us.SCDM, us.Absorbing()),
    "masked cached-joint": (us.MaskedDiffusion(), us.CACHED_JOINT, us.Absorbing()),
    "masked bound scdm": (us.MaskedDiffusion(bound=True), us.SCDM, us.Absorbing(us.Cosine())),
    "next token cached-joint": (us.NextTokenPrediction(), us.CACHED_JOINT, us.Absorbing()),
    "latents cached-joint": (us.MultiToken(window=3, decay=0.9, next_token=0.2), us.CACHED_JOINT, us.Absorbing()),
    "latents any-order": (us.MultiToken(prefixes=2, order="random"), us.ANY_ORDER, us.Absorbing()),
    "teacherless mdm": (us.Teacherless(), us.MDM, us.Absorbing()),
    "teacherless cached-joint": (us.Teacherless(), us.CACHED_JOINT, us.Absorbing()),
    "registers cached-joint": (us.MuToR(), us.CACHED_JOINT, us.Absorbing()),
    "blocks cached-joint": (us.BlockDiffusion(size=3), us.CACHED_JOINT, us.Absorbing()),
    "blocks bound any-order": (us.BlockDiffusion(size=3, bound=True), us.ANY_ORDER, us.Absorbing()),
    "diffused mdm": (us.Denoising(times=us.Mixture()), us.MDM, us.Hybrid()),
    "diffused elbo mdm": (us.Denoising(weight="elbo"), us.MDM, us.Uniform()),
}


def losses(name: str, steps: int = 20) -> list[float]:
    """Twenty training losses, in float32 as training computes them, on one thread."""
    objective, attention, process = TRAININGS[name]
    config = replace(
        us.presets.sudoku_4x4(),
        trunk=us.Trunk(layers=1, width=32, heads=2, times=name.startswith("diffused"), init=0.1),
        attention=attention,
        objective=objective,
        process=process,
        steps=steps,
        batch=16,
        warmup=5,
        validate=steps,
        save=steps,
        log=1,
        precision="no",
    )
    with tempfile.TemporaryDirectory() as folder:
        updates = list(us.training(config, Path(folder) / "run"))
    return [float(u.loss) for u in updates if u.loss is not None]


def prompts() -> Tensor:
    """Four ragged rows of seven tokens, some of them masked: every row has a prompt."""
    x0, given = ragged_clean()
    return torch.where(given, x0, 6)


SLOTS: dict[str, tuple[us.Attention, dict[str, Any]]] = {
    "all": (us.MDM, {}),
    "two latents": (us.SCDM, {"latents": 2, "candidates": 2}),
    "nobody": (us.SIDM, {"latents": 0, "candidates": 1}),
    "cached": (us.CACHED_JOINT, {"latents": 2, "candidates": 3}),
    "recomputed": (us.CACHED_JOINT, {"latents": 2, "candidates": 3, "cache": False}),
    "threshold": (us.CACHED_JOINT, {"commit": 3, "threshold": 0.4}),
    "entropy bound": (us.CACHED_JOINT, {"commit": 4, "entropy_bound": 1.5, "order": "entropy"}),
    "nearest": (us.ANY_ORDER, {"latents": 1, "candidates": 2, "latent_policy": "nearest"}),
    "oldest": (us.SCDM, {"latents": 1, "candidates": 2, "latent_policy": "oldest", "order": "margin"}),
    "uncertain": (us.MDM, {"latents": 1, "candidates": 2, "latent_policy": "uncertain"}),
    "promising": (us.MDM, {"latents": 2, "candidates": 2, "latent_policy": "certain", "order": "promising"}),
    "from the left": (us.CACHED_JOINT, {"order": "left_to_right", "latent_policy": "next", "latents": 2}),
    "widening": (us.CACHED_JOINT, {"latents": 1, "candidates": 2, "min_confidence": 0.9}),
    "stale": (us.CACHED_JOINT, {"latents": 2, "candidates": 2, "stale": True}),
    "waiting": (us.SCDM, {"latents": 1, "keep_finished": True, "order": "uniform"}),
    "apart": (us.CACHED_JOINT, {"latents": 1, "candidates": 2, "rebatch": 0.05}),
    "sampled": (us.MDM, {"latents": 2, "temperature": 0.7}),
    "planned": (us.MDM, {"commit": (1, 2, 3), "order": "uniform", "temperature": 1.0}),
}
OTHERS: dict[str, us.Attention] = {
    "next token": us.CACHED_ALONE,
    "next token recomputed": us.CACHED_ALONE,
    "speculation": us.CACHED_JOINT,
    "blocks": us.CACHED_JOINT,
    "blocks recomputed": us.CACHED_JOINT,
    "walk uniform": us.MDM,
    "walk hybrid and second thoughts": us.MDM,
    "walk masks": us.MDM,
}


DECODERS: dict[str, us.Decoder] = {
    "next token": us.NextToken(),
    "next token recomputed": us.NextToken(cache=False),
    "speculation": us.Speculation(latents=3, drafts=2),
    "blocks": us.Blocks(size=3, commit=2),
    "blocks recomputed": us.Blocks(size=3, cache=False),
    "walk uniform": us.Walk(us.Uniform(), passes=4),
    "walk hybrid and second thoughts": us.Walk(us.Hybrid(), passes=4, rounds=3),
    "walk masks": us.Walk(),
}


def decoding(name: str) -> list[dict[str, Any]]:
    """What every pass said and how probable it held it, in float64."""
    if name in SLOTS:
        attention, options = SLOTS[name]
        steps = us.decode(tiny(attention, positions=7), prompts(), **options, generator=seeded(3))
    else:
        steps = us.decode(tiny(OTHERS[name], positions=7), prompts(), decoder=DECODERS[name], generator=seeded(3))
    return [
        {
            "tokens": step.tokens.tolist(),
            "confidence": step.confidence.tolist(),
            "entries": [step.entries, step.cached, step.asked],
        }
        for step in steps
    ]


PROCESSES = {"masks": us.Absorbing(), "uniform": us.Uniform(), "hybrid": us.Hybrid(), "mix": us.SNRMix(b=-2)}
PATHS = {"diagonal": us.Diagonal(), "from the left": us.Autoregressive(), "pyramid": us.Pyramid(0.3)}


def bounds() -> dict[str, list[list[float]]]:
    """NELBOs along paths, in float64."""
    x0, given = ragged_clean()
    model = tiny(us.MDM, positions=7)
    found = {
        f"{name} {way}": us.nelbo_along(
            us.predictor(model, given), process, x0, given, 6, path=path, draws=2, generator=seeded(1)
        ).tolist()
        for name, process in PROCESSES.items()
        for way, path in PATHS.items()
    }
    with torch.no_grad():
        found["masks in one pass"] = us.nelbo(model, us.Absorbing(), x0, given, seeded(1), draws=2).tolist()
        scdm = tiny(us.SCDM, positions=7)
        found["by latents"] = us.nll_by_latents(scdm, x0[:3], given[:3], [0, 1, 6], seeded(1), draws=4).tolist()
    return found


TASKS: dict[str, Any] = {
    "sudoku 4x4": us.tasks.Sudoku(box_rows=2, box_cols=2, givens=6, train=2_000, validation=20, test=20),
    "sudoku 6x6": us.tasks.Sudoku(train=300, validation=20, test=20),
    "sudoku grids": us.tasks.SudokuGrids(train=300, validation=20, test=20),
    "path-star": us.tasks.PathStar(validation=50, test=50),
    "paths": us.tasks.Paths(train=300, validation=20, test=20),
    "countdown": us.tasks.Countdown(train=300, validation=20, test=20),
    "colouring": us.tasks.Colouring(train=300, validation=20, test=20),
    "sat": us.tasks.Sat(train=300, validation=20, test=20),
    "zebra": us.tasks.Zebra(houses=3, attributes=3, train=300, validation=20, test=20),
    "chain": us.tasks.Chain(),
    "text": us.tasks.Text(),
}


def data(name: str) -> str:
    """A hash of the first examples of every split, and of random training examples."""
    task = TASKS[name]
    parts = [task.sample(split, 20) for split in ("train", "validation", "test")]
    parts.append(task.sample("train", 32, seeded(5)))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.x0.numpy().tobytes() + part.given.numpy().tobytes())
    return digest.hexdigest()


def machine() -> str:
    """What the last bit of float32 depends on."""
    return f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}"


def all_numbers() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "machine": machine(),
        "losses": {name: losses(name) for name in TRAININGS},
        "decodings": {name: decoding(name) for name in [*SLOTS, *OTHERS]},
        "bounds": bounds(),
        "data": {name: data(name) for name in TASKS},
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(all_numbers(), indent=None, separators=(",", ":")) + "\n")
