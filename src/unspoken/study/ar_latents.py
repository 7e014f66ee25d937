"""Latent tokens from left to right: does a next-token model gain lookahead from tokens it will not say yet?

One trunk, one budget, one decoding order; the methods differ in what a pass holds and is asked. arXiv 2602.03769.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.accuracy import Outcome, Solved, solved
from unspoken.measure.intervals import Estimate
from unspoken.study.base import Findings, Study, trained
from unspoken.study.methods import Key, Method, Setting
from unspoken.study.report import Check, Claim, Stage, claim, monotone
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs, share
from unspoken.tasks import PathStar
from unspoken.tasks.base import Examples
from unspoken.training.loading import load
from unspoken.training.pool import Job, finished
from unspoken.training.run import Run

Right = dict[Key, Tensor]  # `[seeds, examples]` solved

NEAR, HIGH, MARGIN = 0.1, 0.9, 0.05  # of chance; what lookahead must pass; a clear margin
TABLE = Table(
    "ar-latents",
    {
        "": (
            Column("task", "task"),
            Column("method", "method"),
            Column("window", "window", lambda window: window or "-"),
            Column("decoding", "decoded"),
            Mean("accuracy", "solved", share=True),
            Column("first_token", "first", share),
            *cost_columns("example", mflops=1),
            Column("training_seconds_per_step"),
            Column("lr", "LR", "{:g}".format),
            Column("seeds"),
            Column("curriculum", drawn=True),
        )
    },
    "With 95% intervals. First: share of examples whose first token said is right. Entries: computed a pass. "
    "Passes, MFLOPs and milliseconds: an example.",
)


@dataclass(frozen=True)
class ArLatentsStudy(Study):
    """The study's config.

    Attributes:
        path_star: The task that next-token prediction fails on.
        sudoku: Boards, from left to right.
        rates: Learning rates; each method takes the one that solves most of validation with the first seed.
        workers: Runs trained at a time.
        batch: Examples decoded together.
    """

    TABLE = TABLE

    path_star: Setting
    sudoku: Setting
    rates: tuple[float, ...] = (1e-3, 2e-3)
    workers: int = 2
    batch: int = 250

    def __post_init__(self) -> None:
        if not isinstance(self.path_star.train.task, PathStar):
            raise ValueError(f"path_star is {self.path_star.train.task.title}; give a setting of PathStar")
        if not all(rate > 0 for rate in self.rates):
            raise ValueError(f"rates={self.rates}: give rates above 0")
        if len({f"{r:g}" for r in self.rates}) < len(self.rates):
            raise ValueError(f"rates={self.rates}: give each once; they must differ in six digits")
        super().__post_init__()

    @property
    def chance(self) -> float:
        """Of guessing path-star's first step."""
        assert isinstance(self.path_star.train.task, PathStar)  # checked when it was made
        return 1 / self.path_star.train.task.degree

    @property
    def settings(self) -> dict[str, Setting]:
        """By the name that rows and folders carry."""
        return {"path-star": self.path_star, "sudoku": self.sudoku}

    def budget(self) -> str:
        parts = [
            f"{len(s.methods())} methods x {len(s.seeds)} seed(s) x {s.train.steps} steps of {s.train.batch} on "
            f"{s.train.task.title}"
            for s in self.settings.values()
        ]
        return f"{'; '.join(parts)}; {len(self.rates)} learning rate(s)"

    def job(self, setting: str, method: Method, rate: float, seed: int, steps: int, runs: Path) -> Job:
        """The training run of a method, and its folder."""
        varied = {"objective": method.objective, "attention": method.attention, "lr": rate, "seed": seed}
        parts = [method.name.replace(" ", ""), method.window, f"lr{rate:g}", f"{steps}steps", f"seed{seed}"]
        train = replace(self.settings[setting].train, steps=steps, **varied)
        return train, runs / setting / "-".join(filter(None, parts))

    def first(self, setting: str, method: Method, rate: float, runs: Path) -> Job:
        """The run of the first seed that a method's learning rate is chosen by."""
        its = self.settings[setting]
        return self.job(setting, method, rate, its.seeds[0], its.first_steps, runs)

    def finals(self, setting: str, method: Method, rate: float, runs: Path) -> list[Job]:
        """A method's runs that are measured, one a seed."""
        its = self.settings[setting]
        return [self.job(setting, method, rate, seed, its.train.steps, runs) for seed in its.seeds]

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        for setting in self.settings.values():
            setting.train.task.sample("test", setting.examples)  # too few are said before any work
            if setting.train.task.size("validation") == 0:
                raise ValueError(f"{setting.train.task.title} has no validation examples to choose learning rates by")
        plan = [(name, method) for name, setting in self.settings.items() for method in setting.methods()]
        first = [self.first(name, method, rate, runs) for name, method in plan for rate in self.rates]
        yield from trained(first, self.workers, "training every learning rate", may_diverge=True)
        chosen: dict[Key, tuple[float, float]] = {}  # share of validation solved, and the rate that solves it
        for done, (name, method) in enumerate(plan):
            yield Stage(f"choosing learning rates: {name}, {method.name}", done, len(plan))
            chosen[method.key(name)] = _best_rate(self, name, method, runs)
        rates = [(n, m, chosen[m.key(n)][1]) for n, m in plan]
        yield from trained([job for n, m, rate in rates for job in self.finals(n, m, rate, runs)], self.workers)
        rows: list[Row] = []
        right: dict[Key, Tensor] = {}
        for done, (name, method, rate) in enumerate(rates):
            yield Stage(f"decoding: {name}, {method.name} {method.window}", done, len(rates))
            for way, decoding in method.decodings.items():
                row, its = _measure(self, name, method, way, decoding, rate, runs)
                rows.append(row)
                right.setdefault(method.key(name), its)
        windows = [key for key in right if key[:2] == ("path-star", "AR + MTP")]
        window = max(windows, key=lambda key: chosen[key][0])[2]
        return rows, [lookahead(right, self.chance, window)], _notes(self)


def _best_rate(config: ArLatentsStudy, name: str, method: Method, runs: Path) -> tuple[float, float]:
    """What the first seed solves of validation, decoded as the method is, at the rate that solves most; and that rate.

    Of equals, the one of lower loss; one that diverged is none. ValueError where all did.
    """
    setting, decoding = config.settings[name], next(iter(method.decodings.values()))
    task = setting.train.task
    held_out = task.sample("validation", min(setting.examples, task.size("validation"))).by_size()

    def merit(rate: float) -> tuple[float, float, float]:
        job = config.first(name, method, rate, runs)
        if not finished(job):
            return -1.0, 0.0, rate
        right = _solved(job[1], setting, held_out, decoding, config.batch).right
        return float(right.double().mean()), -Run(job[1]).metrics()[-1].get("validation", 0.0), rate

    share, _, rate = max(map(merit, config.rates))
    if share < 0:
        raise ValueError(f"{method.name} diverged on {name} at every rate of {config.rates}: give lower rates")
    return share, rate


def _solved(folder: Path, setting: Setting, examples: Examples, decoding: Decoder, batch: int) -> Solved:
    return solved(load(folder), setting.train.task, examples, decoding, batch)


def _measure(
    config: ArLatentsStudy, name: str, method: Method, way: str, decoding: Decoder, rate: float, runs: Path
) -> tuple[Row, Tensor]:
    """A row, and `[seeds, examples]` which were solved."""
    setting = config.settings[name]
    test = setting.train.task.sample("test", setting.examples).by_size()
    folders = [folder for _, folder in config.finals(name, method, rate, runs)]
    all_solved = [_solved(folder, setting, test, decoding, config.batch) for folder in folders]
    outcome = Outcome.of([all_solved])
    said_first = (~test.given).long().argmax(1, keepdim=True)
    first = [(s.tokens.cpu() == test.x0).gather(1, said_first).double().mean() for s in all_solved]
    metrics = [Run(folder).metrics() for folder in folders]
    seen = [m for m in metrics[0] if "slots" in m]
    row = TABLE.row(
        task=name,
        method=method.name,
        window=method.window,
        decoding=way,
        accuracy=outcome.right,
        first_token=float(torch.stack(first).mean()),
        training_seconds_per_step=sum(sum(m["seconds"] for m in ms) / len(ms) for ms in metrics) / len(metrics),
        lr=rate,
        seeds=list(setting.seeds),
        # What is foreseen when only the prompt is said, as training goes: seed by seed would say the same.
        curriculum={"step": [m["step"] for m in seen], "slots": [m["slots"] for m in seen]},
        **costs(outcome, "example"),
    )
    return row, outcome.right


def lookahead(right: Right, chance: float, window: str) -> Claim:
    """arXiv 2602.03769: with supervised latents, and not with unsupervised ones, AR models look ahead.

    chance: 1 / degree of path-star. window: of AR + MTP on path-star, chosen on validation.
    """
    return claim(
        "lookahead", [*_on_path_star(right, chance, window), *_on_sudoku(right)], min(map(len, right.values()))
    )


def _windows(right: Right, task: str) -> dict[str, Tensor]:
    return {window: its for (name, method, window), its in right.items() if (name, method) == (task, "AR + MTP")}


def _on_path_star(right: Right, chance: float, window: str) -> list[Check]:
    next_token = Estimate.of(right["path-star", "next token", ""], share=True)
    pause = Estimate.of(right["path-star", "pause", "all"], share=True)
    windows = _windows(right, "path-star")
    best, others = Estimate.of(windows[window], share=True), [f"{w}: {r.mean():.3f}" for w, r in windows.items()]
    return [
        Check(
            chance - NEAR < next_token.low and next_token.high < chance + NEAR,
            f"path-star: next-token AR {next_token} is near 1/degree = {chance:.2f}",
        ),
        Check(
            best.low > HIGH,
            f"AR + MTP with the window chosen on validation ({window}) {best} passes {HIGH} "
            f"(by window {', '.join(others)})",
        ),
        Check(pause.high < HIGH, f"unsupervised latents {pause} do not"),
    ]


def _on_sudoku(right: Right) -> list[Check]:
    baselines = [right["sudoku", "next token", ""], right["sudoku", "mask slot", "1"]]
    better = max(baselines, key=lambda r: float(r.mean()))
    windows = list(_windows(right, "sudoku").values())
    gain = Estimate.of(windows[-1] - better)
    every, slot = Estimate.of(windows[-1], share=True), Estimate.of(better, share=True)
    return [
        Check(
            gain.low > MARGIN,
            f"Sudoku: AR + all latents {every} beats the better AR {slot} by {gain.signed}",
        ),
        monotone(windows, "higher", "solved from the smallest window to all"),
    ]


def _notes(config: ArLatentsStudy) -> list[str]:
    star, board = config.path_star, config.sudoku
    return [
        f"95% t intervals over seeds and examples. {star.examples} held-out graphs after {star.train.steps} steps, "
        f"{len(star.seeds)} seed(s); {board.examples} held-out puzzles after {board.train.steps}, {len(board.seeds)}. "
        "An interval of one seed holds the examples' share alone: what another seed would change is unknown.",
        f"Learning rates {', '.join(f'{r:g}' for r in config.rates)}: each method's own, by validation examples solved "
        f"with the first seed after {star.first_steps} and {board.first_steps} steps.",
        "Greedy, from left to right with a cache where the attention allows one (all but MDM), "
        f"{config.batch} examples together; MDM also by confidence. Teacherless says everything in one pass.",
        f"On boards a row's blocks are asked for about {board.questions} tokens at random thresholds, whatever the "
        "window (pause for one); next token, mask slot and MuToR for every token of the row. Next-token entries are "
        "not told which cell comes next: the mask slot is the fair autoregressive baseline there. So wider windows "
        "have fewer thresholds, and pause, asked for so little, is no even contest on boards; it is on path-star.",
        "Every block counts alike, whatever its window. The first weights and the constant rate of path-star were "
        "found on AR + MTP (docs/results/LOG.md); the other methods take them over.",
        "Next token, MuToR and speculation keep rows that are done in the pass; in the other ways they leave: what "
        "those three cost is an upper bound.",
        "Milliseconds are CPU time. Training seconds a step are those of one worker, while others train beside.",
    ]
