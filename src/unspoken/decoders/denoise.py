"""Decoding through noise: a walk from the prior to clean, and second thoughts about what came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_all_present, check_path, check_tokens
from unspoken.decoders.correct import correct
from unspoken.decoders.step import Step
from unspoken.decoders.values import port_of, says_values, split_prompt, with_port
from unspoken.decoders.walk import DenoisingStep, ancestral, check_walk, gaussian, remasking, walk
from unspoken.layout.entries import draw_ranks, one_block
from unspoken.model.denoiser import Denoiser
from unspoken.model.network import Model
from unspoken.model.ports import Vectors
from unspoken.model.prediction import Prediction, guided, predictor
from unspoken.noise import Absorbing, AnyProcess, Discrete, Gaussian, Ids, Process, Reals
from unspoken.noise.times import Diagonal, Path, Paths


@dataclass(frozen=True)
class Walk:
    """All tokens at once through the noise of a process: ancestral sampling along a path of times.

    Discrete diffusion (D3PM, Austin et al. 2021, arXiv 2107.03006) with a time for every token (Diffusion Forcing, Chen
    et al. 2024, arXiv 2407.01392); the rounds are the self-correction of GIDD (arXiv 2503.04482).

    Attributes:
        process: Whose noise it goes through.
        passes: Of the walk; 0 for as many as there are positions.
        rounds: Of second thoughts after it, at most (see `correct`).
        path: How the times of the tokens run from 1 to 0: all together, from left to right, ...
    """

    process: Process = field(default_factory=Absorbing)
    passes: int = 0
    rounds: int = 0
    path: Paths = field(default_factory=Diagonal)

    def __post_init__(self) -> None:
        checks.count("passes", self.passes)
        checks.count("rounds", self.rounds)
        check_process(self.process)
        check_path(self.path)

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[Step]:
        """See `Slots.steps`. All tokens are candidates of every pass: there are no latents to predict besides.

        Raises ValueError for an attention under which a token does not see all others, and for rows that end early.
        """
        tokens, value = split_prompt(model, tokens)
        check_tokens(model, tokens, present)
        check_all_present(self, present)
        predictor(model, tokens != model.mask_id)
        if value is None:
            return self._steps(model, tokens, generator)
        ids = (tokens != model.mask_id) & (tokens != with_port(model).placeholder)
        if not says_values(model) or bool(ids.any()):
            raise ValueError("the tokens of this prompt are ids and values, and Walk takes one kind: take us.Slots()")
        if not isinstance(self.process, Gaussian) or self.rounds:
            raise ValueError(
                f"process={self.process}, rounds={self.rounds}: vectors are walked through Gaussian(), and have no "
                "second thoughts; codes are decoded by Slots"
            )
        if bool((tokens != model.mask_id).all()):
            return iter(())
        walked = denoise_values(
            model, self.process, value, steps=self.passes or tokens.shape[1], path=self.path, generator=generator
        )
        return value_steps(walked, tokens != model.mask_id, with_port(model))

    def _steps(self, model: Model, tokens: Tensor, generator: torch.Generator | None) -> Iterator[Step]:
        given, passes = tokens != model.mask_id, 0
        if bool(given.all()):
            return
        n = self.passes or tokens.shape[1]
        walked = denoise(model, self.process, tokens, steps=n, path=self.path, generator=generator)
        for step in as_steps(walked, given, model.mask_id):
            tokens, passes = step.tokens, passes + 1
            yield step
        if self.rounds:
            thoughts = correct(model, tokens, given, rounds=self.rounds, generator=generator)
            yield from as_steps(thoughts, given, model.mask_id, first=passes)


def denoise(
    model: Model,
    process: AnyProcess,
    tokens: Tensor,
    *,
    steps: int,
    path: Path | None = None,
    random_order: bool = False,
    remask: float = 0.0,
    guidance: float = 1.0,
    shown: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[DenoisingStep[Prediction]]:
    """Says all tokens that are masks, under any process, in `steps` passes; the others are given and stay.

    tokens: `[batch, seq]` int64, the mask id where unsaid: prompts and infilling are one thing.
    path: how the times of the tokens run from 1 to 0; by default all together.
    random_order: the path takes the tokens in random order, not from the left.
    remask: above 0, under `Absorbing`: said tokens may be masked again (see `remasking`).
    guidance: classifier-free, 1 is none (see `prediction.guided`).
    shown: see `walk`.
    generator: every random choice; None = a fresh one of seed 0.
    Raises ValueError on tokens outside the vocabulary, and on what does not go together.
    """
    check_process(process)
    check_tokens(model, tokens)
    mask_id, given = model.mask_id, tokens != model.mask_id
    if isinstance(process, Gaussian):
        raise ValueError(f"{process} noises vectors, and these tokens are ids")
    if model.vocab_size != mask_id + 1 and not process.absorbs:
        raise ValueError(
            f"{model.vocab_size} token ids with the mask at {mask_id}: the noise of {process} is drawn from the ids "
            "below the mask, so the mask should be the last one"
        )
    checks.number("remask", remask, 0, 1, "a share in [0, 1]")
    if remask and not isinstance(process, Absorbing):
        raise ValueError(f"remask={remask} under {process}: give a share above 0 under Absorbing alone")
    check_walk(steps, shown, path, generator)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    blind = process.prior(tokens, torch.zeros_like(given), Ids(mask_id), generator) if guidance != 1 else tokens
    predict = guided(predictor(model, given), given, guidance, blind)
    advance = ancestral(process, mask_id)
    if remask and isinstance(process, Absorbing):
        advance = remasking(process, mask_id, remask)
    start = process.prior(tokens, given, Ids(mask_id), generator)
    rank = draw_ranks(~given, generator) if random_order else None
    return walk(predict, advance, start, given, steps=steps, path=path, rank=rank, shown=shown, generator=generator)


def denoise_values(
    model: Model,
    process: Gaussian,
    value: Tensor,
    *,
    steps: int,
    path: Path | None = None,
    shown: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[DenoisingStep[Tensor]]:
    """Draws the vectors that are not known, from noise to clean in `steps` passes; the others are given and stay.

    value: `[batch, seq, width]` floats, "not a number" where not known.
    path, shown, generator: see `denoise`.
    Raises ValueError for a model without a port of vectors, and for one that predicts eps.
    """
    check_process(process)
    tokens, _ = split_prompt(model, value)
    port, given = port_of(model), tokens != model.mask_id
    if not isinstance(port, Vectors) or not isinstance(process, Gaussian):
        raise ValueError(
            f"{process} under the port {port}: vectors are noised by us.Gaussian() and read by us.Vectors(...)"
        )
    check_walk(steps, shown, path, generator)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    known = with_port(model)
    token = torch.full_like(tokens, known.placeholder)
    every = torch.arange(token.shape[1], device=token.device).expand_as(token)

    prompt = replace(one_block(token, ~given, torch.zeros_like(token)), value=value)
    with torch.no_grad():
        foreseen = known.foreseeing(prompt).foreseen  # once: it does not change with the noise

    def predict(z: Tensor, t: Tensor) -> Tensor:
        layout = replace(one_block(token, ~given, torch.zeros_like(token), time=t), value=z, foreseen=foreseen)
        return known.predict_values(layout, every).value

    advance = gaussian(process, port.view)
    start = process.prior(torch.where(given[..., None], value, 0.0), given, Reals(port.width), generator)
    return walk(predict, advance, start, given, steps=steps, path=path, shown=shown, generator=generator)


def check_process(process: object) -> None:
    """Raises TypeError for what is no process."""
    checks.kind("process", process, (Discrete, Gaussian), "a process, such as us.Absorbing()")


def value_steps(moves: Iterator[DenoisingStep[Tensor]], given: Tensor, model: Denoiser) -> Iterator[Step]:
    """A walk of vectors as the other decoders tell theirs: a vector is committed when its time comes to 0."""
    position = torch.arange(given.shape[1], device=given.device).expand_as(given)
    clean = given
    for move in moves:
        before, clean = clean, move.t == 0
        tokens = torch.where(clean, model.placeholder, model.mask_id)
        read = (tokens, torch.ones_like(move.t))
        yield Step.of_all(
            move.index,
            tokens,
            position,
            clean & ~before,
            read,
            mask_id=model.mask_id,
            entries=given.shape[1],
            real=~given,
            value=move.z,
        )


def as_steps(moves: Iterator[DenoisingStep[Prediction]], given: Tensor, mask_id: int, first: int = 0) -> Iterator[Step]:
    """Moves as the other decoders tell theirs: every free token is a candidate, and what changes to a token is said.

    first: the number of the first.
    """
    position = torch.arange(given.shape[1], device=given.device).expand_as(given)
    for move in moves:
        probability, likeliest = move.prediction.logits.softmax(-1).max(-1)
        yield Step.of_all(
            first + move.index,
            move.z,
            position,
            move.changed & (move.z != mask_id),
            (likeliest, probability),
            mask_id=mask_id,
            entries=given.shape[1],
            real=~given,
        )
