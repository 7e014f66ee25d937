"""LaDiR's two stages of training: words to vectors and back, and reasoning in vectors (arXiv 2510.04573).

`Autoencoding` trains one trunk to read a block of words into vectors and to say it again. `ThoughtDiffusion` trains the
reasoner, which denoises the blocks one after the other, says whether another follows, and then the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.attention import Attention
from unspoken.layout.entries import Layout, uniform
from unspoken.layout.packing import Packed
from unspoken.layout.questions import KL, SUCCESSOR, Question, SquaredError
from unspoken.layout.reads import Draw, Reads, Stepped
from unspoken.layout.thoughts import Reasoning, to_vectors, to_words
from unspoken.model.codec import vectors_of
from unspoken.model.denoiser import Denoiser
from unspoken.model.posterior import Posterior
from unspoken.noise import AnyProcess, Gaussian, Views
from unspoken.noise.gaussian import normal
from unspoken.noise.thoughts import Thoughts
from unspoken.noise.times import stratified_times
from unspoken.record import to_record
from unspoken.tasks.base import Examples
from unspoken.training.base import Batch, Objective, need_causal


@dataclass(frozen=True)
class Autoencoding(Objective):
    """A variational autoencoder over blocks of words, encoder and decoder in one trunk (LaDiR's stage A).

    Masks behind a block's words (memory entries) are read as what its vectors are drawn from. A second pass shows the
    vectors, and is asked for the words, each after those before it. With `Trunk(checkpoint=, lora=)` the adapter
    encodes, and the checkpoint as it was decodes: a frozen decoder.

    Attributes:
        form: Where the thoughts stand in a sequence.
        vectors: Of a block.
        width: Of a vector, as the port has it.
        beta: What the divergence of the vectors from N(0, 1) weighs, in nats a block, against nats a word.
        noise: Standard deviation of what is added to the vectors before they are read (the paper's k).
        replace: Share of the words that the encoder sees as random others.
    """

    form: Thoughts
    vectors: int = 2
    width: int = 8
    beta: float = 1e-5
    noise: float = 0.0
    replace: float = 0.0

    def __post_init__(self) -> None:
        checks.plain(self)
        checks.count("vectors", self.vectors, 1)
        checks.count("width", self.width, 1)
        checks.number("beta", self.beta, 0, checks.HUGE, "0 for an autoencoder, or a weight above it")
        checks.number("noise", self.noise, 0, checks.HUGE, "a standard deviation, 0 for none")
        checks.number("replace", self.replace, 0, 1, "a share in [0, 1]")

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a word would see those after it."""
        need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any] | None:
        """None: it says blocks of vectors, `codec.words_of`, and completes nothing."""
        return None

    @property
    def unit(self) -> str:
        """Its losses are of several kinds."""
        return "the weighted sum of its losses"

    @property
    def positions(self) -> int:
        """Positions of its passes: a block's words, and its vectors."""
        return self.form.words + self.vectors

    def port(self) -> Posterior:
        """The only one that it can be trained with."""
        return Posterior(self.width, placeholder=self.form.more)

    def _pack(self, batch: Batch) -> Packed:
        _, thoughts, _ = self.form.split(batch.x0)
        there = self.form.there(thoughts)
        (n, blocks, words), width = thoughts.shape, self.vectors
        encode = to_vectors(self._seen(thoughts, batch.generator), there, width, batch.mask_id)
        memory = _columns(n, range(blocks * words, encode.shape[1]), thoughts)
        weight = self.beta * _each_alike(there, 1).repeat_interleave(width, 1)
        kl = Question(memory, memory, weight, torch.zeros_like(memory), "values", KL())
        says = to_words(thoughts[..., :-1], there, width, self.form)
        at = _columns(n, range(blocks * width, says.shape[1]), thoughts)
        share = _each_alike(there, words).repeat_interleave(words, 1)
        asked = Question(at, thoughts.flatten(1), share, torch.full_like(at, SUCCESSOR))
        reads = self._draw(memory, _columns(n, range(blocks * width), thoughts), batch)
        return Packed(encode, (kl,), Packed(says, (asked,), reads=reads, bare=True))

    def _draw(self, at: Tensor, into: Tensor, batch: Batch) -> Draw:
        like = torch.zeros(*at.shape, self.width, device=at.device)
        return Draw(at, into, normal(like, batch.generator), self.noise * normal(like, batch.generator))

    def _seen(self, thoughts: Tensor, generator: torch.Generator | None) -> Tensor:
        """What the encoder sees of the words: some are others, of the thoughts of the batch."""
        if not self.replace:
            return thoughts
        flat = thoughts[self.form.there(thoughts)].flatten()
        others = flat[(uniform(thoughts, generator) * len(flat)).long()]
        return torch.where(uniform(thoughts, generator) < self.replace, others, thoughts)


@dataclass(frozen=True)
class ThoughtDiffusion(Objective):
    """Reasoning in blocks of vectors, then the answer in words (LaDiR's stage B): flow, answer and stop at once.

    Each block is denoised beside the question and the clean blocks before it; at the end of a block the model says
    whether another follows; the answer is said from left to right after the last.

    Attributes:
        form: Where question, thoughts and answer stand in a sequence.
        vectors: Of a block, as its `Autoencoding` run has them.
        flow: Weight of the squared error of the noisy vectors, the mean over their width.
        answer: Weight of the answer's words, nats a word.
        stop: Weight of what follows on a block, nats a block.
        draws: Noisy copies of each block in a pass.
        context: The clean blocks are shown at times drawn from [0, context]: a cheap stand-in for `rollout`.
        unconditional: Share of the rows whose question is hidden, so that it can be guided by (arXiv 2207.12598).
        rollout: Above 0, the answer follows on blocks that the model draws itself in so many steps, and its loss
            trains them too: the paper's second stage.
    """

    form: Thoughts
    vectors: int = 2
    flow: float = 5.0
    answer: float = 1.0
    stop: float = 2.0
    draws: int = 1
    context: float = 0.0
    unconditional: float = 0.1
    rollout: int = 0

    def __post_init__(self) -> None:
        checks.plain(self)
        checks.count("vectors", self.vectors, 1)
        checks.count("draws", self.draws, 1)
        checks.count("rollout", self.rollout)
        for name in ("flow", "answer", "stop"):
            checks.number(name, getattr(self, name), 0, checks.HUGE, "a weight of 0 or more")
        if not self.flow:
            raise ValueError("flow=0: the vectors would not be trained; give a weight above 0")
        checks.number("context", self.context, 0, 1, "a time in [0, 1], 0 for clean vectors")
        checks.number("unconditional", self.unconditional, 0, checks.BELOW_1, "a share in [0, 1)")

    @property
    def seats(self) -> Reasoning:
        """Where everything stands in a pass."""
        return Reasoning(self.form, self.vectors)

    @property
    def unit(self) -> str:
        """Its losses are of several kinds."""
        return "the weighted sum of its losses"

    @property
    def positions(self) -> int:
        """Positions of its passes."""
        return self.seats.reach

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a block would see those after it, or the answer."""
        need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """The record of a walk through the blocks."""
        form = to_record(self.form)
        return {"type": "ThoughtWalk", "form": form, "vectors": self.vectors, "process": to_record(process)}

    def values(self, model: Denoiser, examples: Examples) -> Tensor:
        """`[batch, blocks * vectors, width]`: the vectors of the thoughts of examples, by the model's codec."""
        if model.codec is None:
            raise ValueError(
                "the model has no codec, and its thoughts are vectors: train with codec=, a run of stage A"
            )
        _, thoughts, _ = self.form.split(examples.x0)
        there = self.form.there(thoughts)
        device = model.codec.device
        found = vectors_of(model.codec, thoughts.to(device), there.to(device), self.vectors)
        return torch.where(
            there[..., None, None], found.to(examples.x0.device, torch.get_default_dtype()), 0.0
        ).flatten(1, 2)

    def _pack(self, batch: Batch) -> Packed:
        process, z = flow_of(batch, self), batch.values.unflatten(1, (self.form.blocks, self.vectors))
        question, thoughts, answer = self.form.split(batch.x0)
        there = self.form.there(thoughts)
        hidden = uniform(question[:, :1], batch.generator) < self.unconditional
        question = torch.where(hidden, batch.mask_id, question)
        context = self._context(question, answer, z, there, process, batch.generator)
        layout, flow = self._noised(context, z, there, process, batch.generator)
        asks = (self._stops(there), self._answers(answer))
        if not self.rollout:
            return Packed(layout, (flow, *asks))
        return Packed(layout, (flow,), self._rolled(question, answer, there, batch, process))

    def _context(
        self,
        question: Tensor,
        answer: Tensor,
        z: Tensor,
        there: Tensor,
        process: Gaussian,
        generator: torch.Generator | None,
    ) -> Layout:
        """The question, the blocks `z` `[n, blocks, vectors, width]` at small times or clean, and the answer."""
        t = self.context * uniform(there, generator).to(z.dtype)
        value = process.mix(Views(z, normal(z, generator)), t[..., None].expand(z.shape[:3]))
        return self._laid(question, answer, value, t, there)

    def _laid(self, question: Tensor, answer: Tensor, value: Tensor, time: Tensor, there: Tensor) -> Layout:
        layout = self.seats.ask(question)
        for b in range(self.form.blocks):
            layout = layout.join(self.seats.block(b, value[:, b], time[:, b], there[:, b]))
        return layout.join(self.seats.say(self.seats.starts(answer)))

    def _noised(
        self, layout: Layout, z: Tensor, there: Tensor, process: Gaussian, generator: torch.Generator | None
    ) -> tuple[Layout, Question]:
        """The noisy copies of every block behind the context, and what they are asked for."""
        copies, present = self.form.blocks * self.draws, there.repeat_interleave(self.draws, 1)
        t = stratified_times(len(z) * copies, generator, z.device).view(len(z), copies).to(z.dtype)
        every, late = z.repeat_interleave(self.draws, 1), t[..., None].expand(-1, -1, self.vectors)
        eps = normal(every, generator)
        noisy = process.mix(Views(every, eps), late)
        for d in range(copies):
            layout = layout.join(self.seats.block(d // self.draws, noisy[:, d], t[:, d], present[:, d], noisy=d))
        at = _columns(len(z), range(self.seats.reach, layout.shape[1]), there)
        weight = self.flow * _each_alike(present, self.vectors).repeat_interleave(self.vectors, 1)
        loss = SquaredError(process, late.flatten(1), eps.flatten(1, 2))
        return layout, Question(at, every.flatten(1, 2), weight, torch.zeros_like(at), "values", loss)

    def _stops(self, there: Tensor) -> Question:
        """After each block: does another follow?"""
        n, blocks = there.shape
        at = torch.tensor([self.seats.clean(b)[-1] for b in range(blocks)], device=there.device).expand(n, -1)
        follows = torch.nn.functional.pad(there[:, 1:], (0, 1))
        target = torch.where(follows, self.form.more, self.form.done)
        return Question(at, target, self.stop * _each_alike(there, 1), torch.full_like(at, SUCCESSOR))

    def _answers(self, answer: Tensor) -> Question:
        at = _columns(len(answer), self.seats.answer, answer)
        weight = torch.full(at.shape, self.answer / max(answer.numel(), 1), device=at.device)
        return Question(at, answer, weight, torch.full_like(at, SUCCESSOR))

    def _rolled(self, question: Tensor, answer: Tensor, there: Tensor, batch: Batch, process: Gaussian) -> Packed:
        """Passes that draw every block from noise, and the last one, which is asked for stop and answer."""
        seats, (n, blocks) = self.seats, there.shape
        z = batch.values.unflatten(1, (blocks, self.vectors))
        start, none = normal(z, batch.generator), z.new_zeros(n, blocks)
        whole = self._laid(question, answer, torch.zeros_like(z), none, there)
        for b in range(blocks):
            whole = whole.join(seats.block(b, start[:, b], none[:, b] + 1, there[:, b], noisy=b))
        times = torch.linspace(1, 0, self.rollout + 1, dtype=torch.float64).tolist()
        passes: list[Packed] = []
        reads: Reads | None = None
        for b in range(blocks):
            at, clean = (_columns(n, its, answer) for its in (seats.noisy(b), seats.clean(b)))
            seen = [*range(seats.clean(b)[0]), *seats.noisy(b)]
            for t, s in pairwise(times):
                time = whole.times.scatter(1, at, z.new_full(at.shape, t))
                passes.append(Packed(replace(_only(whole, seen), time=time), (), reads=reads))
                reads = Stepped(process, at, at if s else clean, z.new_full(at.shape, s))
        asks = (self._stops(there), self._answers(answer))
        packed = Packed(_only(whole, list(range(seats.reach))), asks, reads=reads)
        for each in reversed(passes):
            packed = replace(each, then=packed)
        return packed


def _only(layout: Layout, entries: list[int]) -> Layout:
    """The layout with all other entries in no document."""
    gone = torch.ones(layout.shape, dtype=torch.bool, device=layout.token.device)
    gone[:, entries] = False
    return layout.without(gone)


def flow_of(batch: Batch, objective: object) -> Gaussian:
    """Raises ValueError for a process that noises no vectors."""
    if not isinstance(batch.process, Gaussian):
        raise ValueError(f'{objective} noises vectors, and {batch.process} does not: take Gaussian(path="linear")')
    return batch.process


def _columns(n: int, columns: range, like: Tensor) -> Tensor:
    """`[n, m]`: the same columns in every row."""
    return torch.tensor(list(columns), device=like.device).expand(n, -1)


def _each_alike(there: Tensor, parts: int) -> Tensor:
    """`[n, blocks]`: weights of the blocks that are there, of which each has so many parts, that sum to 1 over all."""
    return there / (there.sum().clamp_min(1) * parts)
