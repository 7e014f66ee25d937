"""Language models that reason with the tokens they have not said yet.

import unspoken as us

model = us.load("runs/sudoku-6x6/scdm-seed0")
for step in us.decode(model, tokens, latents=16):
    print(step)
"""

from unspoken import presets, study, tasks
from unspoken.decoders.autoregressive import block_by_block, next_tokens, speculate
from unspoken.decoders.correct import correct
from unspoken.decoders.decode import decode
from unspoken.decoders.decoding import Decoding
from unspoken.decoders.policies import CONFIDENCE, ENTROPY, LEFT_TO_RIGHT, MARGIN, UNIFORM, Order
from unspoken.decoders.step import Step, last
from unspoken.decoders.walk import Move, denoise, walk
from unspoken.layout.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.layout.entries import Layout, one_block, random_order
from unspoken.layout.packing import Packed
from unspoken.measure.bound import nelbo_along
from unspoken.measure.likelihood import nelbo, nll_by_latents
from unspoken.measure.profile import InformationProfile, parallel_nll, profile_losses
from unspoken.model.denoiser import Denoiser, Model
from unspoken.model.prediction import Prediction, guided, predictor
from unspoken.noise import Absorbing, Gaussian, Hybrid, SNRMix, Uniform
from unspoken.noise.schedule import Cosine, Linear, Polynomial
from unspoken.noise.times import (
    AlongPath,
    Autoregressive,
    BlockConstant,
    Blocks,
    Diagonal,
    Independent,
    Mixture,
    PrefixClean,
    Pyramid,
    Shared,
    Sizes,
    Trapezoid,
)
from unspoken.training.config import Train, Trunk
from unspoken.training.loop import load, train, training
from unspoken.training.losses import noised, packed_losses, token_losses
from unspoken.training.objective import (
    BlockDiffusion,
    Diffused,
    LatentBlocks,
    Masked,
    NextToken,
    Registers,
    Teacherless,
)

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
    "AlongPath",
    "Attention",
    "Autoregressive",
    "BlockConstant",
    "BlockDiffusion",
    "Blocks",
    "Cosine",
    "Decoding",
    "Denoiser",
    "Diagonal",
    "Diffused",
    "Gaussian",
    "Hybrid",
    "Independent",
    "InformationProfile",
    "LatentBlocks",
    "Layout",
    "Linear",
    "Masked",
    "Mixture",
    "Model",
    "Move",
    "NextToken",
    "Order",
    "Packed",
    "Polynomial",
    "Prediction",
    "PrefixClean",
    "Pyramid",
    "Registers",
    "SNRMix",
    "Shared",
    "Sizes",
    "Step",
    "Teacherless",
    "Train",
    "Trapezoid",
    "Trunk",
    "Uniform",
    "block_by_block",
    "correct",
    "decode",
    "denoise",
    "guided",
    "last",
    "load",
    "nelbo",
    "nelbo_along",
    "next_tokens",
    "nll_by_latents",
    "noised",
    "one_block",
    "packed_losses",
    "parallel_nll",
    "predictor",
    "presets",
    "profile_losses",
    "random_order",
    "speculate",
    "study",
    "tasks",
    "token_losses",
    "train",
    "training",
    "walk",
]
