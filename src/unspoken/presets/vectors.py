"""Training runs and studies of latents that are vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.layout.attention import CACHED_JOINT
from unspoken.study.forediff import ForediffStudy
from unspoken.study.ladir import LadirStudy
from unspoken.systems import ladir
from unspoken.tasks import Arithmetic, Burgers, Permutations
from unspoken.tasks import Tasks as Task
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import NextTokenPrediction
from unspoken.training.stages import Made

# Where `unspoken train` puts them.
ENCODER_RUN = "runs/ladir-encoder/cached-joint-autoencoding-seed0"
REASONER_RUN = "runs/ladir/cached-joint-thoughtdiffusion-seed0"


def ladir_encoder() -> Train:
    """LaDiR, stage A: thoughts of two words as two vectors, and back; a minute on two cores."""
    return ladir.encoder(Permutations())


def ladir_reasoner() -> Train:
    """LaDiR, stage B: reasons in blocks of vectors, by teacher forcing; some minutes on two cores."""
    made = Made(ENCODER_RUN, "unspoken train ladir-encoder")
    return ladir.reasoner(Permutations(), made)


def ladir_rollout() -> Train:
    """LaDiR, stage C: the answer follows on blocks that the model draws itself; some minutes on two cores."""
    made = Made(REASONER_RUN, "unspoken train ladir")
    return ladir.rolled(ladir_reasoner(), made)


def _ladir(task: Task, steps: int, *, vectors: int = 2, width: int = 8, next_token: int) -> LadirStudy:
    encoder = ladir.encoder(task, vectors=vectors, width=width, steps=400)
    reasoner = ladir.reasoner(task, Made("encoder"), vectors=vectors, width=width, train={"steps": steps})
    baseline = replace(
        reasoner,
        attention=CACHED_JOINT,
        trunk=replace(reasoner.trunk, times=False),
        process=encoder.process,
        objective=NextTokenPrediction(),
        port=None,
        codec=None,
        steps=next_token,
    )
    return LadirStudy(encoder, reasoner, baseline)


def ladir_reference() -> LadirStudy:
    """Three seeds on two permutations, whose right answers can all be counted: half an hour on two cores."""
    return _ladir(Permutations(), 1_600, next_token=3_224)


def ladir_arithmetic() -> LadirStudy:
    """One seed on arithmetic in words, up to three thoughts of five words: twenty minutes on two cores."""
    whole = _ladir(Arithmetic(), 2_000, vectors=4, width=8, next_token=2_954)
    return replace(whole, questions=200, samples=4, rounds=1, passes=(1, 2, 4, 8, 16), seeds=(0,), chance=1e-3)


def ladir_quick() -> LadirStudy:
    """One seed on two permutations, fewer steps and answers: two minutes on two cores."""
    small = Trunk(layers=2, width=64, heads=4, times=True, init=0.07)
    whole = ladir_reference()
    return replace(
        whole,
        encoder=replace(whole.encoder, steps=150),
        reasoner=replace(whole.reasoner, trunk=small, steps=300),
        baseline=replace(whole.baseline, trunk=replace(small, times=False), steps=607),
        more=40,
        rollout=4,
        passes=(1, 2, 8),
        seeds=(0,),
        rounds=4,
    )


VECTORS: dict[str, Callable[[], Train]] = {
    "ladir-encoder": ladir_encoder,
    "ladir": ladir_reasoner,
    "ladir-rollout": ladir_rollout,
}


def forediff_reference() -> ForediffStudy:
    """Three seeds of eleven runs on Burgers' equation: some twenty minutes on two cores."""
    return ForediffStudy(Burgers())


def forediff_quick() -> ForediffStudy:
    """One seed, small streams, a tenth of the steps: two minutes on two cores."""
    return ForediffStudy(
        Burgers(train=2_000, test=50), first=200, second=100, conditions=16, samples=4, passes=8, seeds=(0,)
    )


FOREDIFF: dict[str, Callable[[], ForediffStudy]] = {"reference": forediff_reference, "quick": forediff_quick}
LADIR: dict[str, Callable[[], LadirStudy]] = {
    "reference": ladir_reference,
    "quick": ladir_quick,
    "arithmetic": ladir_arithmetic,
}
