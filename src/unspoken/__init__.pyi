"""The public names, and where each is from. `__init__.py` loads them when they are first asked for."""

from . import codecs, presets, study, systems, tasks
from .decoders.autoregressive import NextToken, Speculation, next_tokens, speculate
from .decoders.blocks import Blocks, block_by_block
from .decoders.commit import Commit
from .decoders.correct import correct
from .decoders.decode import Decoder, decode
from .decoders.denoise import Walk, denoise, denoise_values
from .decoders.endings import Endings
from .decoders.generate import generate_ids
from .decoders.onepass import OnePass
from .decoders.policies import (
    CONFIDENCE,
    ENTROPY,
    LEFT_TO_RIGHT,
    MARGIN,
    UNIFORM,
    LatentPolicy,
    Order,
    attended,
)
from .decoders.reading import Reading, Slot, read, read_ids, readings, readings_ids
from .decoders.slots import Slots
from .decoders.step import Step, last
from .decoders.texts import generate
from .decoders.thoughts import ThoughtWalk
from .decoders.walk import DenoisingStep, walk
from .layout.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, JOINT, MDM, SCDM, SIDM, Attention
from .layout.entries import Layout, one_block, random_order
from .layout.groups import Groups, Related
from .layout.packing import Packed
from .layout.queries import collapse
from .layout.questions import CTC, CrossEntropy, Divergence, Question, SquaredError
from .measure.bound import nelbo_along
from .measure.calibration import Reliability, calibration, reliability
from .measure.chain import chain_nll
from .measure.ensemble import Ensemble, ensemble
from .measure.likelihood import nelbo, nll_by_latents
from .measure.profile import InformationProfile, SamplerProfile, parallel_nll, profile_losses, sampler_losses
from .measure.pseudo_cost import PseudoCost, pseudo_cost
from .model.codes import Codes
from .model.denoiser import Denoiser
from .model.network import Model
from .model.ports import Categorical, Vectors
from .model.posterior import Posterior
from .model.prediction import Prediction, guided, predictor
from .noise import Absorbing, Discrete, Gaussian, Hybrid, Ids, Reals, SNRMix, Uniform
from .noise.schedule import Cosine, Linear, Polynomial
from .noise.thoughts import Thoughts
from .noise.times import (
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
from .training.config import Train, Trunk
from .training.foresight import Foresight
from .training.loading import load
from .training.loop import train, training
from .training.losses import noised, packed_losses, token_losses
from .training.objective import (
    Autoencoding,
    BlockDiffusion,
    Denoising,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    QueryCTC,
    Teacherless,
    ThoughtDiffusion,
)
from .training.stages import Made

__all__ = [
    "ANY_ORDER",
    "CACHED_ALONE",
    "CACHED_JOINT",
    "CONFIDENCE",
    "CTC",
    "ENTROPY",
    "JOINT",
    "LEFT_TO_RIGHT",
    "MARGIN",
    "MDM",
    "SCDM",
    "SIDM",
    "UNIFORM",
    "Absorbing",
    "AlongPath",
    "Attention",
    "Autoencoding",
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
    "Endings",
    "Ensemble",
    "Foresight",
    "Gaussian",
    "Groups",
    "Hybrid",
    "Ids",
    "Independent",
    "InformationProfile",
    "LatentPolicy",
    "Layout",
    "Linear",
    "Made",
    "MaskedDiffusion",
    "Mixture",
    "Model",
    "MuToR",
    "MultiToken",
    "NextToken",
    "NextTokenPrediction",
    "OnePass",
    "Order",
    "Packed",
    "Polynomial",
    "Posterior",
    "Prediction",
    "PrefixClean",
    "PseudoCost",
    "Pyramid",
    "QueryCTC",
    "Question",
    "Reading",
    "Reals",
    "Related",
    "Reliability",
    "SNRMix",
    "SamplerProfile",
    "Shared",
    "Sizes",
    "Slot",
    "Slots",
    "Speculation",
    "SquaredError",
    "Step",
    "Teacherless",
    "ThoughtDiffusion",
    "ThoughtWalk",
    "Thoughts",
    "Train",
    "Trapezoid",
    "Trunk",
    "Uniform",
    "Vectors",
    "Walk",
    "attended",
    "block_by_block",
    "calibration",
    "chain_nll",
    "codecs",
    "collapse",
    "correct",
    "decode",
    "denoise",
    "denoise_values",
    "ensemble",
    "generate",
    "generate_ids",
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
    "pseudo_cost",
    "random_order",
    "read",
    "read_ids",
    "readings",
    "readings_ids",
    "reliability",
    "sampler_losses",
    "speculate",
    "study",
    "systems",
    "tasks",
    "token_losses",
    "train",
    "training",
    "walk",
]
