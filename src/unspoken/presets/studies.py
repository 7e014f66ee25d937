"""Studies by name, each at its full budget and at a quick one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.layout.attention import CACHED_JOINT, JOINT, MDM, SCDM, SIDM
from unspoken.layout.groups import Groups
from unspoken.presets.runs import chain_gidd, path_star, sudoku_6x6, sudoku_6x6_ar, sudoku_6x6_gidd, sudoku_9x9
from unspoken.study.ar_latents import ArLatentsStudy, Setting
from unspoken.study.compared import Comparison
from unspoken.study.decode import DecodeStudy
from unspoken.study.dial import DialStudy
from unspoken.study.forcing import ForcingStudy
from unspoken.study.gidd import GiddStudy
from unspoken.study.latents import LatentsStudy
from unspoken.study.loops import LoopsStudy
from unspoken.study.rivals import DialCase, Rival
from unspoken.study.variants import Change, Variant
from unspoken.tasks import Addition, Sudoku, SudokuGrids
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import MaskedDiffusion

# Chosen on validation puzzles so that neither MDM nor SIDM is saturated: after 1,000 steps MDM solves nearly all.
REFERENCE_STEPS, QUICK_STEPS = 500, 300


def quick() -> LatentsStudy:
    """One seed of the 6x6 study on a shorter budget: what `make run` does, in some seven minutes on two cores."""
    return LatentsStudy(replace(sudoku_6x6(), steps=QUICK_STEPS), seeds=(0,), puzzles=500, draws=16)


def latents_6x6() -> LatentsStudy:
    """Three seeds of MDM, SCDM and SIDM on 6x6 minimal puzzles: the reference study, half an hour on two cores."""
    return LatentsStudy(replace(sudoku_6x6(), steps=REFERENCE_STEPS))


def latents_9x9() -> LatentsStudy:
    """The same at the paper's scale on 9x9: days of one GPU."""
    return LatentsStudy(sudoku_9x9(), seeds=(0,), counts=(0, 4, 8, 16, 32, 81))


LATENTS: dict[str, Callable[[], LatentsStudy]] = {
    "quick": quick,
    "sudoku-6x6": latents_6x6,
    "sudoku-9x9": latents_9x9,
}


def ar_latents() -> ArLatentsStudy:
    """Path-star and 6x6 Sudoku from left to right, two learning rates, seeds: two hours on two cores."""
    return ArLatentsStudy(
        path_star=Setting(path_star(), windows=(2, 0)),
        sudoku=Setting(sudoku_6x6_ar(), windows=(2, 4, 8, 0), questions=13, choosing=300),
    )


def ar_latents_quick() -> ArLatentsStudy:
    """The same with one seed and one learning rate: half an hour on two cores."""
    whole = ar_latents()
    path_star, sudoku = replace(whole.path_star, seeds=(0,)), replace(whole.sudoku, seeds=(0,), choosing=0)
    return replace(whole, path_star=path_star, sudoku=sudoku, rates=(2e-3,))


AR_LATENTS: dict[str, Callable[[], ArLatentsStudy]] = {"reference": ar_latents, "quick": ar_latents_quick}


SIX = Train(Sudoku(), trunk=Trunk(init=0.07), steps=500, batch=96, warmup=50)  # of the dial's studies
COUNTS = (0, 1, 2, 4, 8, 16, 36)
# Chosen on validation puzzles, one seed (docs/results/LOG.md): with half of the rows whole in the beginning and none at
# the end JOINT is no worse than SCDM at any count; three fifths of them whole, for half as many steps again, lose
# nothing beside all latents. From all to none was taken in later, for its share solved beside all (LOG.md).
GROUPED, TOP, TO_SPLIT = Groups(0.5, whole_at_end=0.0), Groups(0.6), Groups(1.0, whole_at_end=0.0)
JOINTS = ("JOINT", "CACHED_JOINT")
DIAL_TOP = "CACHED_JOINT, grouped, longer"
RIVALS = (
    Rival("SIDM", SIDM),
    Rival("SCDM", SCDM),
    Rival("MDM", MDM),
    Rival("JOINT", JOINT),
    Rival("CACHED_JOINT", CACHED_JOINT),
    Rival("JOINT, grouped", JOINT, GROUPED),
    Rival("CACHED_JOINT, grouped", CACHED_JOINT, GROUPED),
    Rival(DIAL_TOP, CACHED_JOINT, TOP, steps=1.5),
    Rival("JOINT, whole to split", JOINT, TO_SPLIT),
    Rival("CACHED_JOINT, whole to split", CACHED_JOINT, TO_SPLIT),
)


def dial() -> DialStudy:
    """Five seeds of the models with and without a dial on 6x6 Sudoku: three hours on two cores."""
    case = DialCase("sudoku-6x6", SIX, COUNTS)
    grouped = tuple(f"{attention}, {recipe}" for recipe in ("grouped", "whole to split") for attention in JOINTS)
    return DialStudy((case,), RIVALS, grouped=grouped, top=DIAL_TOP, top_draws=4, puzzles=250, draws=8)


def dial_quick() -> DialStudy:
    """One seed of SCDM, MDM and grouped latents on a shorter budget."""
    case = DialCase("sudoku-6x6", replace(SIX, steps=200), COUNTS, seeds=(0,))
    rivals = tuple(r for r in RIVALS if r.name in ("SCDM", "MDM", "CACHED_JOINT, grouped"))
    return DialStudy((case,), rivals, grouped=("CACHED_JOINT, grouped",), puzzles=200, draws=8)


def dial_top() -> DialStudy:
    """What a model with the dial loses beside all latents, over four draws of candidates: half an hour on one core."""
    whole = dial()
    case = replace(whole.cases[0], counts=(0, 36))
    rivals = tuple(r for r in RIVALS if r.name in (whole.best, whole.top))
    return replace(whole, cases=(case,), rivals=rivals, grouped=())


def dial_tasks() -> DialStudy:
    """Three seeds of SCDM, MDM and grouped latents on carry addition and on grids, where latents matter too."""
    seeds = (0, 1, 2)
    # Chosen on validation by one seed of MDM. Of sums of up to 10 digits seeds differ much.
    sums = replace(SIX, task=Addition(least=3, digits=6), steps=1_000)
    grids = DialCase(
        "sudoku-grids", replace(SIX, task=SudokuGrids()), COUNTS, 2, seeds, order="uniform", temperature=1.0
    )
    cases = (DialCase("addition", sums, (0, 1, 2, 4, 8, 16, 21), 2, seeds), grids)
    rivals = tuple(r for r in RIVALS if r.name in ("SCDM", "MDM", "CACHED_JOINT, grouped"))
    return DialStudy(cases, rivals, grouped=("CACHED_JOINT, grouped",), puzzles=250, draws=8)


def dial_tried() -> DialStudy:
    """Eighteen ways to train the dial, one seed each, on validation puzzles."""
    cached = CACHED_JOINT
    rivals = (
        Rival("SCDM", SCDM),
        Rival("MDM", MDM),
        Rival("CACHED_JOINT", cached),
        Rival("a quarter whole", cached, Groups()),
        Rival("a quarter whole, bidirectional", JOINT, Groups()),
        Rival("uniform sizes", cached, Groups(sizes="uniform")),
        Rival("neighbours", cached, Groups(members="near")),
        Rival("those attended to", cached, Groups(), related="cached-joint"),
        Rival("half whole to split", cached, GROUPED),
        Rival("half whole to split, bidirectional", JOINT, GROUPED),
        Rival("whole to split", cached, TO_SPLIT),
        Rival("whole to split, bidirectional", JOINT, TO_SPLIT),
        Rival("whole to split, small sizes weigh more", cached, Groups(1.0, whole_at_end=0.0, weight=-0.5)),
        Rival("whole to split, sizes shrink", cached, Groups(0.6, whole_at_end=0.0, over_training="shrinking")),
        Rival("three fifths whole, longer", cached, TOP, steps=1.5),
        Rival("both", cached, Groups(both=True)),
        Rival("both, half taught", cached, Groups(both=True, distil=0.5)),
        Rival("tuned in a tenth", cached, Groups(), steps=0.1, lr=0.5, start="cached-joint"),
    )
    case = DialCase("sudoku-6x6", SIX, COUNTS, seeds=(0,))
    return DialStudy((case,), rivals, split="validation")


DIAL: dict[str, Callable[[], DialStudy]] = {
    "reference": dial,
    "quick": dial_quick,
    "top": dial_top,
    "tasks": dial_tasks,
    "tried": dial_tried,
}


def decode_6x6() -> DecodeStudy:
    """Three seeds of MDM and of two models with a cache on 6x6 minimal puzzles: hours on two cores."""
    train = replace(SIX, task=Sudoku(validation=2_000), steps=1_200)
    groups = MaskedDiffusion(groups=TOP)
    return DecodeStudy(train, replace(train, attention=CACHED_JOINT, objective=groups, steps=1_800))


def decode_quick() -> DecodeStudy:
    """One seed on a shorter budget, fewer puzzles."""
    whole = decode_6x6()
    train, dial = (replace(run, task=Sudoku(), steps=400) for run in (whole.train, whole.dial))
    return replace(whole, train=train, dial=dial, seeds=(0,), puzzles=200, held_out=200, draws=2)


DECODE: dict[str, Callable[[], DecodeStudy]] = {"reference": decode_6x6, "quick": decode_quick}


def gidd() -> GiddStudy:
    """Masks and hybrid noise on the chain (three seeds) and on 6x6 Sudoku (one): half an hour on two cores."""
    return GiddStudy(chain_gidd(), sudoku_6x6_gidd())


def gidd_quick() -> GiddStudy:
    """One seed of a third of the steps: some minutes on two cores."""
    whole = gidd()
    short, puzzles = replace(whole.train, steps=500), replace(whole.puzzles, steps=200)
    return replace(whole, train=short, puzzles=puzzles, seeds=(0,), passes=(16,), puzzle_passes=(8,), sequences=200)


GIDD: dict[str, Callable[[], GiddStudy]] = {"reference": gidd, "quick": gidd_quick}


def forcing() -> ForcingStudy:
    """Shared, independent and mixed times on the chain, three seeds: a quarter of an hour on two cores."""
    return ForcingStudy(chain_gidd())


def forcing_quick() -> ForcingStudy:
    """One seed of a third of the steps: some minutes on two cores."""
    whole = forcing()
    return replace(whole, train=replace(whole.train, steps=500), seeds=(0,), passes=(24,), sequences=200)


FORCING: dict[str, Callable[[], ForcingStudy]] = {"reference": forcing, "quick": forcing_quick}


def _of(layers: int, loops: int = 1) -> str:
    """The name of a variant."""
    return f"{layers} layer{'s' * (layers > 1)}" + (f", {loops} loops" if loops > 1 else "")


def _loops(train: Train, loops: int = 2) -> LoopsStudy:
    """MDM as it is, looped, and trained longer; and fewer layers, looped up to as many FLOPs and not looped."""
    layers = train.trunk.layers
    plain, looped, longer = _of(layers), _of(layers, loops), f"{_of(layers)}, longer"
    fewer = ((layers // loops, loops), (1, layers))
    variants = [
        Variant(plain),
        Variant(looped, (Change("trunk.loops", loops),)),
        Variant(longer, steps=loops),
    ]
    same = Comparison("loops, equal parameters", looped, plain, ("parameters",))
    paid = Comparison("loops, equal parameters and training FLOPs", looped, longer, ("parameters", "training_flops"))
    comparisons = [same, paid]
    for few, times in fewer:
        mine, own, claim = _of(few, times), _of(few), f"loops, equal FLOPs, {_of(few, times)}"
        size = Change("trunk.layers", few)
        variants += [Variant(mine, (size, Change("trunk.loops", times))), Variant(own, (size,))]
        comparisons.append(Comparison(claim, mine, plain, ("pass_flops", "training_flops"), lost=0.01))
        comparisons.append(Comparison(claim, mine, own, ("parameters",)))
    return LoopsStudy(replace(train, attention=MDM), tuple(variants), tuple(comparisons))


def _carried(study: LoopsStudy) -> LoopsStudy:
    """With models that carry states, with and without a cache, beside plain ones of as many training FLOPs."""
    plain, carry, cached = study.variants[0].name, Change("objective.carry", 1), Change("attention", "cached-joint")
    variants = [Variant("carried states", (carry,))]
    comparisons = []
    for mine, other, changes in (("carried states", plain, ()), ("cached, carried states", "cached", (cached,))):
        if changes:
            variants += [Variant(other, changes), Variant(f"{other}, longer", changes, steps=2)]
            variants.append(Variant(mine, (*changes, carry)))
        comparisons.append(Comparison(mine, mine, other, ("pass_flops",)))
        comparisons.append(Comparison(mine, mine, f"{other}, longer", ("pass_flops", "training_flops")))
    return replace(study, variants=(*study.variants, *variants), comparisons=(*study.comparisons, *comparisons))


def loops() -> LoopsStudy:
    """Three seeds of looped trunks and of carried states on 6x6 minimal puzzles: 33 runs, hours on two cores."""
    return _carried(_loops(SIX))


def loops_quick() -> LoopsStudy:
    """One seed of MDM, looped and not, and of half its layers, on a shorter budget."""
    whole = _loops(replace(SIX, steps=200))
    variants, names = whole.variants[:5], [its.name for its in whole.variants[:5]]
    comparisons = tuple(c for c in whole.comparisons if c.mine in names)
    return replace(whole, variants=variants, comparisons=comparisons, seeds=(0,), puzzles=200, draws=4)


def loops_9x9() -> LoopsStudy:
    """The same at the paper's scale on 9x9: a GPU's work."""
    return _loops(sudoku_9x9())


LOOPS: dict[str, Callable[[], LoopsStudy]] = {"reference": loops, "quick": loops_quick, "sudoku-9x9": loops_9x9}
