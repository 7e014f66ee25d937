"""Language models that reason with the tokens they have not said yet.

import unspoken as us

model = us.load("runs/sudoku-6x6/scdm-seed0")
for step in us.decode(model, tokens, latents=16):
    print(step)
"""

from unspoken import presets, study, tasks
from unspoken.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.config import Train, Trunk
from unspoken.decoders.autoregressive import block_by_block, next_tokens, speculate
from unspoken.decoders.decode import decode
from unspoken.decoders.policies import CONFIDENCE, ENTROPY, LEFT_TO_RIGHT, MARGIN, UNIFORM, Order
from unspoken.decoders.step import Step, last
from unspoken.decoding import Decoding
from unspoken.denoiser import Denoiser, Model
from unspoken.layout import Layout, one_block, random_order
from unspoken.likelihood import nelbo, nll_by_latents, noised, packed_losses, token_losses
from unspoken.objective import BlockDiffusion, LatentBlocks, Masked, NextToken, Registers, Teacherless
from unspoken.packing import Packed
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
    "BlockDiffusion",
    "Cosine",
    "Decoding",
    "Denoiser",
    "LatentBlocks",
    "Layout",
    "Linear",
    "Masked",
    "Model",
    "NextToken",
    "Order",
    "Packed",
    "Polynomial",
    "Registers",
    "Step",
    "Teacherless",
    "Train",
    "Trunk",
    "block_by_block",
    "decode",
    "last",
    "load",
    "nelbo",
    "next_tokens",
    "nll_by_latents",
    "noised",
    "one_block",
    "packed_losses",
    "presets",
    "random_order",
    "speculate",
    "study",
    "tasks",
    "token_losses",
    "train",
    "training",
]
