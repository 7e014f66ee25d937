"""Laws of the run folder: records read back, a kill never leaves half of anything, other runs are refused."""

import json
import os
import re
import types
import typing
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TRUNK

from unspoken import presets
from unspoken.codecs import Shape
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import ATTENTIONS, CACHED_ALONE, Attention
from unspoken.layout.groups import Groups, Related
from unspoken.model.codes import Codes
from unspoken.model.ports import Vectors
from unspoken.model.posterior import Posterior
from unspoken.noise import Absorbing, Gaussian, Hybrid, SNRMix, Uniform
from unspoken.noise.schedule import Cosine, Linear, Polynomial
from unspoken.noise.thoughts import Thoughts
from unspoken.noise.times import (
    AlongPath,
    Autoregressive,
    BlockConstant,
    Blockwise,
    Diagonal,
    Independent,
    Mixture,
    PrefixClean,
    Pyramid,
    Shared,
    Sizes,
    Trapezoid,
)
from unspoken.presets.adapt import adapt
from unspoken.record import as_json, environment, from_record, new_folder, read_json, to_record, write_json, write_text
from unspoken.study.adapt import AdaptStudy
from unspoken.study.ar_latents import ArLatentsStudy, Setting
from unspoken.study.curves import CurvesStudy
from unspoken.study.dial import DialStudy
from unspoken.study.families import Grid
from unspoken.study.forcing import ForcingStudy
from unspoken.study.forediff import ForediffStudy
from unspoken.study.gidd import GiddStudy
from unspoken.study.ladir import LadirStudy
from unspoken.study.latents import LatentsStudy
from unspoken.study.loops import LoopsStudy
from unspoken.study.narvl import NarvlStudy
from unspoken.study.steps import StepsStudy
from unspoken.study.tokenbridge import TokenbridgeStudy
from unspoken.tasks import (
    Addition,
    Arithmetic,
    Bouncing,
    Burgers,
    Chain,
    Colouring,
    Countdown,
    Digits,
    ImageCodes,
    Paths,
    PathStar,
    Permutations,
    Prompted,
    Sat,
    Scenes,
    Strips,
    Sudoku,
    SudokuGrids,
    Text,
    Zebra,
)
from unspoken.training.config import Train, Trunk
from unspoken.training.foresight import Foresight
from unspoken.training.objective import (
    Autoencoding,
    BlockDiffusion,
    Denoising,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    QueryCTC,
    Teacherless,
    ThoughtDiffusion,
)
from unspoken.training.run import Run
from unspoken.training.stages import Made

TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(TASK, trunk=TRUNK)

above_0 = st.floats(1e-6, 1e6)
schedules = st.one_of(st.builds(Linear), st.builds(Cosine), st.builds(Polynomial, power=above_0))
attentions = st.one_of(
    st.sampled_from(list(ATTENTIONS.values())),
    st.builds(Attention, st.sampled_from(["bidirectional", "causal"]), st.just("joint"), st.booleans()),
)
sudokus = st.builds(
    Sudoku,
    st.integers(2, 4),
    st.integers(2, 4),
    givens=st.integers(0, 4),
    train=st.integers(1, 10**9),
    validation=st.integers(0, 10**9),
    test=st.integers(0, 10**9),
    seed=st.integers(0, 2**63 - 1),
    augment=st.sampled_from(["none", "digits", "all"]),
    path=st.text(),
)


@st.composite
def path_stars(draw: st.DrawFn) -> PathStar:
    degree, nodes = draw(st.integers(2, 4)), draw(st.integers(2, 5))
    small = PathStar(degree, nodes, 1 + degree * (nodes - 1) + draw(st.integers(0, 3)), validation=0, test=0)
    sizes = st.integers(0, small.graphs // 20)
    return replace(small, validation=draw(sizes), test=draw(sizes), seed=draw(st.integers(0, 2**63 - 1)))


sizes = {
    "train": st.integers(1, 10**9),
    "validation": st.integers(0, 10**9),
    "test": st.integers(0, 10**9),
    "seed": st.integers(0, 2**63 - 1),
    "path": st.text(),
}
generated = {
    Chain: st.builds(
        Chain, states=st.integers(3, 26), length=st.integers(2, 99), validation=st.integers(0, 99), seed=sizes["seed"]
    ),
    Addition: st.builds(Addition, least=st.integers(1, 4), digits=st.integers(4, 17), **sizes),
    Arithmetic: st.builds(Arithmetic, terms=st.integers(2, 8), **sizes),
    Colouring: st.builds(Colouring, nodes=st.integers(6, 10), edges=st.integers(9, 15), **sizes),
    Countdown: st.builds(Countdown, numbers=st.integers(2, 6), largest=st.integers(10, 99), **sizes),
    Paths: st.builds(Paths, nodes=st.integers(7, 20), edges=st.integers(9, 40), **sizes),
    Permutations: st.builds(Permutations, *[st.integers(0, 99)] * 2, sizes["seed"]),
    Prompted: st.builds(
        Prompted,
        tokenizer=st.text(),
        data=st.text(),
        held_out=st.text(),
        length=st.integers(2, 999),
        packed=st.booleans(),
        turns=st.sampled_from(["last", "every"]),
        validation=st.floats(0, 0.5, exclude_max=True, width=32, allow_subnormal=False),
    ),
    Sat: st.builds(Sat, variables=st.integers(3, 9), clauses=st.integers(0, 7), **sizes),
    SudokuGrids: st.builds(SudokuGrids, box_rows=st.integers(2, 4), box_cols=st.integers(2, 4), **sizes),
    Text: st.builds(
        Text,
        length=st.integers(3, 999),
        unit=st.sampled_from(["byte", "bpe"]),
        books=st.text(),
        mode=st.sampled_from(["unconditional", "prefix", "infill"]),
        share=st.floats(0, 1, exclude_min=True, exclude_max=True),
    ),
    Zebra: st.builds(Zebra, houses=st.integers(3, 6), attributes=st.integers(3, 6), clues=st.integers(0, 99), **sizes),
}

trunks = st.builds(
    lambda heads, half, **rest: Trunk(heads=heads, width=2 * heads * half, **rest),
    st.integers(1, 16),
    st.integers(1, 64),
    layers=st.integers(1, 99),
    loops=st.integers(1, 99),
    learned_positions=st.booleans(),
    times=st.booleans(),
    checkpoint=st.text(),
)
held = {"width": 32, "allow_subnormal": False}  # by float32, in which they are used
shares = st.floats(0, 1, exclude_max=True, **held)
processes = {
    Absorbing: st.builds(Absorbing, schedules),
    Uniform: st.builds(Uniform, schedules),
    Hybrid: st.builds(Hybrid, shares, st.floats(0, 2, exclude_min=True, **held), schedules),
    SNRMix: st.builds(SNRMix, st.floats(-1, 1, **held), st.floats(-1000, 1000, **held), schedules),
}
paths = {
    Diagonal: st.builds(Diagonal),
    Autoregressive: st.builds(Autoregressive),
    Pyramid: st.builds(Pyramid, st.floats(0, 9, **held)),
    Trapezoid: st.builds(Trapezoid, st.floats(0, 9, **held)),
    Blockwise: st.builds(Blockwise, st.integers(1, 99)),
    Sizes: st.builds(Sizes, st.lists(st.integers(1, 99), min_size=1).map(tuple)),
}
drawn = {
    Shared: st.builds(Shared),
    Independent: st.builds(Independent),
    PrefixClean: st.builds(PrefixClean),
    BlockConstant: st.builds(BlockConstant, st.integers(1, 99)),
    AlongPath: st.builds(AlongPath, st.one_of(*paths.values())),
}
mixtures = st.builds(Mixture, st.one_of(*drawn.values()), st.one_of(*drawn.values()), st.floats(0, 1, **held))
diffused = st.one_of(
    st.builds(Denoising, st.one_of(mixtures, *drawn.values()), st.sampled_from(["snr", "clamp"]), above_0),
    st.just(Denoising(Shared(), "elbo")),
)
masked, teacherless = st.builds(MaskedDiffusion, st.booleans()), st.builds(Teacherless)
latent_blocks = st.builds(
    lambda order, share, **rest: MultiToken(order=order, next_token=share if order == "left_to_right" else 0.0, **rest),
    st.sampled_from(["left_to_right", "random"]),
    shares,
    window=st.integers(0, 99),
    prefixes=st.integers(0, 99),
    weight=st.floats(0, 9, **held),
    decay=st.floats(1e-6, 1),
)
from_the_left = {  # those that need a causal context that sees no latents
    NextTokenPrediction: st.builds(NextTokenPrediction),
    MultiToken: latent_blocks,
    MuToR: st.builds(MuToR, st.integers(1, 99), st.floats(1e-6, 1, exclude_max=True)),
    BlockDiffusion: st.builds(BlockDiffusion, st.integers(1, 99), st.booleans()),
}
cacheable = st.builds(Attention, st.just("causal"), st.sampled_from(["joint", "ordered", "alone"]))
one_threshold = latent_blocks.map(lambda blocks: replace(blocks, prefixes=1, next_token=0.0))
pairs = st.one_of(
    st.tuples(attentions, st.one_of(masked, one_threshold)),
    st.tuples(attentions.filter(lambda rule: rule.latents != "ordered"), teacherless),
    st.tuples(cacheable, st.one_of(*from_the_left.values())),
)
stages = st.builds(Made, st.text(min_size=1), st.text())
foresights = st.one_of(
    st.builds(Foresight, stages, frozen=st.booleans()),
    st.builds(Foresight, layers=st.integers(1, 99), weight=st.floats(0, 9, **held)),
)
trains = st.builds(
    lambda accumulate, parts, pair, **rest: Train(
        accumulate=accumulate, batch=accumulate * parts, attention=pair[0], objective=pair[1], **rest
    ),
    st.integers(1, 9),
    st.integers(1, 99),
    pairs,
    task=st.one_of(sudokus, path_stars()),
    trunk=trunks,
    process=processes[Absorbing],
    steps=st.integers(1, 10**9),
    lr=above_0,
    decay=st.sampled_from(["linear", "constant"]),
    warmup=st.integers(0, 10**6),
    weight_decay=st.floats(0, 1, **held),
    ema=st.floats(0, 1, exclude_max=True),
    clip=above_0,
    precision=st.sampled_from(["auto", "no", "bf16", "fp16"]),
    seed=st.integers(0, 2**63 - 1),
    validate=st.integers(1, 10**6),
    save=st.integers(1, 10**6),
    log=st.integers(1, 10**6),
    keep=st.integers(1, 10**6),
)
some_seeds = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True).map(tuple)
studies = st.builds(
    LatentsStudy,
    trains,
    seeds=some_seeds,
    counts=st.sets(st.integers(1, 255)).map(lambda some: (0, *sorted(some), 256)),
    unseen_counts=st.sampled_from([(), (0,), (0, 8)]),
    puzzles=st.integers(1, 10**6),
    order=st.sampled_from(["confidence", "uniform"]),
    candidates=st.integers(1, 99),
    batch=st.integers(1, 999),
    draws=st.integers(1, 99),
)
settings_of_ar = st.builds(
    Setting,
    trains,
    windows=st.sets(st.integers(1, 99), max_size=4).map(lambda some: (*sorted(some), 0)),
    questions=st.integers(0, 99),
    seeds=some_seeds,
    choosing=st.just(0) | st.just(1),  # no more than the steps of any run
    examples=st.integers(1, 10**6),
)
ar_studies = st.builds(
    ArLatentsStudy,
    st.builds(lambda its, task: replace(its, train=replace(its.train, task=task)), settings_of_ar, path_stars()),
    settings_of_ar,
    rates=st.lists(above_0, min_size=1, max_size=3, unique_by="{:g}".format).map(tuple),
    workers=st.integers(1, 99),
    batch=st.integers(1, 999),
)
tables = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(st.floats(-9, 9, **held), min_size=n, max_size=n).map(tuple), min_size=n, max_size=n)
)
related = st.builds(Related, tables.map(tuple))
shares = st.floats(0, 1, **held)
grouped = st.builds(
    Groups,
    shares,
    st.sampled_from(["log_uniform", "uniform"]) | st.lists(st.integers(1, 99), min_size=1).map(tuple),
    st.sampled_from(["random", "near"]) | related,
    st.none() | shares,
    st.sampled_from(["constant", "growing", "shrinking"]),
    st.just(True),
    st.floats(-4, 4, **held),
    shares,
)
CONFIGS = {
    Groups: grouped,
    Related: related,
    DialStudy: st.just(presets.dial_tried()),
    LatentsStudy: studies,
    ArLatentsStudy: ar_studies,
    Setting: settings_of_ar,
    Train: trains,
    Trunk: trunks,
    Foresight: foresights,
    Made: stages,
    Sudoku: sudokus,
    PathStar: path_stars(),
    **generated,
    MaskedDiffusion: masked | st.builds(MaskedDiffusion, groups=grouped),
    Teacherless: teacherless,
    **from_the_left,
    Attention: attentions,
    **processes,
    **paths,
    **drawn,
    Mixture: mixtures,
    Denoising: diffused,
    Gaussian: st.builds(Gaussian, st.sampled_from(("vp", "linear")), st.floats(0, 1, **held)),
    Vectors: st.builds(
        Vectors,
        st.integers(1, 99),
        st.sampled_from(("eps", "x0", "v", "u")),
        st.integers(0, 9),
        st.sampled_from(("drawn", "zero", "none")),
    ),
    Codes: st.builds(
        Codes,
        st.integers(1, 99),
        st.integers(2, 99),
        st.integers(1, 99),
        st.integers(0, 9),
        st.sampled_from(("recurrent", "additive", "parallel")),
        st.sampled_from(("even", "normal")),
    ),
    Bouncing: st.builds(Bouncing, st.integers(3, 99), st.floats(0.1, 0.9), above_0, *[st.integers(0, 99)] * 3),
    Burgers: st.builds(Burgers, st.floats(0, 4, **held), above_0, *[st.integers(1, 99)] * 4),
    Digits: st.builds(Digits, st.integers(0, 3)),
    ImageCodes: st.builds(
        ImageCodes,
        st.text(min_size=1),
        st.sampled_from(("digits", "fashion")),
        *[st.integers(2, 99)] * 3,
        st.booleans(),
        st.floats(0, 1, **held),
    ),
    GiddStudy: st.just(presets.gidd()),
    ForcingStudy: st.just(presets.forcing()),
    LoopsStudy: st.just(presets.loops()),
    LadirStudy: st.just(presets.ladir_reference()) | st.just(presets.ladir_arithmetic()),
    ForediffStudy: st.just(presets.forediff_reference()),
    NarvlStudy: st.just(presets.narvl_reference()),
    Strips: st.builds(Strips, spellings=st.integers(1, 2), queries=st.integers(9, 20), path=st.text(max_size=9)),
    Scenes: st.builds(Scenes, queries=st.integers(8, 20), seed=st.integers(0, 99)),
    QueryCTC: st.builds(QueryCTC, st.integers(0, 99), st.integers(-1, 9)),
    TokenbridgeStudy: st.just(presets.tokenbridge_reference()) | st.just(presets.tokenbridge_quick()),
    Shape: st.builds(Shape, st.integers(9, 99), *[st.integers(1, 9)] * 3),
    Thoughts: st.builds(
        Thoughts, *[st.integers(1, 99)] * 4, st.integers(0, 9), st.integers(10, 19), st.integers(20, 29)
    ),
    Autoencoding: st.just(presets.ladir_encoder().objective),
    ThoughtDiffusion: st.just(presets.ladir_reasoner().objective) | st.just(presets.ladir_rollout().objective),
    Posterior: st.builds(Posterior, st.integers(1, 99), st.none() | st.integers(0, 9)),
    AdaptStudy: st.just(adapt("models/smollm2-135m")),
    StepsStudy: st.builds(
        StepsStudy, st.lists(st.text(), min_size=1, unique=True).map(tuple), examples=st.integers(1, 99)
    ),
    Grid: st.builds(Grid, families=st.just(()) | st.just(("one", "sizes")), candidates=st.integers(1, 99)),
    CurvesStudy: st.builds(
        CurvesStudy, st.lists(st.text(), min_size=1, unique=True).map(tuple), st.text(), st.integers(1, 99)
    ),
    Linear: st.builds(Linear),
    Cosine: st.builds(Cosine),
    Polynomial: st.builds(Polynomial, power=above_0),
}


def reachable(hint: typing.Any) -> set[type]:
    """Every dataclass that a value of type `hint` may hold."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*map(reachable, typing.get_args(hint)))
    if not (isinstance(hint, type) and is_dataclass(hint)):
        return set()
    inner = typing.get_type_hints(hint)
    return {hint}.union(*(reachable(inner[f.name]) for f in fields(hint)))


def through_json(hint: typing.Any, value: typing.Any) -> typing.Any:
    return from_record(hint, json.loads(json.dumps(to_record(value))))


def test_every_config_of_the_package_is_covered_here():
    studies = (LatentsStudy, ArLatentsStudy, DialStudy, GiddStudy, ForcingStudy, LoopsStudy, StepsStudy, CurvesStudy)
    studies = (*studies, AdaptStudy, LadirStudy, ForediffStudy, NarvlStudy, TokenbridgeStudy)
    assert set().union(*map(reachable, studies)) == set(CONFIGS)


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_what_is_recorded_reads_back_as_it_was(kind, data):
    value = data.draw(CONFIGS[kind])
    assert through_json(kind, value) == value


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Polynomial(3.0)])
@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
def test_each_schedule_and_attention_reads_back_in_a_study(schedule, attention):
    study = LatentsStudy(replace(CONFIG, attention=attention, process=Absorbing(schedule)), counts=(0, 16))
    again = through_json(LatentsStudy, study)
    assert again == study
    assert type(again.train.process.schedule) is type(schedule)


DIFFERENT = [  # no two of them alike: a field that the record lost would come back as its default
    MaskedDiffusion(bound=True),
    NextTokenPrediction(),
    MultiToken(3, 2, 0.5, 0.25, 0.125),
    MultiToken(order="random"),
    Teacherless(),
    MuToR(7, 0.5),
    BlockDiffusion(9, bound=True),
]


@pytest.mark.parametrize(
    "task", [TASK, PathStar(3, 4, 15, validation=300, test=200, seed=7)], ids=lambda task: type(task).__name__
)
@pytest.mark.parametrize("objective", DIFFERENT, ids=str)
def test_each_objective_and_task_reads_back_in_a_study(objective, task):
    train = replace(CONFIG, task=task, attention=CACHED_ALONE, objective=objective)
    setting = Setting(train, windows=(2, 0), questions=13, seeds=(4, 5), choosing=7, examples=20)
    star = Setting(replace(CONFIG, task=PathStar()), windows=(0,))
    study = ArLatentsStudy(star, setting, rates=(1e-3, 3e-3), workers=3, batch=99)
    again = through_json(ArLatentsStudy, study)
    assert again == study
    assert (type(again.sudoku.train.objective), type(again.sudoku.train.task)) == (type(objective), type(task))


@dataclass(frozen=True)
class Optional:
    some: tuple[int, ...] | None = None
    inner: Linear | Polynomial | None = None


@pytest.mark.parametrize(
    "value", [Optional(), Optional((1, 2)), Optional((), Polynomial(3.0)), Optional(None, Linear())]
)
def test_optional_fields_read_back(value):
    assert through_json(Optional, value) == value


def test_an_unknown_type_is_named():
    with pytest.raises(ValueError, match="Trane"):
        from_record(Train, to_record(CONFIG) | {"type": "Trane"})
    with pytest.raises(ValueError, match=r"Spline.*Linear, Polynomial, Cosine"):
        from_record(Train, to_record(CONFIG) | {"process": {"type": "Absorbing", "schedule": {"type": "Spline"}}})
    untagged = {k: v for k, v in to_record(CONFIG).items() if k != "type"}
    with pytest.raises(ValueError, match="None"):
        from_record(Train, untagged)


@pytest.mark.parametrize("old", ["masked", "nelbo", None, 3, ["Masked"]])
def test_a_value_that_was_no_dataclass_yet_is_named(old):
    """Records of versions whose objective was a word, say."""
    with pytest.raises(ValueError, match=r"expected one of MaskedDiffusion, NextTokenPrediction, .*BlockDiffusion"):
        from_record(Train, to_record(CONFIG) | {"objective": old})


@pytest.mark.parametrize("objective", DIFFERENT[1:], ids=str)
def test_a_pair_that_can_not_be_is_refused_in_a_record_too(objective):
    with pytest.raises(ValueError, match="attention scdm"):
        from_record(Train, to_record(CONFIG) | {"objective": to_record(objective)})


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match=r"Train.*learning_rate"):
        from_record(Train, to_record(CONFIG) | {"learning_rate": 1.0})
    with pytest.raises(ValueError, match=r"Trunk.*depth"):
        from_record(Train, to_record(CONFIG) | {"trunk": {"type": "Trunk", "depth": 3}})


def test_a_missing_field_without_default_is_named():
    record = to_record(CONFIG)
    del record["task"]
    with pytest.raises(ValueError, match=r"Train lacks task"):
        from_record(Train, record)


def test_a_field_of_a_later_version_takes_its_default():
    record = to_record(replace(CONFIG, lr=0.5))
    for name in ("ema", "process", "trunk"):
        del record[name]
    del record["task"]["augment"]
    assert from_record(Train, record) == Train(TASK, lr=0.5)


def test_a_record_is_checked_as_the_object_is():
    with pytest.raises(ValueError, match="steps is 0"):
        from_record(Train, to_record(CONFIG) | {"steps": 0})


def broken_disk(*_: object) -> None:
    raise OSError("no space left")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, call):
    path = tmp_path / "deep" / "config.json"
    write_json(path, {"old": 1})
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken_disk)
        with pytest.raises(OSError, match="no space"):
            write_text(path, "new")
    assert path.read_bytes() == before
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "step-1"
    with new_folder(path) as half:
        (half / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_a_failure_leaves_the_old_folder_and_no_new_one(tmp_path):
    old, new = tmp_path / "step-1", tmp_path / "step-2"
    with new_folder(old) as half:
        (half / "a").write_text("old")
    for path in (old, new):
        with pytest.raises(RuntimeError, match="killed"), new_folder(path) as half:
            (half / "a").write_text("half")
            (half / "b").write_text("half")
            raise RuntimeError("killed")
    assert [p.name for p in old.iterdir()] == ["a"]
    assert (old / "a").read_text() == "old"
    assert not new.exists()
    # What a failure left is no part of the next attempt.
    with new_folder(old) as half:
        (half / "c").write_text("new")
    assert [p.name for p in old.iterdir()] == ["c"]


def lines(run: Run, *steps: int) -> None:
    run.folder.mkdir(exist_ok=True)
    for step in steps:
        run.log(step=step, loss=1 / 3 * step)


def test_a_half_written_last_line_is_left_out(tmp_path):
    run = Run(tmp_path)
    lines(run, 1, 2)
    whole = run.metrics()
    with run.metrics_file.open("a") as file:
        file.write('{"step": 3, "los')
    assert run.metrics() == whole == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 2 / 3}]


def test_cut_metrics_forgets_what_came_later_and_the_half_line(tmp_path):
    run = Run(tmp_path)
    lines(run, 1, 2, 3, 4)
    with run.metrics_file.open("a") as file:
        file.write('{"step": 5')
    run.cut_metrics(3)
    run.log(step=4, loss=0.5)
    assert [(m["step"], m["loss"]) for m in run.metrics()] == [(1, 1 / 3), (2, 2 / 3), (3, 1.0), (4, 0.5)]


def test_no_metrics_yet_is_no_metrics(tmp_path):
    assert Run(tmp_path / "new").metrics() == []


def test_prune_keeps_the_newest_and_clears_halves(tmp_path):
    run = Run(tmp_path)
    for step in (3, 10_000_000, 20, 100):  # one more digit than the names are padded to
        with new_folder(run.checkpoint_at(step)) as half:
            (half / "state").write_text(str(step))
    left = run.checkpoint_at(4).with_name(".half-step-0000004")
    left.mkdir()
    (left / "state").write_text("4")
    assert [step for step, _ in run.checkpoints()] == [3, 20, 100, 10_000_000]
    run.prune(2)
    assert [step for step, _ in run.checkpoints()] == [100, 10_000_000]
    assert [(p / "state").read_text() for _, p in run.checkpoints()] == ["100", "10000000"]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    run.prune(5)
    assert [step for step, _ in run.checkpoints()] == [100, 10_000_000]


def test_a_started_run_reads_back_and_starts_again(tmp_path):
    run = Run(tmp_path / "run")
    run.start(CONFIG)
    written = (run.folder / "config.json").read_bytes(), (run.folder / "environment.json").read_bytes()
    run.start(CONFIG)
    assert run.config(Train) == CONFIG
    assert written == ((run.folder / "config.json").read_bytes(), (run.folder / "environment.json").read_bytes())


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (replace(CONFIG, lr=1.0), ["lr"]),
        (replace(CONFIG, task=replace(TASK, seed=1)), ["task.seed"]),
        (replace(CONFIG, steps=7, trunk=Trunk(2, 16, 2)), ["steps", "trunk.layers"]),
        (replace(CONFIG, attention=ATTENTIONS["sidm"]), ["attention.latents"]),
        (replace(CONFIG, process=Absorbing(Polynomial())), ["process.schedule.power", "process.schedule.type"]),
        (replace(CONFIG, objective=MaskedDiffusion(bound=True)), ["objective.bound"]),
        (
            replace(CONFIG, attention=CACHED_ALONE, objective=BlockDiffusion()),
            ["attention.context", "attention.latents", "objective.carry", "objective.size", "objective.type"],
        ),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, list) else "",
)
def test_a_run_of_another_configuration_is_refused_and_the_fields_named(tmp_path, other, names):
    run = Run(tmp_path)
    run.start(CONFIG)
    with pytest.raises(ValueError) as refused:
        run.start(other)
    assert f"(it differs in {', '.join(names)})" in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert run.config(Train) == CONFIG


def test_a_run_of_another_type_is_refused(tmp_path):
    Run(tmp_path).start(CONFIG)
    with pytest.raises(ValueError, match=r"'Train'; expected one of LatentsStudy"):
        Run(tmp_path).config(LatentsStudy)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is no run folder"):
        Run(tmp_path / "nowhere").config(Train)


def test_the_environment_says_what_ran(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/unspoken", "train", "sudoku-4x4"])
    found = json.loads(json.dumps(environment()))
    assert found["torch"] == torch.__version__
    assert found["command"] == "unspoken train sudoku-4x4"
    assert f"{torch.get_num_threads()} torch threads" in found["machine"]


def test_no_commit_outside_a_checkout(tmp_path, monkeypatch):
    from unspoken import record

    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    assert record.environment()["commit"] is None


def test_run_is_a_path_away(tmp_path):
    assert Run(tmp_path).checkpoint_at(500) == Path(tmp_path) / "checkpoints" / "step-0000500"


def scalars(record: typing.Any, at: tuple[typing.Any, ...] = ()) -> list[tuple[typing.Any, ...]]:
    """Where a record holds numbers, words and truths, its tags aside."""
    inner = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    found = [place for key, value in inner if key != "type" for place in scalars(value, (*at, key))]
    return found if isinstance(record, (dict, list)) else [at]


def put(record: typing.Any, place: tuple[typing.Any, ...], value: typing.Any) -> typing.Any:
    """The record with another value at one place."""
    key, *rest = place
    changed = dict(record) if isinstance(record, dict) else list(record)
    changed[key] = put(changed[key], tuple(rest), value) if rest else value
    return changed


WRONG = to_record(replace(CONFIG, task=replace(TASK, path="a.csv"), objective=MultiToken(), attention=CACHED_ALONE))


@pytest.mark.parametrize("value", [{"a": 1}, [[]], "word", None, 1.5, True], ids=str)
@pytest.mark.parametrize("place", scalars(WRONG), ids=lambda place: ".".join(map(str, place)))
def test_a_value_of_another_type_is_refused_with_its_place(place, value):
    """Each field of a configuration: what its type does not hold is a ValueError that names it."""
    before: typing.Any = WRONG
    for key in place:
        before = before[key]
    of_its_type = type(value) is type(before) or (isinstance(before, float) and value == 1.5)
    if of_its_type and not isinstance(before, str):
        from_record(Train, put(WRONG, place, before))
        return
    if of_its_type and place[-1] in ("path", "checkpoint"):
        return  # a path is any word
    with pytest.raises(ValueError, match=str(place[-1])):
        from_record(Train, put(WRONG, place, value))


def test_a_record_that_is_none_is_refused_with_its_file(tmp_path):
    file = tmp_path / "config.json"
    for text in ("", "{", "[1, 2]", "7", "null", '"word"', "[" * 100_000, "\ufeff{}"):
        file.write_text(text)
        with pytest.raises(ValueError, match=re.escape(str(file))):
            read_json(file)
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=re.escape(str(file))):
        read_json(file)


def test_records_are_json_by_the_standard_and_keep_infinite_numbers():
    """`Infinity` is no JSON. Records of before that hold it are still read."""
    decoder = Slots(threshold=0.5)
    text = as_json(to_record(decoder))
    assert "Infinity" not in text
    assert from_record(Slots, json.loads(text)) == decoder
    old = json.loads(text.replace('"inf"', "Infinity"))
    assert from_record(Slots, old) == decoder and decoder.entropy_bound == float("inf")
    assert json.loads(as_json({"rows": [{"loss": float("nan")}]})) == {"rows": [{"loss": "nan"}]}
