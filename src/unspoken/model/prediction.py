"""What a network says of every token at once: a guess at the clean one, and whether it has used the token itself.

The two differ wherever a visible token may be noise. The NELBO trains the guess that leaves the token itself out,
p(x_i | z without z_i): a network that copies what it sees is punished. p(x_i | z) is the other; `Marginal` converts.
For masks they are one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.entries import one_block
from unspoken.model.network import Model
from unspoken.noise import Marginal

Kind = Literal["leave-one-out", "posterior"]


@dataclass(frozen=True)
class Prediction:
    """logits: `[batch, seq, vocab]`, -inf for the mask. kind: of p(x_i | z without z_i), or of p(x_i | z)."""

    logits: Tensor
    kind: Kind = "leave-one-out"

    def leave_one_out(self, z: Tensor, marginal: Marginal) -> Tensor:
        """Logits of p(x_i | z without z_i); `marginal` is q_t(z_i | x_i)."""
        return self.logits if self.kind == "leave-one-out" else marginal.leave_one_out(z, self.logits)

    def posterior(self, z: Tensor, marginal: Marginal) -> Tensor:
        """Logits of p(x_i | z)."""
        return self.logits if self.kind == "posterior" else marginal.posterior(z, self.logits)


Predict = Callable[[Tensor, Tensor], Prediction]  # tokens and their times, `[batch, seq]` each


def predictor(model: Model, given: Tensor, kind: Kind = "leave-one-out") -> Predict:
    """A model as a function of noisy tokens and their times; where `given` `[batch, seq]`, tokens are the prompt.

    kind: what it was trained to predict; the NELBO (`MaskedDiffusion`, `Denoising`) trains "leave-one-out".
    Raises ValueError for a rule under which a token does not see all others.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r}; give {' or '.join(map(repr, get_args(Kind)))}")
    checks.tensor("given", given, torch.bool, ("batch", "seq"))
    rule = model.attention
    if not rule.full:
        raise ValueError(
            f"attention {rule.name}: a walk through noise shows every token to every other; take mdm, or decode this "
            "model with unspoken.decode"
        )

    def predict(z: Tensor, t: Tensor) -> Prediction:
        layout = one_block(z, ~given, torch.zeros_like(z), time=t)
        return Prediction(model(layout), kind)

    return predict


def guided(predict: Predict, given: Tensor, scale: float, blind: Tensor) -> Predict:
    """Classifier-free guidance (arXiv 2207.12598): away from what the network says when it does not know the prompt.

    The prompt that is not known is one at the prior and at time 1, as a model trained on independent times knows it.
    scale: 0 forgets the prompt, 1 is the plain prediction, more exaggerates it. Two passes for one.
    blind: `[batch, seq]` tokens of the process's prior, to stand where `given`: masks, or under uniform noise any.
    """
    checks.number("guidance", scale, -checks.HUGE, checks.HUGE, "a number: 1 for none, more to hold on to the prompt")
    checks.tensor("blind", blind, torch.int64, given.shape)
    if scale == 1:
        return predict

    def both(z: Tensor, t: Tensor) -> Prediction:
        known = predict(z, t)
        forgot = predict(torch.where(given, blind, z), torch.where(given, 1.0, t)).logits.log_softmax(-1)
        logits = known.logits.log_softmax(-1)
        # 0 and -inf where the mask is; its logit stays what it is
        mixed = torch.where(logits.isinf(), logits, forgot + scale * (logits - forgot))
        return Prediction(mixed, known.kind)

    return both
