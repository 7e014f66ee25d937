"""Exact predictions under any noise, by enumeration; and the processes that every law is tried on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from toy import all_sequences

from unspoken.model.prediction import Prediction
from unspoken.noise import Absorbing, Discrete, Hybrid, Ids, SNRMix, Uniform
from unspoken.noise.schedule import Cosine, Polynomial

PROCESSES: dict[str, Discrete] = {
    "absorbing": Absorbing(),
    "absorbing, cosine": Absorbing(Cosine()),
    "uniform": Uniform(),
    "uniform, t^2": Uniform(Polynomial(2.0)),
    "hybrid": Hybrid(0.2),
    "hybrid, gamma 2": Hybrid(0.3, 2.0),
    "hybrid, t^2": Hybrid(0.2, schedule=Polynomial(2.0)),
    "hybrid, none uniform": Hybrid(0.0),
    "snr mix": SNRMix(),
    "snr mix, b 2": SNRMix(b=2.0),
    "snr mix, falling": SNRMix(a=-1.0, b=-1.0),
}


def exact(p: Tensor, vocab: int, length: int, process: Discrete, posterior: bool = False) -> Callable:
    """p(x_i | z without z_i), or p(x_i | z), of data distributed as `p` `[vocab ** length]`; the mask is `vocab`."""
    states = all_sequences(vocab, length)
    one_hot = torch.nn.functional.one_hot(states, vocab + 1).to(p.dtype)

    def predict(z: Tensor, t: Tensor) -> Prediction:
        marginal = process.marginal(t, Ids(vocab))
        alpha, noise = marginal.alpha, marginal.noise.at(z)
        q = alpha[:, None] * (z[:, None] == states) + noise[:, None]  # [batch, states, length]
        rows = []
        for i in range(length):
            others = q.prod(2) if posterior else torch.cat([q[:, :, :i], q[:, :, i + 1 :]], 2).prod(2)
            weight = p * others
            rows.append(weight @ one_hot[:, i] / weight.sum(1, keepdim=True))
        return Prediction(torch.stack(rows, 1).log(), "posterior" if posterior else "leave-one-out")

    return predict
