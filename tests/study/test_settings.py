"""Laws of the families: which settings a model has follows from what it was trained on."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from toy import TRUNK

from unspoken.decoders.autoregressive import NextToken, Speculation
from unspoken.decoders.blocks import Blocks
from unspoken.decoders.decode import Decoders
from unspoken.decoders.denoise import Walk
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, JOINT, MDM, SCDM, SIDM, Attention
from unspoken.layout.groups import Groups
from unspoken.noise import Hybrid
from unspoken.study.families import FAMILIES, Grid, Kind, drawn_of, settings_of
from unspoken.tasks import Sudoku, Text
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import (
    BlockDiffusion,
    Denoising,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Objectives,
    Teacherless,
)

FEW = Grid(thresholds=(0.5,), entropies=(0.5,), sizes=(2, 0), latents=(0, 4), drafts=(1, 2), candidates=2)


def kind(attention: Attention, objective: Objectives | None = None, most: int = 8, **changes) -> Kind:
    """A model of a board, trained on what is given."""
    config = Train(Sudoku(2, 2), attention, TRUNK, objective=objective or MaskedDiffusion())
    return Kind(replace(config, **changes), FEW, most)


MASKED = {  # candidates see each other, and all are
    ("one", "1 a pass"): Slots(candidates=8),
    ("sizes", "2 a pass"): Slots(candidates=8, commit=2),
    ("sizes", "8 a pass"): Slots(candidates=8, commit=8),
    ("threshold", "p 0.5"): Slots(candidates=8, commit=8, threshold=0.5),
    ("entropy", "nats 0.5"): Slots(candidates=8, commit=8, entropy_bound=0.5),
}
ORDERED = {  # they do not, and few leave room for latents
    ("one", "1 a pass"): Slots(candidates=2),
    ("sizes", "2 a pass"): Slots(candidates=2, commit=2),
    ("sizes", "8 a pass"): Slots(candidates=8, commit=8),
    ("threshold", "p 0.5"): Slots(candidates=2, commit=2, threshold=0.5),
    ("entropy", "nats 0.5"): Slots(candidates=2, commit=2, entropy_bound=0.5),
}
NONE, FOUR = (
    {
        ("latents", f"latents {n}"): Slots(n, 2),
        ("latents", f"latents {n}, p 0.5"): Slots(n, 2, commit=2, threshold=0.5),
    }
    for n in (0, 4)
)


def beside(commit: int, latents: int | None, **rule: Any) -> Slots:
    return Slots(latents, commit=commit, order="left_to_right", latent_policy="next", **rule)


WALKS = {("walk", f"passes {n}"): Walk(passes=n) for n in (8, 4, 1)}
EXPECTED: Mapping[str, tuple[Kind, Mapping[tuple[str, str], Decoders]]] = {
    "mdm": (kind(MDM), MASKED),
    "joint": (kind(JOINT), MASKED),
    "cached joint": (kind(CACHED_JOINT), MASKED),
    "grouped": (kind(CACHED_JOINT, MaskedDiffusion(groups=Groups())), MASKED | NONE | FOUR),
    "sidm": (kind(SIDM), MASKED | NONE),
    "scdm": (kind(SCDM), ORDERED | NONE | FOUR),
    "any order": (kind(ANY_ORDER), ORDERED | NONE | FOUR),
    "next token": (kind(CACHED_ALONE, NextTokenPrediction()), {("one", "1 a pass"): NextToken()}),
    "registers": (kind(CACHED_JOINT, MuToR()), {("one", "1 a pass"): NextToken()}),
    "mask slot": (kind(CACHED_ALONE, MultiToken(window=1)), {("one", "1 a pass"): beside(1, 0)}),
    "pause": (kind(CACHED_JOINT, MultiToken(weight=0.0)), {("one", "1 a pass"): beside(1, None)}),
    "window": (
        kind(CACHED_JOINT, MultiToken(window=3, next_token=0.5)),
        {
            ("one", "1 a pass"): beside(1, 2),
            ("sizes", "2 a pass"): beside(2, 1),
            ("sizes", "3 a pass"): beside(3, 0),
            ("threshold", "p 0.5"): beside(3, 0, threshold=0.5),
            ("entropy", "nats 0.5"): beside(3, 0, entropy_bound=0.5),
            ("next", "next token"): NextToken(),
            ("drafts", "drafts 1"): Speculation(2, 1),
            ("drafts", "drafts 2"): Speculation(2, 2),
        },
    ),
    "teacherless": (kind(MDM, Teacherless()), {("sizes", "8 a pass"): kind(MDM, Teacherless()).own}),
    "blocks": (
        kind(CACHED_JOINT, BlockDiffusion(4)),
        {
            ("one", "1 a pass"): Blocks(4),
            ("sizes", "2 a pass"): Blocks(4, commit=2),
            ("sizes", "4 a pass"): Blocks(4, commit=4),
        },
    ),
    "denoising masks": (kind(MDM, Denoising()), MASKED | WALKS),
    "other noise": (
        kind(MDM, Denoising(), process=Hybrid(0.2), trunk=Trunk(1, 16, 2, times=True)),
        {key: replace(walk, process=Hybrid(0.2)) for key, walk in WALKS.items()},
    ),
}


@pytest.mark.parametrize("model", EXPECTED)
def test_a_models_settings_are_what_it_was_trained_for(model: str) -> None:
    its, expected = EXPECTED[model]
    found = settings_of(its)
    assert found == expected
    assert len(set(found.values())) == len(found)


def test_every_family_has_a_model_above() -> None:
    assert {family for _, settings in EXPECTED.values() for family, _ in settings} == set(FAMILIES)


def test_families_are_chosen_and_none_is_refused() -> None:
    chosen = replace(kind(SCDM), grid=replace(FEW, families=("latents", "one")))
    assert [family for family, _ in settings_of(chosen)] == ["latents"] * 4 + ["one"]
    with pytest.raises(ValueError, match=r"families=\('walk',\): attention scdm trained with MaskedDiffusion"):
        settings_of(replace(kind(SCDM), grid=replace(FEW, families=("walk",))))


def test_a_run_that_says_one_token_has_no_setting_of_more() -> None:
    assert settings_of(kind(MDM, most=1)) == {("one", "1 a pass"): Slots(candidates=1)}


def test_masks_are_drawn_in_random_order_and_what_draws_nothing_is_refused() -> None:
    drawn = drawn_of(Kind(Train(Text(length=8), MDM, TRUNK), replace(FEW, temperatures=(0.5,), drawn=(1, 0)), 8))
    assert drawn == {
        ("1 a pass", 0.5): Slots(commit=1, order="uniform", temperature=0.5),
        ("8 a pass", 0.5): Slots(commit=8, order="uniform", temperature=0.5),
    }
    (walk,) = drawn_of(replace(EXPECTED["other noise"][0], grid=replace(FEW, drawn=(3,)))).items()
    assert walk == (("3 a pass", 1.0), Walk(Hybrid(0.2), passes=3))
    at_once = drawn_of(replace(EXPECTED["teacherless"][0], grid=replace(FEW, temperatures=(0.5,))))
    assert at_once == {("8 a pass", 0.5): replace(kind(MDM, Teacherless()).own, temperature=0.5)}
    with pytest.raises(ValueError, match="draws none"):
        drawn_of(EXPECTED["next token"][0])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Grid(families=("luck",)), "no family is called 'luck'; give some of one, sizes, threshold"),
        (lambda: Grid(families=("one", "one")), "each once"),
        (lambda: Grid(thresholds=()), "give thresholds"),
        (lambda: Grid(thresholds=(0.0,)), "probabilities"),
        (lambda: Grid(entropies=(math.inf,)), "nats"),
        (lambda: Grid(sizes=(1,)), "above 1"),
        (lambda: Grid(drawn=(-1,)), "0 for all"),
        (lambda: Grid(latents=(-1,)), "latents of 0 or more"),
        (lambda: Grid(drafts=(0,)), "drafts and candidates of 1 or more"),
        (lambda: Grid(candidates=0), "drafts and candidates of 1 or more"),
        (lambda: Grid(temperatures=(0.0,)), "at 0 nothing is drawn"),
    ],
)
def test_bad_grids_are_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
