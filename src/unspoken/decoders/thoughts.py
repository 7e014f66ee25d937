"""Reasoning in blocks of vectors: each drawn from noise, then put into words; then the answer, from left to right."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_all_present, check_answers, check_causal, check_tokens
from unspoken.decoders.sampling import check_sampling
from unspoken.decoders.step import Step
from unspoken.layout.entries import Layout
from unspoken.layout.thoughts import Reasoning
from unspoken.model.cache import Cache
from unspoken.model.codec import words_of
from unspoken.model.denoiser import Denoiser
from unspoken.model.drawing import draw_ids
from unspoken.model.network import Model
from unspoken.model.ports import Vectors
from unspoken.noise import Gaussian
from unspoken.noise.gaussian import normal
from unspoken.noise.thoughts import Thoughts


@dataclass(frozen=True)
class ThoughtWalk:
    """A walk of every block of vectors from noise to clean, with a cache of the blocks before it; then the answer.

    LaDiR (Kang et al. 2025, arXiv 2510.04573). After each block the model says whether another follows. The words of
    a block are those that the model's codec reads in its vectors.

    Attributes:
        form: Where question, thoughts and answer stand in a sequence.
        vectors: Of a block.
        process: Whose noise it goes through.
        passes: Of the walk of one block.
        noise: Standard deviation of the noise that it begins with, of which the model was trained on 1.
        guidance: Classifier-free, against the model that does not see the question; 1 is none. Other weights take two
            passes a step.
        repulsion: Rows of one question push each other's blocks apart, by this times the time; 0 is none. Rows farther
            apart than the median are drawn together, and two rows alone feel nothing (see `repulsion`).
        blocks: So many at most; 0 for as many as there is room for.
        temperature: Of the answer's words; 0 says the likeliest.
    """

    form: Thoughts
    vectors: int = 2
    process: Gaussian = field(default_factory=lambda: Gaussian(path="linear"))
    passes: int = 16
    noise: float = 1.0
    guidance: float = 1.0
    repulsion: float = 0.0
    blocks: int = 0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        checks.plain(self)
        checks.count("passes", self.passes, 1)
        checks.count("vectors", self.vectors, 1)
        checks.count("blocks", self.blocks, 0, self.form.blocks)
        checks.number("noise", self.noise, 0, checks.HUGE, "a standard deviation, 1 as in training")
        checks.number("guidance", self.guidance, 0, checks.HUGE, "1 for none, more for a stronger pull to the question")
        checks.number("repulsion", self.repulsion, 0, checks.HUGE, "0 for none")
        check_sampling(self.temperature, 0, 1.0)

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[Step]:
        """Says thoughts and answer of `tokens` `[batch, form.length]`: the question, and masks.

        predict_latents: tell at every pass the words of the block as it would come out (`Step.likeliest`).
        Raises ValueError for tokens of another shape, and for a model that has no vectors or no codec.
        """
        check_tokens(model, tokens, present)
        check_all_present(self, present)
        check_causal(self, model)
        checks.seeded(generator)
        if not isinstance(model, Denoiser) or model.codec is None or not isinstance(model.port, Vectors):
            raise ValueError("ThoughtWalk draws a model's thoughts as vectors: take a model of ThoughtDiffusion")
        own = model.decoder
        if isinstance(own, dict) and own.get("vectors", self.vectors) != self.vectors:
            raise ValueError(f"vectors={self.vectors} of a model whose blocks have {own['vectors']}: leave vectors out")
        asked = torch.arange(tokens.shape[1], device=tokens.device) < self.form.question
        if tokens.shape[1] != self.form.length or not bool(((tokens != model.mask_id) == asked).all()):
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)}: give [batch, {self.form.length}], the first "
                f"{self.form.question} of each row the question and all others the mask {model.mask_id}"
            )
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        return _Walk(self, model, tokens, predict_latents, generator).run() if len(tokens) else iter(())


class _Walk:
    """One decoding: the rows' tokens and caches as they grow."""

    def __init__(self, its: ThoughtWalk, model: Denoiser, tokens: Tensor, tell: bool, generator: torch.Generator):
        self.its, self.model, self.tokens, self.tell, self.generator = its, model, tokens, tell, generator
        self.form, self.seats = its.form, Reasoning(its.form, its.vectors)
        question = tokens[:, : its.form.question]
        self.same = (question[:, None] == question[None]).all(-1)
        asked = [question] if its.guidance == 1 else [question, torch.full_like(question, model.mask_id)]
        self.streams = [_Stream(model, self.seats.ask(q)) for q in asked]
        self.going = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        self.index = 0
        self.width: list[int] = []  # entries of the last pass, and cached ones

    @torch.no_grad()
    def run(self) -> Iterator[Step]:
        """Blocks while a row goes on, then the answer."""
        most = self.its.blocks or self.form.blocks
        for b in range(most):
            z = yield from self._block(b)
            yield from self._end(b, z, last=b == most - 1)
            if not bool(self.going.any()):
                break
        yield from self._answer()

    def _block(self, b: int) -> Iterator[Step]:
        """From noise to clean."""
        model, its, rows = self.model, self.its, len(self.tokens)
        port, kind = vectors_port(model), model.trunk.dtype
        like = torch.zeros(rows, its.vectors, port.width, dtype=kind, device=model.device)
        z = its.noise * normal(like, self.generator)
        times = torch.linspace(1, 0, its.passes + 1, dtype=z.dtype).tolist()
        for k in range(its.passes):
            t, s = (torch.full((rows,), time, dtype=z.dtype, device=z.device) for time in times[k : k + 2])
            latents = self.seats.block(b, z, t, self.going, noisy=b)
            said = yield from self._predicted(latents, b)
            wide = t[:, None].expand(z.shape[:2])
            views = its.process.views(said, z, wide, port.view)
            push = self._push(z, times[k]) * (times[k] - times[k + 1]) if its.repulsion else 0.0
            z = push + its.process.step(views, z, wide, s[:, None].expand(z.shape[:2]), self.generator)
            check_answers(self.index, (z * 0).flatten(1)[self.going])
            words = words_of(self._codec, views.x0, self.form) if self.tell else None
            yield self._step(self._words(b), self.width, words)
        return z

    def _predicted(self, latents: Layout, b: int) -> Generator[Step, None, Tensor]:
        """What the model predicts at the latents, guided where it is asked; the blind model's pass is a step too."""
        if len(self.streams) == 1:
            said, *self.width = self.streams[0].values(latents)
            return said
        blind, *width = self.streams[1].values(latents)
        yield self._step(self._words(b), width, None)
        said, *self.width = self.streams[0].values(latents)
        return blind + self.its.guidance * (said - blind)

    def _push(self, z: Tensor, t: float) -> Tensor:
        """How fast rows of one question move apart at time t, whatever it is that the model predicts."""
        same = self.same & self.going[:, None] & self.going
        return (self.its.repulsion * t * repulsion(z.flatten(1), same)).view_as(z)

    def _end(self, b: int, z: Tensor, last: bool) -> Iterator[Step]:
        """After a block: its words, and whether another follows."""
        form, there = self.form, self.going
        words = words_of(self._codec, z, form)
        clean = self.seats.block(b, z, z.new_zeros(len(z)), there)
        states, *width = self.streams[0].read(clean)
        logits = self.model.ids.predict(states[:, -1:])
        check_answers(self.index, logits.amax(-1) * 0)
        on = logits[:, 0, form.more] > logits[:, 0, form.done]
        self.going = there & on & (not last)
        at, words = self._words(b), torch.where(there[:, None], words, form.pad)
        if not bool(self.going.any()):  # nothing follows: what is left of the thoughts is padding
            left = [self._words(later) for later in range(b + 1, form.blocks)]
            at = torch.cat([at, *left], 1)
            words = torch.nn.functional.pad(words, (0, at.shape[1] - form.words), value=form.pad)
        self.tokens = self.tokens.scatter(1, at, words)
        yield self._step(at, width, words, said=True)
        if len(self.streams) > 1 and bool(self.going.any()):
            _, *width = self.streams[1].read(clean)
            yield self._step(self._words(b), width, None)

    def _answer(self) -> Iterator[Step]:
        """From left to right, read at the start entry and at the words."""
        form, first = self.form, self.form.length - self.form.answer
        word = torch.full_like(self.tokens[:, :1], form.done)
        for i in range(form.answer):
            states, *width = self.streams[0].read(self.seats.say(word, i))
            logits = self.model.ids.predict(states[:, -1:])
            check_answers(self.index, logits.amax(-1) * 0)
            word, logp = draw_ids(logits, self.generator, self.its.temperature)
            self.tokens = self.tokens.scatter(1, torch.full_like(word, first + i), word)
            yield self._step(torch.full_like(word, first + i), width, word, logp.exp(), said=True)

    @property
    def _codec(self) -> Denoiser:
        assert self.model.codec is not None
        return self.model.codec

    def _words(self, b: int) -> Tensor:
        """`[batch, words]`: the positions of a thought."""
        first = self.form.question + b * self.form.words
        return torch.arange(first, first + self.form.words, device=self.tokens.device).expand(len(self.tokens), -1)

    def _step(
        self,
        at: Tensor,
        width: Sequence[int],
        words: Tensor | None,
        probability: Tensor | None = None,
        said: bool = False,
    ) -> Step:
        words = torch.full_like(at, self.model.mask_id) if words is None else words
        probability = torch.zeros(at.shape, device=at.device) if probability is None else probability
        step = Step.of_all(
            self.index,
            self.tokens,
            at,
            torch.full_like(at, said, dtype=torch.bool),
            (words, probability),
            mask_id=self.model.mask_id,
            entries=width[0],
            cached=width[1],
            real=torch.ones_like(at, dtype=torch.bool),
        )
        self.index += 1
        return step


class _Stream:
    """The model beside one question: what of it is in the cache, and what is not yet."""

    def __init__(self, model: Denoiser, question: Layout):
        self.model = model
        self.waiting: Layout | None = question
        cache = model.new_cache()
        assert cache is not None
        self.cache: Cache = cache

    def values(self, latents: Layout) -> tuple[Tensor, int, int]:
        """What the port predicts at the latents `[batch, m]`; entries computed a row, and cached ones."""
        layout, cached = self._with(latents), len(self.cache)
        wide = layout.shape[1] - latents.shape[1]
        at = torch.arange(wide, layout.shape[1], device=latents.token.device).expand(latents.shape)
        prediction: Any = self.model.predict_values(layout, at, self.cache)
        self.cache.keep(layout, wide)
        return prediction.value, layout.shape[1], cached

    def read(self, context: Layout) -> tuple[Tensor, int, int]:
        """The states of new context; entries computed a row, and cached ones. It stays in the cache."""
        layout, cached = self._with(context), len(self.cache)
        states = self.model.states(layout, cache=self.cache)
        self.cache.keep(layout, layout.shape[1])
        return states[:, -context.shape[1] :], layout.shape[1], cached

    def _with(self, more: Layout) -> Layout:
        layout, self.waiting = more if self.waiting is None else self.waiting.join(more), None
        return layout


def vectors_port(model: Denoiser) -> Vectors:
    """The port of a model that is known to draw vectors."""
    assert isinstance(model.port, Vectors)
    return model.port


def repulsion(z: Tensor, same: Tensor) -> Tensor:
    """`[n, width]`: the force that pushes the rows of `z` `[n, width]` apart (LaDiR's diversity guidance).

    F(z_i) = sum over j of 2 (1 - d2 / sigma^2) exp(-d2 / sigma^2) (z_i - z_j), over the rows j of the same question, d2
    the squared distance of i and j, sigma the median distance of two rows of that question. Beyond the median the force
    pulls; two rows are at their median, and feel nothing.
    same: `[n, n]` bool, which rows are of one question. The forces of a pair cancel, so that their sum is 0.
    """
    force, group = torch.zeros_like(z), same.to(torch.uint8).argmax(1)  # the first row of one's question
    for first in group[same.any(1)].unique().tolist():
        of = ((group == first) & same.any(1)).nonzero()[:, 0]
        away = z[of][:, None] - z[of][None]
        far = away.square().sum(-1)
        other = ~torch.eye(len(of), dtype=torch.bool, device=z.device)
        if len(of) < 2 or not bool((median := far[other].median()) > 0):
            continue  # one row, or rows that coincide: no direction to push
        near = far / median
        force[of] = ((2 * (1 - near) * (-near).exp())[..., None] * away).sum(1)
    return force
