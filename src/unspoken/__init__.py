"""Language models that reason with the tokens they have not said yet.

import unspoken as us

model = us.load("runs/sudoku-6x6/scdm-seed0")
for step in us.decode(model, tokens, latents=16):
    print(step)
"""

from unspoken import presets, study, tasks
from unspoken.decoders.autoregressive import NextToken, Speculation, next_tokens, speculate
from unspoken.decoders.blocks import Blocks, block_by_block
from unspoken.decoders.commit import Commit
from unspoken.decoders.correct import correct
from unspoken.decoders.decode import Decoder, decode
from unspoken.decoders.denoise import Walk, denoise, denoise_values
from unspoken.decoders.policies import (
    CONFIDENCE,
    ENTROPY,
    LEFT_TO_RIGHT,
    MARGIN,
    UNIFORM,
    LatentPolicy,
    Order,
    attended,
)
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import Step, last
from unspoken.decoders.walk import DenoisingStep, walk
from unspoken.layout.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.layout.entries import Layout, one_block, random_order
from unspoken.layout.packing import Packed
from unspoken.layout.questions import CTC, CrossEntropy, Divergence, Question, SquaredError
from unspoken.measure.bound import nelbo_along
from unspoken.measure.likelihood import nelbo, nll_by_latents
from unspoken.measure.profile import InformationProfile, parallel_nll, profile_losses
from unspoken.model.denoiser import Denoiser, Model
from unspoken.model.ports import Categorical, Codes, Vectors
from unspoken.model.prediction import Prediction, guided, predictor
from unspoken.noise import Absorbing, Discrete, Gaussian, Hybrid, Ids, Reals, SNRMix, Uniform
from unspoken.noise.schedule import Cosine, Linear, Polynomial
from unspoken.noise.times import (
    AlongPath,
    Autoregressive,
    BlockConstant,
    Blockwise,
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
    Denoising,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Teacherless,
)

__all__ = [
    "ANY_ORDER",
    "CACHED_ALONE",
    "CACHED_JOINT",
    "CONFIDENCE",
    "CTC",
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
    "Blockwise",
    "Categorical",
    "Codes",
    "Commit",
    "Cosine",
    "CrossEntropy",
    "Decoder",
    "Denoiser",
    "Denoising",
    "DenoisingStep",
    "Diagonal",
    "Discrete",
    "Divergence",
    "Gaussian",
    "Hybrid",
    "Ids",
    "Independent",
    "InformationProfile",
    "LatentPolicy",
    "Layout",
    "Linear",
    "MaskedDiffusion",
    "Mixture",
    "Model",
    "MuToR",
    "MultiToken",
    "NextToken",
    "NextTokenPrediction",
    "Order",
    "Packed",
    "Polynomial",
    "Prediction",
    "PrefixClean",
    "Pyramid",
    "Question",
    "Reals",
    "SNRMix",
    "Shared",
    "Sizes",
    "Slots",
    "Speculation",
    "SquaredError",
    "Step",
    "Teacherless",
    "Train",
    "Trapezoid",
    "Trunk",
    "Uniform",
    "Vectors",
    "Walk",
    "attended",
    "block_by_block",
    "correct",
    "decode",
    "denoise",
    "denoise_values",
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
