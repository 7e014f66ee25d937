"""Tasks whose sequences hold thoughts: a question, thoughts in blocks of as many words each, and an answer."""

from __future__ import annotations

from unspoken.noise.thoughts import Thoughts

MORE, DONE = "<thought>", "<answer>"  # reserved words: a thought follows (and stands here, as vectors); the answer does

__all__ = ["DONE", "MORE", "Thoughts"]
