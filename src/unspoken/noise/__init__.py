"""How data is corrupted, with a time for every token: t is `[batch, seq]`, 0 = clean, 1 = prior."""

from unspoken.noise.discrete import Absorbing, Discrete, Hybrid, SNRMix, Uniform
from unspoken.noise.gaussian import Gaussian, Views, fused_snr
from unspoken.noise.marginal import Marginal, Mass

# What the tokens of a task are trained with: the CLI's choices and the record's tags come from this union.
Process = Absorbing | Uniform | Hybrid | SNRMix

__all__ = [
    "Absorbing",
    "Discrete",
    "Gaussian",
    "Hybrid",
    "Marginal",
    "Mass",
    "Process",
    "SNRMix",
    "Uniform",
    "Views",
    "fused_snr",
]
