"""Does reasoning in vectors gain by more denoising steps, and what else does it need? By LaDiR, arXiv 2510.04573.

An encoder turns thoughts into vectors; reasoners denoise them, block after block, and answer. They differ in how they
are trained, and are asked the same questions many times: how often they are right, whether one of the answers is, and
how many right ones differ. Next-token prediction of the same sequences stands beside them, for as many FLOPs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from unspoken.decoders.autoregressive import NextToken
from unspoken.decoders.decode import Decoder
from unspoken.decoders.thoughts import ThoughtWalk
from unspoken.layout.attention import CACHED_ALONE
from unspoken.study.base import Findings, SeededStudy, check_once, folder_of, loaded, trained
from unspoken.study.compared import Comparison, Look, Size, looks_of, verdicts
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table, cost_columns
from unspoken.study.thought_answers import (
    ALONE,
    ENCODER,
    FORCED,
    LONGER,
    NEXT,
    ROLLED,
    SMALL,
    Answers,
    Denoised,
    Found,
    answers,
    denoised,
    more_steps,
    pushed,
    reconstructed,
    repulsion,
    told,
)
from unspoken.systems import ladir
from unspoken.tasks.base import Examples
from unspoken.tasks.reasoned import Reasoned
from unspoken.training.config import Train
from unspoken.training.objective import Autoencoding, NextTokenPrediction, ThoughtDiffusion
from unspoken.training.pool import Job
from unspoken.training.stages import Made

COMPARISONS = (
    Comparison("rollout helps", ROLLED, LONGER, ("parameters",)),
    Comparison("small times help", SMALL, FORCED, ("parameters", "training_flops")),
    Comparison("vectors of a block need each other", FORCED, ALONE, ("parameters", "training_flops")),
    Comparison("vectors beat next tokens", FORCED, NEXT, ("training_flops",)),
)
SHOWN = 6  # answers in the picture, to one question
_VARIANT = Column("variant", "model")
TABLE = Table(
    "ladir",
    {
        "decoding": (
            Column("part", "part"),
            _VARIANT,
            Column("decoding", "decoding"),
            Mean("right", "pass@1", share=True),
            Mean("any_right", "pass@k", share=True),
            Mean("different", "different", digits=2),
            *cost_columns("answer", mflops=2),
            Column("seeds"),
        ),
        "training": (
            Column("part", "part"),
            _VARIANT,
            Column("trunk", "decoding"),
            Column("steps", "decoding", ", {} steps".format),
            Column("parameters", "weights", "{:,}".format),
            Column("training_flops", "MFLOPs", lambda flops: f"{flops / 1e6:,.0f}"),
        ),
        "picture": (
            Column("part", drawn=True),
            Column("variant", drawn=True),
            Column("words", drawn=True),
            Column("answered", drawn=True),
        ),
        "vectors": (
            Column("part", "part"),
            _VARIANT,
            Column("decoding", "decoding"),
            Mean("right", "pass@1", share=True),
        ),
    },
    "decoding: each question many times; pass@1 is the share of right answers, pass@k of questions with one among k, "
    "different how many right ones differ; passes of the reasoner (a guided step is two), MFLOPs and ms an answer. "
    "training: what a model is, and the MFLOPs of all its steps. picture: what a block would say at every step, in "
    "the figure. vectors: the share of thoughts that are read back word for word. With 95% intervals.",
)


@dataclass(frozen=True)
class LadirStudy(SeededStudy):
    """The study's config.

    Attributes:
        encoder: Stage A's run; the seed is varied.
        reasoner: Stage B's, by teacher forcing; its codec is the encoder's run of the same seed.
        baseline: Next-token prediction of the same sequences, at the training FLOPs of `reasoner`.
        context: Times of the context's blocks, at most, of "small times".
        rollout: Steps of a block in the third stage, and `more` steps of training that it takes.
        more: See `rollout`; "longer" trains as much longer by teacher forcing.
        passes: Of the walk of a block, the smallest first.
        at: Passes at which all else is compared; one of `passes`.
        noises: Standard deviations of the first noise, beside 1.
        guidances: Weights of guidance, beside 1.
        repulsions: Strengths of repulsion, beside 0.
        questions: Different ones, of the test split.
        samples: Answers to each, drawn together.
        rounds: How often all questions are asked.
        chance: Share of all sequences of thoughts that answer a question.
    """

    TABLE = TABLE
    MAY_BE_EMPTY = ("noises", "guidances", "repulsions")

    encoder: Train
    reasoner: Train
    baseline: Train
    context: float = 0.2
    rollout: int = 8
    more: int = 300
    passes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    at: int = 8
    noises: tuple[float, ...] = (1.5, 2.0)
    guidances: tuple[float, ...] = (2.0,)
    repulsions: tuple[float, ...] = (0.3, 0.8, 2.0)
    questions: int = 4
    samples: int = 16
    rounds: int = 16
    chance: float = 64 / 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        check_once("passes", self.passes)
        if list(self.passes) != sorted(self.passes) or self.at not in self.passes:
            raise ValueError(f"passes={self.passes}, at={self.at}: give rising numbers of passes, and one of them")
        if self.encoder.task != self.reasoner.task or self.encoder.task != self.baseline.task:
            raise ValueError("encoder, reasoner and baseline have different tasks; give all the same")
        if not isinstance(self.encoder.task, Reasoned):
            raise ValueError(f"{self.encoder.task.title} has no thoughts: take permutations or arithmetic")
        if not isinstance(self.encoder.objective, Autoencoding):
            raise ValueError(f"encoder has objective={self.encoder.objective}; give Autoencoding")
        if not isinstance(self.reasoner.objective, ThoughtDiffusion) or self.reasoner.objective.rollout:
            raise ValueError(f"reasoner has objective={self.reasoner.objective}; give ThoughtDiffusion, no rollout")
        if not isinstance(self.baseline.objective, NextTokenPrediction):
            raise ValueError(f"baseline has objective={self.baseline.objective}; give NextTokenPrediction")

    @property
    def task(self) -> Reasoned:
        """The task of all runs."""
        assert isinstance(self.encoder.task, Reasoned)
        return self.encoder.task

    def budget(self) -> str:
        return (
            f"{len(self.seeds)} seed(s) of an encoder ({self.encoder.steps} steps), of five reasoners "
            f"({self.reasoner.steps} steps, {self.more} more for two) and of next tokens ({self.baseline.steps}) on "
            f"{self.task.title}; then {self.questions * self.samples * self.rounds} answers by each of "
            f"{len(self.ways())} ways of decoding"
        )

    def job(self, name: str, seed: int, runs: Path) -> Job:
        """A training run and its folder."""
        folder = runs / f"{folder_of(name)}-seed{seed}"
        if name in (ENCODER, NEXT):
            return replace(self.encoder if name == ENCODER else self.baseline, seed=seed), folder
        base = replace(self.reasoner, seed=seed, codec=Made(str(self.job(ENCODER, seed, runs)[1])))
        assert isinstance(base.objective, ThoughtDiffusion)
        made = {
            FORCED: lambda: base,
            LONGER: lambda: replace(base, steps=base.steps + self.more),
            SMALL: lambda: replace(base, objective=replace(base.objective, context=self.context)),
            ALONE: lambda: replace(base, attention=CACHED_ALONE),
            ROLLED: lambda: ladir.rolled(
                base, Made(str(self.job(FORCED, seed, runs)[1])), rollout=self.rollout, steps=self.more
            ),
        }
        return made[name](), folder

    def ways(self) -> dict[tuple[str, str], Decoder]:
        """Models and how they are decoded, by their names in the table."""
        objective = self.reasoner.objective
        assert isinstance(objective, ThoughtDiffusion)
        walk = ThoughtWalk(objective.form, objective.vectors, passes=self.at)
        ways: dict[tuple[str, str], Decoder] = {(FORCED, told(n)): replace(walk, passes=n) for n in self.passes}
        ways |= {(name, told(self.at)): walk for name in (LONGER, SMALL, ROLLED, ALONE)}
        ways |= {(FORCED, f"noise {s:g}"): replace(walk, noise=s) for s in self.noises}
        ways |= {(FORCED, f"guidance {g:g}"): replace(walk, guidance=g) for g in self.guidances}
        ways |= {(FORCED, pushed(g)): replace(walk, repulsion=g) for g in self.repulsions}
        return ways | {(NEXT, "temperature 1"): NextToken(temperature=1.0)}

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        jobs = {name: [self.job(name, seed, runs) for seed in self.seeds] for name in _STAGES}
        for stage in (0, 1, 2):  # each begins with runs of the one before
            names = [name for name, its in _STAGES.items() if its == stage]
            yield from trained([job for name in names for job in jobs[name]], self.workers, f"training, stage {stage}")
        models = {name: loaded(its) for name, its in jobs.items()}
        sizes = {name: Size.of(its[0][0]) for name, its in jobs.items() if name != ENCODER}
        for comparison in COMPARISONS:
            comparison.check(sizes)
        vectors = reconstructed(self.encoder, models[ENCODER])
        asked = self.asked()
        found: dict[tuple[str, str], Answers] = {}
        for done, (way, decoder) in enumerate(self.ways().items()):
            yield Stage(f"decoding: {way[0]}, {way[1]}", done, len(self.ways()))
            found[way] = answers(self.task, models[way[0]], asked, decoder, self.samples, self.questions)
        shown = denoised(self.task, models[FORCED][0], asked.rows(slice(0, SHOWN)), self.ways()[FORCED, told(self.at)])
        rows = [*_decoding(self, found), *_training(self, sizes, jobs), *_vectors(vectors), *_pictures(shown)]
        right = {name: found[name, told(self.at)].right for name in (FORCED, LONGER, SMALL, ROLLED, ALONE)}
        right[NEXT] = found[NEXT, "temperature 1"].right
        looks = looks_of(COMPARISONS, right)
        n, middle = len(self.seeds), self.repulsions[len(self.repulsions) // 2 :][:1]
        claims = [
            more_steps(found, vectors, (self.passes[0], self.at), self.chance, n),
            *(repulsion(found, self.at, strength, n) for strength in middle),
            *verdicts(looks, right, sizes),
        ]
        return rows, claims, _notes(self, looks)

    def asked(self) -> Examples:
        """Different questions of the test split, each as often as it is to be answered, round after round."""
        test = self.task.sample("test", self.task.size("test"))
        question = test.x0[:, : self.task.thoughts.question]
        same = (question[:, None] == question[None]).all(-1)
        first = (~same.tril(-1).any(1)).nonzero()[:, 0]
        if len(first) < self.questions:
            raise ValueError(f"questions={self.questions} of {len(first)} different ones in the test split: give fewer")
        return test.rows(first[: self.questions].repeat_interleave(self.samples).repeat(self.rounds))


_STAGES = {ENCODER: 0, FORCED: 1, LONGER: 1, SMALL: 1, ALONE: 1, NEXT: 1, ROLLED: 2}


def _decoding(config: LadirStudy, found: Found) -> list[Row]:
    rows = []
    for (variant, decoding), its in found.items():
        cost = dict(zip((c.key for c in cost_columns("answer")), its.cost.values(), strict=True))
        of = {"right": its.right, "any_right": its.any_right, "different": its.different}
        rows.append(TABLE.row("decoding", variant=variant, decoding=decoding, **of, **cost, seeds=list(config.seeds)))
    return rows


def _training(config: LadirStudy, sizes: Mapping[str, Size], jobs: Mapping[str, Sequence[Job]]) -> list[Row]:
    return [
        TABLE.row(
            "training",
            variant=name,
            trunk=jobs[name][0][0].trunk.told,
            steps=jobs[name][0][0].steps,
            parameters=size.parameters,
            training_flops=size.training_flops,
        )
        for name, size in sizes.items()
    ]


def _vectors(found: Mapping[str, Tensor]) -> list[Row]:
    return [TABLE.row("vectors", variant=ENCODER, decoding=name, right=its) for name, its in found.items()]


def _pictures(shown: Sequence[Denoised]) -> list[Row]:
    return [TABLE.row("picture", variant=FORCED, words=list(its.words), answered=its.right) for its in shown]


def _notes(config: LadirStudy, looks: Sequence[Look]) -> list[str]:
    return [
        f"{len(config.seeds)} seed(s); {config.questions} questions of the test split, {config.samples} answers each, "
        f"{config.rounds} rounds. 95% intervals over seeds and questions; each round counts as questions of its own: "
        "they are about these questions.",
        f"The claims that compare models are corrected together (Holm, {len(looks)} looks), at {told(config.at)}; "
        "test-time compute and repulsion stand alone.",
        "Passes and MFLOPs are the reasoner's; those of its codec, which reads a block's words, are not counted. "
        "Training MFLOPs leave out the encoder, and its forward passes.",
        "Milliseconds are CPU time of this process.",
    ]
