"""A pretrained model of text made into models with latent tokens: what it gains, what it loses, and what it costs.

One checkpoint, one text, one budget for every adaptation. Likelihoods are in bits per byte of held-out text; decodings
are timed beside the `generate` of transformers with the same weights, in one run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.generation import said
from unspoken.measure.samples import unigram_entropy
from unspoken.measure.text import asked_nats, bits_per_byte, bytes_asked, slot_nats
from unspoken.model.denoiser import Denoiser
from unspoken.study.adapted import BEFORE, NEXT, Adapted
from unspoken.study.adapted_claims import GENERATE, Bits, Timed, verdicts
from unspoken.study.base import Findings, SeededStudy, check_once, trained
from unspoken.study.kept import kept
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table, count
from unspoken.tasks import Prompted
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.objective import NextTokenPrediction
from unspoken.training.pool import Job

_HEAD = (Column("part", "part"), Column("method", "method"), Column("way", "way"))
TABLE = Table(
    "adapt",
    {
        "likelihood": (
            *_HEAD,
            Column("latents", "latents", count),
            Column("weights"),
            Column("steps"),
            Mean("bits_per_byte", "bits per byte"),
        ),
        "decoding": (
            *_HEAD,
            Column("latents", "latents", count),
            Column("passes", "passes", "{:.2f}".format),
            Column("entries", "entries", "{:.1f}".format),
            Mean("seconds", "ms", lambda seconds: f"{seconds * 1e3:.0f}"),
            Mean("times", "of AR's", digits=2),
            Column("same", "same", "{:.0%}".format, optional=True),
            Mean("entropy", "entropy", "{:.2f}".format),
            Mean("judged", "judged", "{:.2f}".format),
            Column("sample"),
        ),
    },
    "With 95% intervals over windows. Bits per byte: from the left exactly, or at random prefixes (slots); in any "
    "order over random ones. Passes, entries, milliseconds of CPU: a token, a prompt at a time. Of AR's: of the time "
    "of transformers' generate with the weights of AR. Same: tokens equal to those of transformers' generate with the "
    "same weights. Entropy of a sample's tokens, and judged: nats a token under the checkpoint.",
)

AR = "AR, transformers' generate"  # what all times are told as shares of


@dataclass(frozen=True)
class AdaptStudy(SeededStudy):
    """The study's config.

    Attributes:
        train: The base: the text, the checkpoint and the budget; objective, attention, adapter and rate are varied.
        methods: What the checkpoint is made into. The first reads from the left, and times are told as shares of its.
        windows: Of the test split.
        prefixes: Of a window, at which slots are asked.
        draws: Random steps a window, in any order.
        prompts: Windows whose beginnings are gone on with.
        prompt: Tokens of a beginning.
        new: Tokens that are said after it.
    """

    TABLE = TABLE

    train: Train
    methods: tuple[Adapted, ...]
    windows: int = 32
    prefixes: int = 8
    draws: int = 2
    prompts: int = 4
    prompt: int = 32
    new: int = 32

    def __post_init__(self) -> None:
        task = self.train.task
        if not isinstance(task, Prompted) or not self.train.trunk.checkpoint:
            raise ValueError(f"{task.title} from {self.train.trunk}: give Prompted(...) and Trunk(checkpoint=...)")
        super().__post_init__()
        check_once("methods, by their folders,", [its.folder for its in self.methods])
        if self.train.trunk.loops != 1 or self.train.objective.carries:
            raise ValueError("a trunk that loops or carries states is no model of transformers' generate; give loops=1")
        if not self.methods[0].reads:
            raise ValueError(
                f"{self.methods[0].name!r} is first, and no token of it is asked for the next; put AR first"
            )
        if self.prompts > self.windows:
            raise ValueError(f"prompts={self.prompts} of windows={self.windows}: give more windows, or fewer prompts")
        if self.prompt + self.new > task.length:
            raise ValueError(f"prompt={self.prompt}, new={self.new} of windows of {task.length} tokens: give less")
        for method in self.methods:
            method.train(self.train)  # it checks what it is given

    @property
    def task(self) -> Prompted:
        """The text."""
        assert isinstance(self.train.task, Prompted)  # checked when it was made
        return self.train.task

    def budget(self) -> str:
        train = self.train
        return (
            f"{', '.join(its.name for its in self.methods)}: {len(self.seeds)} seed(s) of {train.steps} steps of "
            f"{train.batch} x {train.task.length} tokens of {train.task.title}; from "
            f"{Path(train.trunk.checkpoint).name}"
        )

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        windows = self._windows()
        jobs = {its.name: [its.job(self.train, seed, runs) for seed in self.seeds] for its in self.methods}
        yield from trained([job for its in jobs.values() for job in its], self.workers)
        yield Stage("measuring the checkpoint", 0, len(self.methods))
        before = self._checkpoint()
        bits: Bits = {(BEFORE, NEXT): self._per_byte(before, windows)[None]}
        rows: list[Row] = [self._likelihood(BEFORE, NEXT, 0, None, bits[BEFORE, NEXT])]
        timed: Timed = {}
        for done, method in enumerate(self.methods):
            yield Stage(f"measuring {method.name}", done, len(self.methods))
            its = self._kept_bits(method, jobs[method.name], windows, runs)
            bits |= its
            latents = {way.name: way.latents for way in method.ways()}
            rows += [self._likelihood(name, way, latents[way], method, v) for (name, way), v in its.items()]
        control = _merged(jobs[self.methods[0].name][0])
        for done, method in enumerate(self.methods):
            yield Stage(f"decoding with {method.name}", done, len(self.methods))
            models = (_merged(jobs[method.name][0]) if done else control, control, before)
            rows += self._decoded(method, models, windows, timed)
        return rows, verdicts(self.methods, bits, timed, len(self.seeds)), self._notes(windows)

    def _windows(self) -> Examples:
        """Whole windows, spread over the test split. ValueError where there are fewer."""
        its = self.task.sample("test", self.task.size("test"))
        whole = its if its.document is None else its.rows((its.document >= 0).all(1).nonzero()[:, 0])
        if self.windows > len(whole):
            raise ValueError(
                f"windows={self.windows}, and the test of {self.task.title} has {len(whole)} whole ones: "
                + (f"give windows={len(whole)}" if len(whole) else "give plain text, more of it or a shorter length")
            )
        return replace(_spread(whole, self.windows), document=None)

    def _checkpoint(self) -> Denoiser:
        return Denoiser.from_pretrained(
            self.train.trunk.checkpoint, attention=self.methods[0].attention, dtype=torch.float32
        )

    def _per_byte(self, model: Denoiser, windows: Examples) -> Tensor:
        """`[windows]` bits per byte by next tokens."""
        nats = asked_nats(model, NextTokenPrediction(), self.train.process, windows)
        return nats / math.log(2) / bytes_asked(self.task, windows)

    def _kept_bits(self, method: Adapted, jobs: list[Job], windows: Examples, runs: Path) -> Bits:
        """`[seeds, windows]` bits per byte of a method, by its name and the way it is asked; kept beside its runs."""
        text = hashlib.sha256(windows.x0.numpy().tobytes()).hexdigest()
        asked = {"method": method, "settings": (self.prefixes, self.draws), "windows": text}

        def measure() -> dict[str, Any]:
            of_seeds = [dict(self._bits(method, load(folder, "cpu"), windows)) for _, folder in jobs]
            return {way: [its[way].tolist() for its in of_seeds] for way in of_seeds[0]}

        found = kept(runs / f"bits-{method.folder}.json", jobs, asked, measure)
        return {(method.name, way): torch.tensor(its).double() for way, its in found.items()}

    def _bits(self, method: Adapted, model: Denoiser, windows: Examples) -> Iterator[tuple[str, Tensor]]:
        if method.reads:
            yield NEXT, self._per_byte(model, windows)
        if not method.latents:
            return
        counts = [windows.x0.shape[1] if n is None else n for n in method.latents]
        if method.masked:
            its = bits_per_byte(self.task, model, self.train.process, windows, counts, self.draws)
        else:
            nats = slot_nats(model, windows, counts, self.prefixes)
            its = nats / math.log(2) / bytes_asked(self.task, windows)
        yield from ((way.name, row) for way, row in zip(method.slots(), its, strict=True))

    def _likelihood(self, name: str, way: str, latents: int | None, method: Adapted | None, bits: Tensor) -> Row:
        return TABLE.row(
            "likelihood",
            method=name,
            way=way,
            latents=latents,
            weights=method.trained if method else "none",
            steps=self.train.steps if method else 0,
            bits_per_byte=bits,
        )

    def _decoded(
        self, method: Adapted, models: tuple[Denoiser, Denoiser, Denoiser], windows: Examples, timed: Timed
    ) -> Iterator[Row]:
        """A row for each way of decoding the first seed's model; adds what it took to `timed`.

        models: the method's, the control's (the first method), and the checkpoint.
        """
        model, control, before = models
        prompts = _spread(windows, self.prompts).x0[:, : self.prompt]
        latents = {GENERATE: 0} | {way.name: way.latents for way in method.ways()}
        ways: dict[str, tuple[Denoiser, Decoder | None]] = {GENERATE: (model, None)} if method.reads else {}
        ways |= {way.name: (model, way.decoder) for way in method.ways()}
        found = said({AR: (control, None), **ways}, prompts, self.new)
        timed |= {(method.name, way): its for way, its in found.items()}
        for way in ways:
            its, theirs = found[way], found.get(GENERATE)
            both = torch.cat([prompts, its.tokens], 1)
            given = (torch.arange(both.shape[1]) < self.prompt).expand_as(both)
            judged = asked_nats(before, NextTokenPrediction(), self.train.process, Examples(both, given)) / self.new
            every = torch.ones_like(its.tokens, dtype=torch.bool)
            yield TABLE.row(
                "decoding",
                method=method.name,
                way=way,
                latents=latents[way],
                passes=its.passes,
                entries=its.entries,
                seconds=its.seconds[None],
                times=(its.seconds / found[AR].seconds)[None],
                same=None if theirs is None else float((its.tokens == theirs.tokens).double().mean()),
                entropy=unigram_entropy(its.tokens, every, model.vocab_size)[None],
                judged=judged[None],
                sample=self.task.coding.tokenizer.decode(its.tokens[0].tolist()),
            )

    def _notes(self, windows: Examples) -> list[str]:
        train = self.train
        few = "" if len(self.seeds) > 1 else " One seed: what another would change is unknown."
        return [
            f"{train.steps} steps of {train.batch} windows of {train.task.length} tokens, {len(self.seeds)} seed(s); "
            f"{len(windows)} windows, spread evenly over the held-out text.{few}",
            *(
                f"{its.name}: {its.trained}, {its.attention.name}, rate {its.lr:g}, {its.objective}"
                for its in self.methods
            ),
            "Slots: each next token is read from a mask, beside masks for those after it. Next token: read at the "
            "token before it, as the checkpoint does; with the shift both are one, and latents can not change it.",
            "Bits in any order are over random orders beside random latents: an upper bound on what the model spends, "
            "and no text is written in that order. They are not to be compared with those from the left.",
            f"Decodings: the first seed, adapters merged, {self.prompts} prompts of {self.prompt} tokens one at a "
            f"time, {self.new} tokens each, the likeliest; {torch.get_num_threads()} thread(s). The ways of a method, "
            "and AR's generate beside them, take turns at each prompt. Slots of masked models commit the surest of 8 "
            "candidates, which see each other.",
        ]


def _merged(job: Job) -> Denoiser:
    """The model of a run, its adapter made part of the weights."""
    model = load(job[1], "cpu")
    if hasattr(model.trunk, "merge_and_unload"):
        model.trunk = model.trunk.merge_and_unload()  # type: ignore[operator]
    return model.eval()


def _spread(examples: Examples, n: int) -> Examples:
    """So many rows, evenly over all."""
    return examples.rows(torch.linspace(0, len(examples) - 1, n).round().long())
