"""A pretrained model of text made into models with latent tokens: what it gains, what it loses, and what it costs.

One checkpoint, one text, one budget for every adaptation. Likelihoods are in bits per byte of held-out text; decodings
are timed beside the `generate` of transformers with the same weights, in one run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.measure.adaptation import Said, next_token_bits, said, slot_bits
from unspoken.measure.samples import unigram_entropy
from unspoken.measure.text import bits_per_byte
from unspoken.model.denoiser import Denoiser
from unspoken.study.adapted import Adapted
from unspoken.study.adapted_claims import BEFORE, GENERATE, NEXT, Bits, Timed, verdicts
from unspoken.study.base import Findings, SeededStudy, check_once, folder_of, trained
from unspoken.study.kept import kept
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table, count
from unspoken.tasks import Prompted
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.models import load
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
    windows: int = 48
    prefixes: int = 16
    draws: int = 4
    prompts: int = 6
    prompt: int = 32
    new: int = 48

    def __post_init__(self) -> None:
        task = self.train.task
        if not isinstance(task, Prompted) or not self.train.trunk.checkpoint:
            raise ValueError(f"{task.title} from {self.train.trunk}: give Prompted(...) and Trunk(checkpoint=...)")
        super().__post_init__()
        check_once("methods, by their folders,", [folder_of(its.name) for its in self.methods])
        if not self.methods[0].reads:
            raise ValueError(
                f"{self.methods[0].name!r} is first, and no token of it is asked for the next; put AR first"
            )
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
            latents = {way: n for way, (n, _) in method.ways().items()}
            rows += [self._likelihood(name, way, latents.get(way, 0), method, v) for (name, way), v in its.items()]
        decoded = []
        for done, method in enumerate(self.methods):
            yield Stage(f"decoding with {method.name}", done, len(self.methods))
            model = _merged(jobs[method.name][0])
            decoded += self._decoded(method, model, windows, before, timed)
        return rows + decoded, verdicts(self.methods, bits, timed, len(self.seeds)), self._notes(windows)

    def _windows(self) -> Examples:
        """Whole windows of the test split. ValueError where there are fewer."""
        its = self.task.sample("test", min(self.task.size("test"), 2 * self.windows))
        whole = its if its.document is None else its.rows((its.document >= 0).all(1).nonzero()[:, 0])
        if len(whole.x0) < max(self.windows, self.prompts):
            raise ValueError(f"{self.task.title}: {len(whole.x0)} whole windows of test; give windows={len(whole.x0)}")
        whole = whole.rows(torch.arange(max(self.windows, self.prompts)))
        return replace(whole, document=None)

    def _checkpoint(self) -> Denoiser:
        return Denoiser.from_pretrained(
            self.train.trunk.checkpoint, attention=self.methods[0].attention, dtype=torch.float32
        )

    def _size(self, windows: Examples) -> Tensor:
        """Mean bytes of what is asked of a window."""
        task = self.task
        return (task.bytes_in(windows.x0) - task.bytes_in(windows.prompt(task.mask_id))).double().mean()

    def _per_byte(self, model: Denoiser, windows: Examples) -> Tensor:
        return next_token_bits(model, windows) / self._size(windows)

    def _kept_bits(self, method: Adapted, jobs: list[Job], windows: Examples, runs: Path) -> Bits:
        """`[seeds, windows]` bits per byte of a method, by its name and the way it is asked; kept beside its runs."""
        asked = {"method": method, "settings": (self.windows, self.prefixes, self.draws), "task": self.task}

        def measure() -> dict[str, Any]:
            of_seeds = [dict(self._bits(method, load(folder, "cpu"), windows)) for _, folder in jobs]
            return {way: [its[way].tolist() for its in of_seeds] for way in of_seeds[0]}

        found = kept(runs / f"bits-{folder_of(method.name)}.json", jobs, asked, measure)
        return {(method.name, way): torch.tensor(its).double() for way, its in found.items()}

    def _bits(self, method: Adapted, model: Denoiser, windows: Examples) -> Iterator[tuple[str, Tensor]]:
        size = self._size(windows)
        if method.reads:
            yield NEXT, self._per_byte(model, windows)
        ways = [(way, n) for way, (n, _) in method.ways().items() if way.startswith("slots")]
        counts = [windows.x0.shape[1] if n is None else n for _, n in ways]
        if not ways:
            return
        if method.masked:
            its = bits_per_byte(self.task, model, self.train.process, windows, counts, self.draws)
        else:
            its = slot_bits(model, windows, counts, self.prefixes) / size
        yield from ((way, row) for (way, _), row in zip(ways, its, strict=True))

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
        self, method: Adapted, model: Denoiser, windows: Examples, before: Denoiser, timed: Timed
    ) -> Iterator[Row]:
        """A row for each way of decoding the first seed's model; adds what it took to `timed`."""
        prompts = windows.x0[: self.prompts, : self.prompt]
        ways: dict[str, Any] = {way: its for way, its in method.ways().items()}
        if method.reads:
            ways = {GENERATE: (0, None), **ways}
        for way, (latents, decoder) in ways.items():
            its = timed[method.name, way] = said(model, prompts, self.new, decoder)
            theirs = timed.get((method.name, GENERATE))
            both = torch.cat([prompts, its.tokens], 1)
            given = torch.arange(both.shape[1])[None] < self.prompt
            judged = next_token_bits(before, Examples(both, given.expand_as(both)))
            yield TABLE.row(
                "decoding",
                method=method.name,
                way=way,
                latents=latents,
                passes=its.passes,
                entries=its.entries,
                seconds=its.seconds[None],
                times=(its.seconds / timed[self.methods[0].name, GENERATE].seconds)[None],
                same=_same(its, theirs) if method.reads and theirs is not None else None,
                entropy=unigram_entropy(its.tokens, torch.ones_like(its.tokens, dtype=torch.bool), model.vocab_size)[
                    None
                ],
                judged=(judged * torch.log(torch.tensor(2.0)) / self.new)[None],
                sample=self.task.coding.tokenizer.decode(its.tokens[0].tolist()),
            )

    def _notes(self, windows: Examples) -> list[str]:
        train = self.train
        few = "" if len(self.seeds) > 1 else " One seed: what another would change is unknown."
        return [
            f"{train.steps} steps of {train.batch} windows of {train.task.length} tokens, {len(self.seeds)} seed(s); "
            f"{len(windows.x0)} windows of the held-out text.{few}",
            *(
                f"{its.name}: {its.trained}, {its.attention.name}, rate {its.lr:g}, {its.objective}"
                for its in self.methods
            ),
            "Slots: each next token is read from a mask, beside masks for those after it. Next token: read at the "
            "token before it, as the checkpoint does; with the shift both are one, and latents can not change it.",
            "Bits in any order are over random orders beside random latents: an upper bound on what the model spends, "
            "and no text is written in that order. They are not to be compared with those from the left.",
            f"Decodings: the first seed, adapters merged, {self.prompts} prompts of {self.prompt} tokens one at a "
            f"time, {self.new} tokens each, the likeliest; {torch.get_num_threads()} thread(s).",
        ]


def _merged(job: Job) -> Denoiser:
    """The model of a run, its adapter made part of the weights."""
    model = load(job[1], "cpu")
    if hasattr(model.trunk, "merge_and_unload"):
        model.trunk = model.trunk.merge_and_unload()  # type: ignore[operator]
    return model.eval()


def _same(mine: Said, theirs: Said) -> float:
    return float((mine.tokens == theirs.tokens).double().mean())
