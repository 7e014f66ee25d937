"""How data is corrupted, with a time for every token: t is `[batch, seq]`, 0 = clean, 1 = prior."""

from unspoken.noise.discrete import Absorbing, Discrete, Hybrid, SNRMix, Uniform
from unspoken.noise.gaussian import Gaussian, Seen, Views, fused_snr
from unspoken.noise.marginal import Marginal, Mass
from unspoken.noise.space import Ids, Reals, Space

AnyProcess = Discrete | Gaussian  # what functions take: one of ours, or a class of one's own
# What the tokens of a task are trained with: the CLI's choices and the record's tags come from this union.
Process = Absorbing | Uniform | Hybrid | SNRMix | Gaussian

__all__ = [
    "Absorbing",
    "AnyProcess",
    "Discrete",
    "Gaussian",
    "Hybrid",
    "Ids",
    "Marginal",
    "Mass",
    "Process",
    "Reals",
    "SNRMix",
    "Seen",
    "Space",
    "Uniform",
    "Views",
    "fused_snr",
]
