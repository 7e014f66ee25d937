"""What a pass is trained on: each objective draws the entries of a pass and what they are asked.

| objective             | order                    | thresholds          | a block holds                        |
| --------------------- | ------------------------ | ------------------- | ------------------------------------ |
| `MaskedDiffusion`     | random                   | one, random         | all that is left: masked diffusion   |
| `NextTokenPrediction` | left to right            | none                | (clean entries are asked)            |
| `MultiToken`          | left to right, or random | all, or some        | the next token, then its latents     |
| `Teacherless`         | left to right            | the first           | the whole answer                     |
| `QueryCTC`            | left to right            | the first           | the whole answer, freely aligned     |
| `MuToR`               | left to right            | all                 | a register: one token some way ahead |
| `BlockDiffusion`      | left to right            | every block's first | the block's tokens, partly masked    |
| `Denoising`           | (none: all at once)      | (none)              | every free token, at its own time    |
| `ThoughtDiffusion`    | block after block        | every block's first | a thought's vectors, at one time     |
| `Autoencoding`        | (two passes)             | (none)              | a thought's vectors, drawn from words|
"""

from unspoken.training.autoregressive import MultiToken, MuToR, NextTokenPrediction, Teacherless
from unspoken.training.base import Objective
from unspoken.training.diffusion import BlockDiffusion, Denoising, MaskedDiffusion
from unspoken.training.queries import QueryCTC
from unspoken.training.reasoning import Autoencoding, ThoughtDiffusion

Objectives = (
    MaskedDiffusion
    | NextTokenPrediction
    | MultiToken
    | Teacherless
    | QueryCTC
    | MuToR
    | BlockDiffusion
    | Denoising
    | Autoencoding
    | ThoughtDiffusion
)

__all__ = [
    "Autoencoding",
    "BlockDiffusion",
    "Denoising",
    "MaskedDiffusion",
    "MuToR",
    "MultiToken",
    "NextTokenPrediction",
    "Objective",
    "Objectives",
    "QueryCTC",
    "Teacherless",
    "ThoughtDiffusion",
]
