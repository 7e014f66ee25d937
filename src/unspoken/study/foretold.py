"""What the samples of a flow are like, and what the answers of a predictor: measured, and judged.

The models of `study forediff`, by their names, and its claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unspoken.decoders.decode import decode
from unspoken.decoders.denoise import denoise_values
from unspoken.decoders.step import last
from unspoken.measure.accuracy import clock
from unspoken.measure.costs import pass_flops
from unspoken.measure.ensemble import ensemble
from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.model.denoiser import Denoiser
from unspoken.study.report import Check, Claim, claim
from unspoken.systems import forediff
from unspoken.tasks.base import Examples
from unspoken.tasks.valued import relative_l2

PREDICTOR, PLAIN, SPLIT, JOINT, TWO, DEEP, WIDE = (
    "predictor",
    "plain",
    "one stage",
    "joint",
    "two streams",
    "two streams, as deep",
    "plain, as many weights",
)
DETERMINED, FORCED = "determined", "hidden force"
TRAINED = {DETERMINED: (PREDICTOR, PLAIN, SPLIT, JOINT, TWO, DEEP, WIDE), FORCED: (PREDICTOR, PLAIN, TWO, DEEP)}
STEADIER, CALIBRATED, WORSE = 0.7, (0.7, 1.3), 1.05  # what the claims ask
LOOKS = (  # claim, a model that is to err less, and the other
    ("two streams err less", TWO, PLAIN),
    ("two streams, as deep, err less", DEEP, PLAIN),
    ("two streams, as deep, err less", DEEP, WIDE),
    ("training in stages errs less than all at once", TWO, SPLIT),
    ("training in stages errs less than all at once", TWO, JOINT),
)


@dataclass(frozen=True)
class Samples:
    """What the samples of a model are like, by seed and condition; costs are a sample's, the mean over seeds.

    error: `[seeds, conditions]` relative L2. its: the other measures of a flow, `[seeds, conditions]` (spread over
        skill `[seeds, 1]`); a predictor gives one answer, and has none.
    shown: the first condition of the first seed; see `picture`.
    """

    error: Tensor
    its: Mapping[str, Tensor]
    passes: int
    flops: float
    seconds: float
    parameters: int
    shown: Mapping[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, seeds: Sequence[Samples]) -> Samples:
        """Those of several seeds together."""
        error = torch.cat([each.error for each in seeds])
        its = {name: torch.cat([each.its[name] for each in seeds]) for name in seeds[0].its}
        return replace(seeds[0], error=error, its=its, seconds=sum(each.seconds for each in seeds) / len(seeds))


def drawn(model: Denoiser, test: Examples, k: int, passes: int, guesses: int) -> Samples:
    """`k` samples of every condition by one flow; guesses: see `forediff.first_guess`."""
    prompt = test.prompt(0)
    rows, z, began = prompt.repeat_interleave(k, 0), prompt, clock(model.device)
    for move in denoise_values(model, forediff.FLOW, rows, steps=passes):
        z = move.z
    seconds = clock(model.device) - began
    asked = ~test.given[0]
    truth = test.answer[:, asked]
    samples = z.unflatten(0, (len(prompt), k))[:, :, asked]
    of = ensemble(samples, truth)
    guess = forediff.first_guess(model, prompt, guesses)[:, asked]
    its = {
        "worst": of.worst,
        "consistency": of.consistency,
        "crps": of.crps,
        "spread_skill": torch.tensor([of.spread_skill], dtype=torch.float64),
        "first_guess": relative_l2(guess.flatten(1).double(), truth.flatten(1).double()),
    }
    its = {name: value[None] for name, value in its.items()}
    shown = picture(samples[0].flatten(1), truth[0].flatten())
    return _costed(model, Samples(of.relative_l2[None], its, passes, 0.0, seconds / len(rows), 0, shown), prompt)


def picture(samples: Tensor, truth: Tensor, points: int = 64) -> dict[str, list[float]]:
    """The last `points` numbers of a condition: true, and the lowest, middle and highest of its samples `[k, d]`."""
    last = samples[:, -points:].double()
    ends = {
        "low": last.amin(0),
        "middle": last.median(0).values,
        "high": last.amax(0),
        "true": truth[-points:].double(),
    }
    return {name: [round(x, 4) for x in values.tolist()] for name, values in ends.items()}


def one_answer(model: Denoiser, test: Examples) -> Samples:
    """The answer of a predictor to every condition."""
    prompt, began = test.prompt(0), clock(model.device)
    said = last(decode(model, prompt, temperature=0.0), prompt)
    seconds = clock(model.device) - began
    asked = ~test.given[0]
    error = relative_l2(said[:, asked].flatten(1).double(), test.answer[:, asked].flatten(1).double())
    return _costed(model, Samples(error[None], {}, 1, 0.0, seconds / len(prompt), 0), prompt)


def _costed(model: Denoiser, its: Samples, prompt: Tensor) -> Samples:
    """With the weights of the model, and the FLOPs of its passes; a predictor's own pass is one."""
    entries = prompt.shape[1]
    flops = its.passes * pass_flops(model, entries, 0)
    if model.foresight is not None:
        flops += pass_flops(model.foresight, entries, 0)
    return replace(its, flops=float(flops), parameters=sum(p.numel() for p in model.parameters()))


Found = Mapping[tuple[str, str], Samples]  # by regime and model


def two_streams(found: Found, seeds: int) -> Claim:
    """A predictor understands the condition better than the flow does at t = 1, and samples differ less."""
    foretold, plain, two = (found[DETERMINED, name] for name in (PREDICTOR, PLAIN, TWO))
    guess = plain.its["first_guess"]
    better = Estimate.of(foretold.error - guess)
    steadier = Estimate.of(two.its["consistency"] - STEADIER * plain.its["consistency"])
    ratio = float(two.its["consistency"].mean() / plain.its["consistency"].mean())
    checks = [
        Check(
            better.high < 0,
            f"the predictor errs by {foretold.error.mean():.4f}, the plain flow at t = 1 by {guess.mean():.4f}, "
            f"{better.signed}",
        ),
        Check(steadier.high < 0, f"STD {ratio:.2f} of the plain flow's, {STEADIER:g} asked, {steadier.signed}"),
    ]
    return claim("two streams", checks, seeds, 3)


def calibrated(found: Found, seeds: int) -> Claim:
    """Where the future is uncertain, the samples of two streams still spread as they should."""
    plain, two = found[FORCED, PLAIN], found[FORCED, TWO]
    worse = Estimate.of(two.its["crps"] - WORSE * plain.its["crps"])
    spread = two.its["spread_skill"]
    low, high = CALIBRATED
    checks = [
        Check(
            bool(((spread >= low) & (spread <= high)).all()),
            f"spread over skill {', '.join(f'{x:.2f}' for x in spread.flatten().tolist())}, {low:g} to {high:g} asked",
        ),
        Check(
            worse.high < 0,
            f"CRPS {two.its['crps'].mean():.4f}, the plain flow's {plain.its['crps'].mean():.4f}, at most {WORSE:g} "
            f"times that asked, {worse.signed}",
        ),
    ]
    return claim("two streams keep the spread", checks, seeds, 3)


def accuracy(found: Found, seeds: int) -> list[Claim]:
    """Who errs less where the future is determined; all looks corrected together (Holm)."""
    less = [found[DETERMINED, other].error - found[DETERMINED, mine].error for _, mine, other in LOOKS]
    stands = holm([p_value(values) for values in less])
    checks: dict[str, list[Check]] = {}
    for (name, mine, other), values, sure in zip(LOOKS, less, stands, strict=True):
        errors = [float(found[DETERMINED, n].error.mean()) for n in (mine, other)]
        text = f"{mine} {errors[0]:.4f}, {other} {errors[1]:.4f}, less by {Estimate.of(values).signed}"
        checks.setdefault(name, []).append(Check(sure and float(values.mean()) > 0, text))
    return [claim(name, its, seeds, 3) for name, its in checks.items()]
