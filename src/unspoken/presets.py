"""Presets: functions that return a whole config. The CLI lists them; `dataclasses.replace` changes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.attention import CACHED_JOINT, MDM
from unspoken.config import Train, Trunk
from unspoken.objective import Diffused, LatentBlocks
from unspoken.process import Hybrid
from unspoken.study.ar_latents import ArLatents, Setting
from unspoken.study.decode import Decode
from unspoken.study.forcing import Forcing
from unspoken.study.gidd import Gidd
from unspoken.study.latents import Latents
from unspoken.tasks import Chain, PathStar, Sudoku

# Chosen on validation puzzles so that neither MDM nor SIDM is saturated: after 1,000 steps MDM solves nearly all.
REFERENCE_STEPS, QUICK_STEPS = 500, 300


def sudoku_4x4() -> Train:
    """4x4 boards, a tiny trunk: seconds to a minute on a CPU, to see everything run."""
    task = Sudoku(box_rows=2, box_cols=2, givens=6, train=2_000, validation=20, test=20)
    return Train(
        task,
        trunk=Trunk(layers=2, width=64, heads=4),
        steps=400,
        batch=128,
        warmup=30,
        validate=100,
        save=100,
    )


def sudoku_6x6() -> Train:
    """6x6 minimal puzzles (10 givens), 30,000 of them under every symmetry: five minutes on two cores."""
    return Train(Sudoku(box_rows=2, box_cols=3), warmup=50)


def sudoku_9x9() -> Train:
    """9x9 minimal puzzles at the paper's scale (arXiv 2602.03769: 19M parameters, 512 x 6): a GPU's work."""
    task = Sudoku(box_rows=3, box_cols=3, train=100_000)
    return Train(
        task,
        trunk=Trunk(layers=6, width=512, heads=8),
        steps=70_000,
        batch=512,
        lr=3e-4,
        decay="constant",
        warmup=2_500,
        ema=0.9999,
        validate=1_000,
        save=1_000,
        log=50,
    )


def path_star() -> Train:
    """Path-star, degree 2, 5 nodes, from left to right beside latents: ten minutes on two cores."""
    # At least two layers a hop (find who leads there, hand it to the slot before): shallower trunks learn no lookahead.
    return Train(
        PathStar(degree=2, nodes=5, names=12),
        attention=CACHED_JOINT,
        objective=LatentBlocks(),
        trunk=Trunk(layers=7, width=64, heads=4, init=0.08),
        steps=2_000,
        batch=128,
        decay="constant",
        warmup=100,
    )


def sudoku_6x6_ar() -> Train:
    """6x6 minimal puzzles from left to right beside latents: two minutes on two cores."""
    return replace(
        sudoku_6x6(),
        attention=CACHED_JOINT,
        objective=LatentBlocks(prefixes=1),
        trunk=Trunk(init=0.07),
        steps=400,
        batch=128,
    )


def chain() -> Train:
    """A sparse Markov chain, whose likelihood is known: a minute on two cores."""
    trunk = Trunk(layers=2, width=64, heads=4, init=0.08)
    return Train(Chain(), trunk=trunk, steps=1_500, batch=64, lr=3e-3, warmup=50, validate=500, save=500)


def chain_gidd() -> Train:
    """The chain under GIDD's hybrid noise, every token shown its time: a minute on two cores."""
    return _hybrid(chain())


def sudoku_6x6_gidd() -> Train:
    """6x6 minimal puzzles under GIDD's hybrid noise: ten minutes on two cores."""
    return _hybrid(replace(sudoku_6x6(), trunk=Trunk(init=0.07)))


def _hybrid(train: Train) -> Train:
    trunk = replace(train.trunk, times=True)
    return replace(train, attention=MDM, process=Hybrid(0.2), objective=Diffused(), trunk=trunk)


PRESETS: dict[str, Callable[[], Train]] = {
    "sudoku-4x4": sudoku_4x4,
    "sudoku-6x6": sudoku_6x6,
    "sudoku-9x9": sudoku_9x9,
    "path-star": path_star,
    "sudoku-6x6-ar": sudoku_6x6_ar,
    "chain": chain,
    "chain-gidd": chain_gidd,
    "sudoku-6x6-gidd": sudoku_6x6_gidd,
}


def quick() -> Latents:
    """One seed of the 6x6 study on a shorter budget: what `make run` does, in some seven minutes on two cores."""
    return Latents(replace(sudoku_6x6(), steps=QUICK_STEPS), seeds=(0,), puzzles=500, draws=16)


def latents_6x6() -> Latents:
    """Three seeds of MDM, SCDM and SIDM on 6x6 minimal puzzles: the reference study, half an hour on two cores."""
    return Latents(replace(sudoku_6x6(), steps=REFERENCE_STEPS))


def latents_9x9() -> Latents:
    """The same at the paper's scale on 9x9: days of one GPU."""
    return Latents(sudoku_9x9(), seeds=(0,), counts=(0, 4, 8, 16, 32, 81))


LATENTS: dict[str, Callable[[], Latents]] = {
    "quick": quick,
    "sudoku-6x6": latents_6x6,
    "sudoku-9x9": latents_9x9,
}


def ar_latents() -> ArLatents:
    """Path-star and 6x6 Sudoku from left to right, two learning rates, seeds: two hours on two cores."""
    return ArLatents(
        path_star=Setting(path_star(), windows=(2, 0)),
        sudoku=Setting(sudoku_6x6_ar(), windows=(2, 4, 8, 0), questions=13, choosing=300),
    )


def ar_latents_quick() -> ArLatents:
    """The same with one seed and one learning rate: half an hour on two cores."""
    whole = ar_latents()
    path_star, sudoku = replace(whole.path_star, seeds=(0,)), replace(whole.sudoku, seeds=(0,), choosing=0)
    return replace(whole, path_star=path_star, sudoku=sudoku, rates=(2e-3,))


AR_LATENTS: dict[str, Callable[[], ArLatents]] = {"reference": ar_latents, "quick": ar_latents_quick}


def decode_6x6() -> Decode:
    """Three seeds of MDM, SCDM and the cached model on 6x6 minimal puzzles, read at 9x9: two hours on two cores."""
    train = replace(sudoku_6x6(), trunk=Trunk(init=0.07), steps=2_400)
    clock = replace(sudoku_9x9(), task=Sudoku(3, 3, train=1_000), trunk=Trunk(layers=6, width=256, heads=8))
    return Decode(train, replace(train, steps=1_200), clock)


def decode_quick() -> Decode:
    """One seed on a shorter budget, fewer puzzles: some ten minutes on two cores."""
    whole = decode_6x6()
    short = replace(whole.train, steps=400)
    return replace(
        whole, train=short, dial=short, seeds=(0,), puzzles=200, batches=(16, 64), draws=2, counts=(0, 1, 2, 4, 8, 36)
    )


DECODE: dict[str, Callable[[], Decode]] = {"reference": decode_6x6, "quick": decode_quick}


def gidd() -> Gidd:
    """Masks and hybrid noise on the chain (three seeds) and on 6x6 Sudoku (one): half an hour on two cores."""
    return Gidd(chain_gidd(), sudoku_6x6_gidd())


def gidd_quick() -> Gidd:
    """One seed of a third of the steps: some minutes on two cores."""
    whole = gidd()
    short, puzzles = replace(whole.train, steps=500), replace(whole.puzzles, steps=200)
    return replace(whole, train=short, puzzles=puzzles, seeds=(0,), passes=(16,), puzzle_passes=(8,), sequences=200)


GIDD: dict[str, Callable[[], Gidd]] = {"reference": gidd, "quick": gidd_quick}


def forcing() -> Forcing:
    """Shared, independent and mixed times on the chain, three seeds: a quarter of an hour on two cores."""
    return Forcing(chain_gidd())


def forcing_quick() -> Forcing:
    """One seed of a third of the steps: some minutes on two cores."""
    whole = forcing()
    return replace(whole, train=replace(whole.train, steps=500), seeds=(0,), passes=(24,), sequences=200)


FORCING: dict[str, Callable[[], Forcing]] = {"reference": forcing, "quick": forcing_quick}
