"""How data is corrupted, with a time for every token: t is `[batch, seq]`, 0 = clean, 1 = prior."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from unspoken.schedule import Linear, Schedule


@dataclass(frozen=True)
class Absorbing:
    """Each token turns into the mask on its own, and stays there: q(xt = x0) = alpha(t), else the mask.

    Masked diffusion (Sahoo et al. 2024, arXiv 2406.07524; Shi et al. 2024, arXiv 2406.04329).
    """

    schedule: Schedule = field(default_factory=Linear)

    def noise(self, x0: Tensor, t: Tensor, mask_id: int, generator: torch.Generator | None = None) -> Tensor:
        """xt ~ q(. | x0): `[batch, seq]` token ids. `t` broadcasts against `x0`."""
        device = x0.device if generator is None else generator.device
        u = torch.rand(x0.shape, generator=generator, device=device).to(x0.device)
        return torch.where(u < self.schedule.alpha(t), x0, mask_id)

    def nelbo_weight(self, t: Tensor) -> Tensor:
        """What the cross-entropy of a masked token at time t weighs in the NELBO: -alpha' / beta.

        The continuous-time bound of arXiv 2406.07524, eq. 10. Same shape as `t`; infinite at t = 0, where no token
        is masked: weigh masked tokens alone (`likelihood.bound_weight`).
        """
        return self.schedule.rate(t) / self.schedule.beta(t)


Process = Absorbing


def stratified_times(n: int, generator: torch.Generator | None = None, device: torch.device | None = None) -> Tensor:
    """`[n]` times in (0, 1], one in each n-th of the interval, in random order: uniform, with low variance."""
    at = "cpu" if generator is None else generator.device
    offset = torch.rand(n, generator=generator, device=at)
    stratum = torch.randperm(n, generator=generator, device=at)
    # 1 - u keeps away from t = 0, where the NELBO's weight is infinite.
    return (1 - (stratum + offset) / n).clamp_min(torch.finfo(torch.float32).tiny).to(device or at)
