"""What a pass is trained on: each objective draws the entries of a pass and what they are asked.

| objective             | order                    | thresholds          | a block holds                        |
| --------------------- | ------------------------ | ------------------- | ------------------------------------ |
| `MaskedDiffusion`     | random                   | one, random         | all that is left: masked diffusion   |
| `NextTokenPrediction` | left to right            | none                | (clean entries are asked)            |
| `MultiToken`          | left to right, or random | all, or some        | the next token, then its latents     |
| `Teacherless`         | left to right            | the first           | the whole answer                     |
| `MuToR`               | left to right            | all                 | a register: one token some way ahead |
| `BlockDiffusion`      | left to right            | every block's first | the block's tokens, partly masked    |
| `Denoising`           | (none: all at once)      | (none)              | every free token, at its own time    |
"""

from unspoken.training.autoregressive import MultiToken, MuToR, NextTokenPrediction, Teacherless
from unspoken.training.base import Objective
from unspoken.training.diffusion import BlockDiffusion, Denoising, MaskedDiffusion

Objectives = MaskedDiffusion | NextTokenPrediction | MultiToken | Teacherless | MuToR | BlockDiffusion | Denoising

__all__ = [
    "BlockDiffusion",
    "Denoising",
    "MaskedDiffusion",
    "MuToR",
    "MultiToken",
    "NextTokenPrediction",
    "Objective",
    "Objectives",
    "Teacherless",
]
