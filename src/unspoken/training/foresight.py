"""A predictor that understands the condition before anything is denoised: ForeDiff (arXiv 2505.16474), as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from unspoken import checks
from unspoken.layout.packing import Packed
from unspoken.layout.questions import CrossEntropy, SquaredError
from unspoken.training.stages import Made


@dataclass(frozen=True)
class Foresight:
    """What a model reads beside its input: the states of a predictor that sees the prompt, and no noise and no times.

    Attributes:
        stage: The finished run whose model is the predictor, as `Teacherless` trains one.
        layers: Without a stage, those of a predictor from scratch, as wide as the trunk, trained with the model.
        weight: Above 0, the predictor's own loss is added with this weight: it predicts at once all that the pass is
            asked for. Of a predictor that is trained.
        frozen: The stage's weights stay as they are.
    """

    stage: Made | None = None
    layers: int = 0
    weight: float = 0.0
    frozen: bool = True

    def __post_init__(self) -> None:
        checks.plain(self)
        checks.count("layers", self.layers)
        if (self.stage is None) != (self.layers > 0):
            raise ValueError(
                f"stage={self.stage}, layers={self.layers}: the predictor is that of a stage, or one of so many layers "
                "from scratch; give one of them"
            )
        checks.number("weight", self.weight, 0, checks.HUGE, "the weight of the predictor's own loss, 0 for none")
        if self.weight and not self.trained:
            raise ValueError(f"weight={self.weight} of a predictor that is frozen; give frozen=False, or weight=0")

    @property
    def trained(self) -> bool:
        """Whether the predictor is trained with the model."""
        return self.stage is None or not self.frozen


def ask_foreseen(packed: Packed, weight: float) -> Packed:
    """The same pass, whose predictor is asked for what the pass is asked for: at once, from the prompt alone.

    weight: of the mean of its losses, squared errors of vectors and else cross-entropies.
    """
    if not weight:
        return packed
    asked = packed.one
    share = asked.real / asked.real.sum().clamp_min(1)
    loss = SquaredError() if asked.target.is_floating_point() else CrossEntropy()
    more = replace(asked, weight=weight * share.to(torch.float32), port="foreseen", loss=loss)
    return replace(packed, questions=(*packed.questions, more))
