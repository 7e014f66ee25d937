"""Training runs by name: functions that return a whole config; `dataclasses.replace` changes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.layout.attention import CACHED_JOINT, MDM
from unspoken.layout.groups import Groups
from unspoken.model.codes import Codes
from unspoken.model.ports import Vectors
from unspoken.noise import Gaussian, Hybrid
from unspoken.noise.times import Mixture
from unspoken.systems import forediff as foresight
from unspoken.tasks import Bouncing, Burgers, Chain, Digits, PathStar, Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import Denoising, MaskedDiffusion, MultiToken
from unspoken.training.stages import Made


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


def sudoku_6x6_dial() -> Train:
    """6x6 minimal puzzles, latents in groups: one model for every number of them; five minutes on two cores."""
    # The run that loses least beside all latents: docs/results/LOG.md, "how to train the dial".
    return replace(
        sudoku_6x6(),
        attention=CACHED_JOINT,
        objective=MaskedDiffusion(groups=Groups(0.6)),
        trunk=Trunk(init=0.07),
        steps=750,
        batch=96,
    )


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
        objective=MultiToken(),
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
        objective=MultiToken(prefixes=1),
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


def bouncing() -> Train:
    """Trajectories of a bouncing particle: vectors, each at its own time; three minutes on two cores."""
    # Half of the rows at one shared time: with independent times alone no row is noise from end to end, as a walk
    # along the diagonal begins.
    return Train(
        Bouncing(),
        attention=MDM,
        trunk=Trunk(times=True, init=0.07),
        process=Gaussian("linear"),
        objective=Denoising(times=Mixture(), weight="flat"),
        port=Vectors(2, "x0", placeholder=0),
        steps=3_000,
        batch=64,
        warmup=50,
        validate=1_000,
        save=500,
    )


def digits() -> Train:
    """Small images of digits: patches of codes under masks; two minutes on two cores."""
    return Train(
        Digits(),
        trunk=Trunk(init=0.07),
        port=Codes(16, 17, placeholder=0),
        steps=1_500,
        batch=64,
        warmup=50,
        validate=500,
        save=500,
    )


def forediff_predictor() -> Train:
    """Stage 1 of Foresight Diffusion, of Burgers' equation: the answer from the prompt alone; some minutes."""
    return foresight.predictor(Burgers())


def forediff() -> Train:
    """Stage 2: a flow that reads the frozen predictor of `unspoken train forediff-predictor`; some minutes."""
    stage = Made("runs/forediff-predictor/mdm-teacherless-seed0", "unspoken train forediff-predictor")
    return foresight.foreseeing(Burgers(), stage)


def _hybrid(train: Train) -> Train:
    trunk = replace(train.trunk, times=True)
    return replace(train, attention=MDM, process=Hybrid(0.2), objective=Denoising(), trunk=trunk)


PRESETS: dict[str, Callable[[], Train]] = {
    "sudoku-4x4": sudoku_4x4,
    "sudoku-6x6": sudoku_6x6,
    "sudoku-9x9": sudoku_9x9,
    "sudoku-6x6-dial": sudoku_6x6_dial,
    "path-star": path_star,
    "sudoku-6x6-ar": sudoku_6x6_ar,
    "chain": chain,
    "chain-gidd": chain_gidd,
    "sudoku-6x6-gidd": sudoku_6x6_gidd,
    "bouncing": bouncing,
    "digits": digits,
    "forediff-predictor": forediff_predictor,
    "forediff": forediff,
}
