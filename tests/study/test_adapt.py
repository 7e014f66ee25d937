"""The study of adaptation on a tiny checkpoint: its numbers against plain code, its claims either way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from alone import of_part, stages_and_result
from transformers import LlamaConfig, LlamaForCausalLM
from words import SENTENCES, SIZE, tokenizer

import unspoken as us
from unspoken.layout.entries import one_block
from unspoken.measure.generation import Said, said
from unspoken.measure.text import SLOT, asked_nats, slot_nats
from unspoken.presets.adapt import METHODS, adapt
from unspoken.show.adapt import adapt as figure
from unspoken.show.report import table_cells
from unspoken.study.adapt import AdaptStudy
from unspoken.study.adapted import Adapted
from unspoken.study.adapted_claims import GENERATE, verdicts
from unspoken.study.report import Result
from unspoken.tasks.base import Examples
from unspoken.training.config import Trunk
from unspoken.training.losses import packed_losses
from unspoken.training.objective import MaskedDiffusion, MultiToken, NextTokenPrediction, Teacherless

pytest.importorskip("peft")
LENGTH = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=SIZE, max_position_embeddings=64, initializer_range=0.3, **sizes)  # type: ignore[arg-type]
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def study(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AdaptStudy:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("\n".join(SENTENCES * 60))
    whole = adapt(str(folder), str(text), "", steps=2)
    task = replace(whole.task, length=LENGTH, test=0.3)
    methods = (
        METHODS[0],
        Adapted("AR + MTP", MultiToken(window=3, prefixes=4, next_token=0.5), latents=(0, 2)),
        Adapted("AR + MTP, shift", MultiToken(window=3, prefixes=4, next_token=0.5), shift=True, drafts=(1, 2)),
        Adapted("grouped", MaskedDiffusion(), lora=0, latents=(0, None)),
        Adapted("MDM, annealed", MaskedDiffusion(), us.MDM, anneal=1, latents=(None,)),
    )
    few = {"windows": 4, "prefixes": 3, "draws": 1, "prompts": 2, "prompt": 8, "new": 6}
    return AdaptStudy(replace(whole.train, task=task, log=1), methods, seeds=(0,), **few)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(study: AdaptStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    runs = tmp_path_factory.mktemp("runs")
    return stages_and_result(study, runs)[1], runs


def test_every_method_is_measured_in_every_way(study: AdaptStudy, done: tuple[Result, Path]) -> None:
    found = [(row["method"], row["way"]) for row in of_part(done[0], "likelihood")]
    ar, grouped = [("AR + MTP", f"slots, {n} latents") for n in (0, 2)], [("grouped", "slots, 0 latents")]
    assert found == [
        *[("before", "next token"), ("AR", "next token"), ("AR + MTP", "next token"), *ar],
        *[("AR + MTP, shift", "next token"), *grouped, ("grouped", "slots, all latents")],
        ("MDM, annealed", "slots, all latents"),
    ]
    ways = [(row["method"], row["way"]) for row in of_part(done[0], "decoding")]
    assert ways[:2] == [("AR", GENERATE), ("AR", "next token")] and len(ways) == 2 + 4 + 4 + 2 + 1
    assert len({path.name for path in done[1].iterdir() if path.is_dir()}) == len(study.methods)


def test_next_tokens_are_those_of_transformers(done: tuple[Result, Path]) -> None:
    """In every model that reads from the left, and by self-speculation in fewer passes; to the token."""
    for row in of_part(done[0], "decoding"):
        if row["way"] in (GENERATE, "next token") or row["way"].startswith("self-speculation"):
            assert row["same"] == 1.0, row
        if row["way"] in (GENERATE, "next token"):
            assert row["passes"] == 1.0
        if row["way"].startswith("self-speculation"):
            assert row["passes"] <= 1.0 < row["entries"]
    shares = [row["times"] for row in of_part(done[0], "decoding")]
    assert min(shares) > 0


def test_a_study_is_shown(done: tuple[Result, Path], tmp_path: Path) -> None:
    assert len(table_cells(done[0])) == len(done[0].rows)
    assert figure(done[0].rows, tmp_path / "adapt.png").stat().st_size > 10_000
    assert {claim.name for claim in done[0].claims} == {
        "ability kept",
        "lookahead on text",
        "dial on text",
        "self-speculation on text",
    }
    assert [claim.holds for claim in done[0].claims[:3]] == [None] * 3  # one seed


def test_bits_are_those_of_plain_code(study: AdaptStudy, folder: Path) -> None:
    """Next tokens by the trunk's own logits; slots beside none, at every prefix, by the objective."""
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT)
    windows = study._windows().rows(slice(0, 3))
    found = asked_nats(model, NextTokenPrediction(), us.Absorbing(), windows)
    with torch.no_grad():
        logits = model.trunk(windows.x0).logits[:, :-1, : model.mask_id].transpose(1, 2)
    plain = torch.nn.functional.cross_entropy(logits, windows.x0[:, 1:], reduction="none").sum(1)
    assert torch.allclose(found, plain.double(), atol=1e-3)
    packed = SLOT.pack(us.Absorbing(), windows.x0, windows.given, model.mask_id)
    with torch.no_grad():
        every = packed_losses(model, packed).sum(1).double()
    assert torch.allclose(slot_nats(model, windows, [0], LENGTH)[0], every, rtol=1e-5)


def test_slots_at_some_prefixes_estimate_those_at_all(study: AdaptStudy, folder: Path) -> None:
    """One prefix of three, beside two latents: three times the cost there, which is that of a pass over it alone."""
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT)
    x0 = study._windows().x0[:1, :13]
    window = Examples(x0, torch.arange(13)[None] < 10)
    costs = []
    for start in (10, 11, 12):
        masked = torch.where(torch.arange(13)[None] < start, x0, model.mask_id)
        layout = one_block(masked, masked == model.mask_id, torch.arange(13)[None] * 0)
        with torch.no_grad():
            logits = model(layout, torch.tensor([[start]]))[0, 0]
        costs.append(float(-3 * logits.log_softmax(-1)[x0[0, start]]))
    found = float(slot_nats(model, window, [2], 1))
    assert min(abs(found - cost) for cost in costs) < 1e-3
    assert abs(float(slot_nats(model, window, [2], 3)) - sum(costs) / 3) < 1e-3


def test_what_saying_takes_is_counted(folder: Path) -> None:
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT)
    prompts = torch.randint(5, SIZE, (2, 5), generator=torch.Generator().manual_seed(0))
    found = said({"mine": (model, us.NextToken()), "theirs": (model, None)}, prompts, 4)
    mine, theirs = found["mine"], found["theirs"]
    assert torch.equal(mine.tokens, theirs.tokens) and mine.tokens.shape == (2, 4)
    for its in (mine, theirs):  # a prompt, then token by token
        assert its.passes == 1.0 and its.entries == (5 + 3) / 4
    assert (mine.seconds > 0).all()


def told(passes: float, seconds: float, same: bool = True) -> dict[str, Said]:
    tokens = torch.arange(12).view(2, 6)
    theirs = Said(tokens, torch.tensor([1.0, 1.0]).double(), 1.0, 1.0)
    mine = Said(tokens if same else tokens + 1, torch.full((2,), seconds).double(), passes, 3.0)
    return {GENERATE: theirs, "self-speculation, 1 drafts": mine}


@pytest.mark.parametrize(
    ("passes", "seconds", "same", "holds"),
    [(0.6, 1.0, True, True), (0.61, 0.9, True, False), (0.5, 1.1, True, False), (0.5, 0.9, False, False)],
)
def test_self_speculation_holds_where_it_is_exact_in_few_passes_and_no_slower(
    passes: float, seconds: float, same: bool, holds: bool
) -> None:
    drafting = Adapted("D", MultiToken(window=3, next_token=0.5), shift=True, drafts=(1,))
    bits = {
        ("before", "next token"): torch.full((2, 4), 2.0),
        ("AR", "next token"): torch.full((2, 4), 1.0),
        ("D", "next token"): torch.full((2, 4), 1.0),
    }
    timed = {("D", way): its for way, its in told(passes, seconds, same).items()}
    found = {claim.name: claim.holds for claim in verdicts((Adapted("AR"), drafting), bits, timed, 2)}
    assert found == {"ability kept": True, "self-speculation on text": holds}


def test_one_way_that_is_not_exact_is_enough_to_fail() -> None:
    drafting = Adapted("D", MultiToken(window=4, next_token=0.5), shift=True, drafts=(1, 2))
    bits = {("before", "next token"): torch.full((2, 4), 2.0)}
    bits |= {(name, "next token"): torch.full((2, 4), 1.0) for name in ("AR", "D")}
    timed = {("D", way): its for way, its in told(0.5, 0.5).items()}
    wrong = told(0.4, 0.5, same=False)["self-speculation, 1 drafts"]
    (_, found) = verdicts((Adapted("AR"), drafting), bits, timed | {("D", "self-speculation, 2 drafts"): wrong}, 2)
    assert found.holds is False and "1 of 2 ways" in found.evidence


@pytest.mark.parametrize(("lost", "holds"), [(0.0, True), (0.05, False)])
def test_ability_is_kept_where_little_is_lost(lost: float, holds: bool) -> None:
    more = Adapted("D", MultiToken(window=3, next_token=0.5), latents=(0, 2))
    bits = {("before", "next token"): torch.full((2, 4), 2.0), ("AR", "next token"): torch.full((2, 4), 1.0)}
    bits |= {("D", "next token"): torch.full((2, 4), 1.0 + lost)}
    bits |= {("D", "slots, 0 latents"): torch.full((2, 4), 1.5), ("D", "slots, 2 latents"): torch.full((2, 4), 1.3)}
    found = {claim.name: claim.holds for claim in verdicts((Adapted("AR"), more), bits, {}, 2)}
    assert found == {"ability kept": holds, "lookahead on text": True}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no checkpoint": ({"train": "no checkpoint"}, "Trunk.checkpoint"),
    "no AR first": ({"methods": METHODS[4:]}, "put AR first"),
    "twice": ({"methods": (METHODS[0], METHODS[0])}, "each once"),
    "too long": ({"prompt": 20, "new": 20}, "give less"),
    "prompts without windows": ({"prompts": 5}, "give more windows"),
    "one folder": ({"methods": (METHODS[0], Adapted("D + E"), Adapted("D E"))}, "each once"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_can_not_be_studied_is_refused(study: AdaptStudy, name: str) -> None:
    changes, text = WRONG[name]
    if "train" in changes:
        changes = {"train": replace(study.train, trunk=Trunk())}
    with pytest.raises(ValueError, match=text):
        replace(study, **changes)


SLOTS = MultiToken(window=4, next_token=0.5)
NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "drafts of next tokens": ({"objective": NextTokenPrediction(), "drafts": (1,)}, "shift=True"),
    "drafts that none checks": ({"objective": MultiToken(window=4), "shift": True, "drafts": (1,)}, "next_token=0.5"),
    "more drafts than slots": ({"objective": SLOTS, "shift": True, "drafts": (4,)}, "a wider window"),
    "latents twice": ({"objective": SLOTS, "latents": (0, 0)}, "that rise"),
    "latents that fall": ({"objective": SLOTS, "latents": (2, 0)}, "that rise"),
    "latents of next tokens": ({"latents": (0, 4)}, "no mask slot"),
    "latents beside a shift": ({"objective": SLOTS, "shift": True, "latents": (0,)}, "no mask slot"),
    "few latents and a shift": ({"objective": MaskedDiffusion(), "shift": True, "latents": (0, 4)}, "latents=.None,."),
    "another objective": ({"objective": Teacherless()}, "give NextTokenPrediction"),
    "no name": ({"name": ""}, "another name"),
    "another folder": ({"name": "../x"}, "another name"),
    "the checkpoint's name": ({"name": "before"}, "another name"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_method_that_means_nothing_is_refused(name: str) -> None:
    options, text = NONSENSE[name]
    given: dict[str, Any] = {"name": "D", **options}
    with pytest.raises(ValueError, match=text):
        Adapted(**given)


def test_another_text_is_measured_anew(study: AdaptStudy, done: tuple[Result, Path], tmp_path: Path) -> None:
    """What is kept beside the runs is of the windows that were measured."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(reversed(SENTENCES * 60)))
    other = replace(study, train=replace(study.train, task=replace(study.task, data=str(text))))
    job = study.methods[0].job(study.train, 0, done[1])
    both = [each._kept_bits(each.methods[0], [job], each._windows(), done[1]) for each in (study, other, study)]
    found = [its["AR", "next token"] for its in both]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_ends_and_penalties_of_a_checkpoint_are_left_out(folder: Path) -> None:
    """Else the two ways would follow different rules."""
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT)
    prompts = torch.randint(5, SIZE, (2, 5), generator=torch.Generator().manual_seed(0))
    ways = {"mine": (model, us.NextToken()), "theirs": (model, None)}
    first = said(ways, prompts, 8)["mine"].tokens
    config: Any = model.trunk.generation_config
    config.eos_token_id, config.repetition_penalty = int(first[0, 2]), 1.5
    found = said(ways, prompts, 8)
    assert torch.equal(found["mine"].tokens, first) and torch.equal(found["theirs"].tokens, first)
    assert model.trunk.generation_config is config


def test_too_few_windows_are_said_before_any_training(study: AdaptStudy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whole ones: give windows="):
        next(replace(study, windows=5000).run(tmp_path))
    assert not list(tmp_path.iterdir())
