"""q_t(. | x) of every token, as three numbers each: what stays, what goes to the mask, what goes to any other token.

Everything of a discrete process is made of these by gathering: no one-hot vector is built. Tokens are ids, the data's
below the mask's: 0, ..., mask_id - 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mass:
    """Weight on the states of a token, `[batch, m]` each: on the mask, and on each of the data's tokens."""

    mask: Tensor
    each: Tensor
    mask_id: int

    def at(self, z: Tensor) -> Tensor:
        """`[batch, m]`: the weight on the states `z`."""
        return torch.where(z == self.mask_id, self.mask, self.each)


@dataclass(frozen=True)
class Marginal:
    """q_t(z | x) = alpha [z = x] + noise(z), for every token at a time of its own. `alpha` is `[batch, m]`."""

    alpha: Tensor
    noise: Mass

    def to(self, device: torch.device) -> Marginal:
        """The same on another device."""
        noise = {f.name: getattr(self.noise, f.name) for f in fields(self.noise) if f.name != "mask_id"}
        moved = {name: value.to(device) for name, value in noise.items()}
        return Marginal(self.alpha.to(device), Mass(**moved, mask_id=self.noise.mask_id))

    def take(self, at: Tensor) -> Marginal:
        """The tokens `at` `[batch, k]`."""
        noise = Mass(self.noise.mask.gather(1, at), self.noise.each.gather(1, at), self.noise.mask_id)
        return Marginal(self.alpha.gather(1, at), noise)

    def probability(self, z: Tensor, x: Tensor) -> Tensor:
        """q_t(z | x), `[batch, m]`."""
        return self.alpha * (z == x) + self.noise.at(z)

    def probabilities(self, guess: Tensor) -> Tensor:
        """`[batch, m, vocab]`: q_t(. | guess); the guess `[batch, m, vocab]` is a distribution over clean tokens."""
        q = self.alpha[..., None] * guess + self.noise.each[..., None]
        q[..., self.noise.mask_id] = self.noise.mask + self.alpha * guess[..., self.noise.mask_id]
        return q

    def redrawn(self, z: Tensor, x: Tensor) -> Tensor:
        """`[batch, m]` in [0, 1]: how probable it is that z is noise, though it may look clean: noise(z) / q_t(z | x).

        GIDD's "dynamic" weight (arXiv 2503.04482) is 2 for the mask, 1 for a wrong token and this for a right one.
        """
        noise = self.noise.at(z)
        return noise / (self.alpha * (z == x) + noise).clamp_min(torch.finfo(noise.dtype).tiny)

    def divergence(self, z: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """KL(q_t(. | x) | q_t(. | guess)) + IS(q_t(z | x) | q_t(z | guess)), in nats, `[batch, m]`.

        What a jump process loses by a guess, for each unit of its rate (GIDD, arXiv 2503.04482, theorem 3.2; IS is
        Itakura-Saito's p/q - log(p/q) - 1). It is least for the prediction that leaves z itself out.
        logits: `[batch, m, vocab]` of the guess, -inf for the mask.
        """
        says = logits.log_softmax(-1)
        alpha, noise = (part.clamp_min(torch.finfo(part.dtype).tiny).log() for part in (self.alpha, self.noise.at(z)))
        seen = torch.logaddexp(alpha.to(says.dtype) + says.gather(2, z[..., None])[..., 0], noise.to(says.dtype))
        truth = self.probability(z, x).clamp_min(torch.finfo(self.alpha.dtype).tiny).log().to(says.dtype)
        # Where z can not be noise the weight is 0, and must not meet an infinite ratio.
        ratio = (truth - seen).clamp_max(60.0)
        return self.kl(x, says) + (ratio.exp() - ratio - 1)

    def kl(self, x: Tensor, says: Tensor) -> Tensor:
        """KL(q_t(. | x) | q_t(. | guess)) in nats, `[batch, m]`; says: the guess `[batch, m, vocab]`, as logarithms."""
        tiny = torch.finfo(says.dtype).tiny
        alpha, each = self.alpha.to(says.dtype), self.noise.each.to(says.dtype)
        odds = alpha.clamp_min(tiny).log() - each.clamp_min(tiny).log()
        # Mass on a token but x is `each` in truth and each + alpha guess in the guess: what that costs, summed.
        costs = torch.nn.functional.softplus(says + odds[..., None])
        others = costs.sum(-1) - costs.gather(2, x[..., None])[..., 0]
        right = torch.logaddexp(
            alpha.clamp_min(tiny).log() + says.gather(2, x[..., None])[..., 0], each.clamp_min(tiny).log()
        )
        return (alpha + each) * ((alpha + each).clamp_min(tiny).log() - right) - each * others

    def posterior(self, z: Tensor, logits: Tensor) -> Tensor:
        """Logits of p(x_i | z) from those of p(x_i | z without z_i): times q_t(z_i | x_i)."""
        return logits + self._evidence(z, logits)

    def leave_one_out(self, z: Tensor, logits: Tensor) -> Tensor:
        """Logits of p(x_i | z without z_i) from those of p(x_i | z): divided by q_t(z_i | x_i).

        Where z_i can only be clean (no uniform noise), z_i decides and the rest can not be told: as the posterior.
        """
        return logits - self._evidence(z, logits).nan_to_num(posinf=0.0)

    def _evidence(self, z: Tensor, logits: Tensor) -> Tensor:
        """`[batch, m, vocab]`, 0 but at z: log q_t(z | x = z) - log q_t(z | x other), +inf where the latter is 0."""
        ratio = torch.log1p(self.alpha / self.noise.at(z)).to(logits.dtype)
        ratio = torch.where(z == self.noise.mask_id, 0.0, ratio)
        return torch.zeros_like(logits).scatter(2, z[..., None], ratio[..., None])
