"""Language models that reason with the tokens they have not said yet.

import unspoken as us

model = us.load("runs/sudoku-6x6/scdm-seed0")
for step in us.decode(model, tokens, latents=16):
    print(step)
"""

from unspoken import presets, study, tasks
from unspoken.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.config import Train, Trunk
from unspoken.decode import Step, decode, last
from unspoken.denoiser import Denoiser, Model
from unspoken.layout import Layout, one_block, random_order
from unspoken.objective import nelbo, nll_by_latents, noised, reduce, token_losses
from unspoken.policies import CONFIDENCE, ENTROPY, LEFT_TO_RIGHT, MARGIN, UNIFORM, Order
from unspoken.process import Absorbing
from unspoken.schedule import Cosine, Linear, Polynomial
from unspoken.train import load, train, training

__all__ = [
    "ANY_ORDER",
    "CACHED_ALONE",
    "CACHED_JOINT",
    "CONFIDENCE",
    "ENTROPY",
    "LEFT_TO_RIGHT",
    "MARGIN",
    "MDM",
    "SCDM",
    "SIDM",
    "UNIFORM",
    "Absorbing",
    "Attention",
    "Cosine",
    "Denoiser",
    "Layout",
    "Linear",
    "Model",
    "Order",
    "Polynomial",
    "Step",
    "Train",
    "Trunk",
    "decode",
    "last",
    "load",
    "nelbo",
    "nll_by_latents",
    "noised",
    "one_block",
    "presets",
    "random_order",
    "reduce",
    "study",
    "tasks",
    "token_losses",
    "train",
    "training",
]
