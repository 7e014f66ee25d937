"""What models answer that reason in vectors: how often right, whether one of several is, how many differ; claims of it.

The models of `study ladir`, by their names, and its claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.accuracy import Solved, solve
from unspoken.measure.intervals import Estimate
from unspoken.model.codec import vectors_of, words_of
from unspoken.model.denoiser import Denoiser
from unspoken.study.report import Check, Claim, claim
from unspoken.tasks.base import Examples
from unspoken.tasks.reasoned import Reasoned
from unspoken.training.config import Train
from unspoken.training.objective import Autoencoding

ENCODER, FORCED, LONGER, SMALL, ROLLED, ALONE, NEXT = (
    "encoder",
    "teacher forcing",
    "longer",
    "small times",
    "rollout",
    "vectors alone",
    "next tokens",
)
GAIN, OVER_CHANCE, KEPT, RECONSTRUCTED = 5.0, 10.0, 0.05, 0.99  # what the claims ask


def told(passes: int) -> str:
    """A number of passes as the table has it."""
    return f"{passes} passes" if passes > 1 else "1 pass"


def pushed(strength: float) -> str:
    """A strength of repulsion as the table has it."""
    return f"repulsion {strength:g}"


@dataclass(frozen=True)
class Answers:
    """What a way of decoding gave, by seed and question (each round counts as questions of its own).

    right, any_right: `[seeds, questions]` share of right samples, and whether one is. different: `[seeds, questions]`
        how many right ones differ. cost: an answer's, the mean over seeds.
    """

    right: Tensor
    any_right: Tensor
    different: Tensor
    cost: Mapping[str, float]


def answers(
    task: Reasoned, models: Sequence[Denoiser], asked: Examples, decoder: Decoder, k: int, questions: int
) -> Answers:
    """All questions by one way, with a model for each seed. asked: each question `k` times in a row, of so many."""
    batch = k * min(questions, 16)  # rows of one question repel each other: no question twice in a batch
    found = [
        next(e for e in solve(model, task, asked, decoder, batch=batch) if isinstance(e, Solved)) for model in models
    ]
    right = torch.stack([its.right.view(-1, k) for its in found]).double()
    prompt = asked.prompt(task.mask_id)[::k]
    different = [task.different(prompt, its.tokens.view(-1, k, its.tokens.shape[1])) for its in found]
    cost = {n: sum(getattr(its, n) for its in found) / len(found) for n in ("passes", "entries", "flops", "seconds")}
    return Answers(right.mean(2), right.amax(2), torch.stack(different).double(), cost)


def reconstructed(train: Train, encoders: Sequence[Denoiser]) -> dict[str, Tensor]:
    """`[seeds, thoughts]`: whether a thought is read back, as encoded and with the noise of training.

    train: the run of stage A, of whose task thoughts of the test split are read.
    """
    objective = train.objective
    assert isinstance(objective, Autoencoding)
    test = train.task.sample("test", min(200, train.task.size("test")))
    _, thoughts, _ = objective.form.split(test.x0)
    there = objective.form.there(thoughts)
    found: dict[str, list[Tensor]] = {"as encoded": [], f"noise {objective.noise:g}": []}
    for model in encoders:
        value = vectors_of(model, thoughts, there, objective.vectors)[there]
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        for name, by in zip(found, (0.0, objective.noise), strict=True):
            said = words_of(model, value + by * noise, objective.form)
            found[name].append((said == thoughts[there]).all(1).double())
    return {name: torch.stack(its) for name, its in found.items()}


@dataclass(frozen=True)
class Denoised:
    """One answer as it came about, and whether it is right.

    words: what the block at work would say after every denoising step, a text each, block after block.
    """

    words: tuple[str, ...]
    right: bool


def denoised(task: Reasoned, model: Denoiser, asked: Examples, decoder: Decoder) -> list[Denoised]:
    """How the answers to some questions came about."""
    tokens = prompt = asked.prompt(task.mask_id)
    words: list[list[str]] = [[] for _ in range(len(asked))]
    for step in decoder.steps(model, prompt, predict_latents=True):
        tokens = step.tokens
        if not bool(step.chosen.any()) and not bool((step.likeliest == task.mask_id).all()):
            for row, said in zip(words, step.likeliest.tolist(), strict=True):
                row.append(" ".join(task.symbol(token) for token in said))
    right = task.score(prompt, tokens).tolist()
    return [Denoised(tuple(row), ok) for row, ok in zip(words, right, strict=True)]


Found = Mapping[tuple[str, str], Answers]  # by model and decoding


def more_steps(
    found: Found, vectors: Mapping[str, Tensor], passes: tuple[int, int], chance: float, seeds: int
) -> Claim:
    """More denoising steps answer more questions, from vectors that say what they stand for.

    vectors: see `reconstructed`. passes: few, and more. chance: of a right answer.
    """
    few, many = (found[FORCED, told(n)].right for n in passes)
    read = min(float(its.mean(1).min()) for its in vectors.values())
    more, above = Estimate.of(many - GAIN * few), Estimate.of(many - OVER_CHANCE * chance)
    checks = [
        Check(read >= RECONSTRUCTED, f"thoughts read back {read:.3f} in the worst seed, {RECONSTRUCTED} asked"),
        Check(
            more.low > 0,
            f"pass@1 {many.mean():.3f} in {told(passes[1])}, {few.mean():.3f} in {told(passes[0])}, {GAIN:g} times "
            f"that is less by {more.signed}",
        ),
        Check(above.low > 0, f"{OVER_CHANCE:g} times chance is less by {above.signed}"),
    ]
    return claim("test-time compute", checks, seeds, 3)


def repulsion(found: Found, at: int, strength: float, seeds: int) -> Claim:
    """Repulsion adds different answers, and loses none of their quality."""
    plain, its = found[FORCED, told(at)], found[FORCED, pushed(strength)]
    more, kept = Estimate.of(its.different - plain.different), Estimate.of(its.right - plain.right)
    checks = [
        Check(more.low > 0, f"{pushed(strength)}: {its.different.mean():.2f} different right answers, {more.signed}"),
        Check(kept.low > -KEPT, f"pass@1 {its.right.mean():.3f}, {kept.signed}, of which {KEPT:g} may be lost"),
    ]
    return claim("repulsion adds answers", checks, seeds, 3)
