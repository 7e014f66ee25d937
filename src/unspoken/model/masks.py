"""The mask of a pretrained model: one of its tokenizer's tokens, or a new one; and the ids that are never said.

A vocabulary may be longer than the tokenizer, because a length that is a multiple of 64 is faster: its last ids are
unused. A new mask takes the first of them, and where there is none the vocabulary grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unspoken import checks
from unspoken.messages import quoted
from unspoken.model.tokens import Tokenizer
from unspoken.model.trunks import never_said, vocabulary
from unspoken.noise.space import MASK

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def choose_mask(
    trunk: PreTrainedModel, tokenizer: Tokenizer | None, mask: int | str | None, pad_to: int = 1, unused: int = 0
) -> tuple[int, int, bool]:
    """The mask's id, how many of the last ids are unused, and whether the mask is new.

    Tokenizer and vocabulary have the mask from then on.

    mask: an id; the text of a token, which is added to the tokenizer where it has none such; None adds `MASK`, or an id
        alone where there is no tokenizer. pad_to: the vocabulary grows to a multiple of it. unused: what is known of
        the last ids beside a mask that is an id.
    Raises ValueError where a text is given and there is no tokenizer, and where the tokenizer is another model's.
    """
    checks.count("pad_to", pad_to, 1)
    known = vocabulary(trunk)
    if tokenizer is not None and tokenizer.vocab_size > known:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, and the model {known}: it is the tokenizer of another "
            "model"
        )
    if isinstance(mask, int) or (mask is None and tokenizer is None):
        mask_id, size = (known, known + 1) if mask is None else (mask, known)
        grow(trunk, mask_id, _rounded(size, pad_to), new=mask is None)
        return mask_id, _rounded(size, pad_to) - size + unused, mask is None
    text = MASK if mask is None else mask
    if not isinstance(text, str) or not text:
        raise ValueError(f"mask_id={quoted(mask)}: give an id, or the text of a token, such as {MASK!r}")
    if tokenizer is None:
        raise ValueError(f"mask_id={quoted(text)} is the text of a token, and the model has no tokenizer; give an id")
    new = add_token(tokenizer, text)
    ids = tokenizer.get_vocab()
    used = max(ids.values()) + 1
    size = _rounded(max(known, used), pad_to)
    grow(trunk, ids[text], size, new)
    return ids[text], size - used, new


def add_token(tokenizer: Tokenizer, text: str) -> bool:
    """Adds a special token where there is none of that text. Returns whether it did."""
    if text in tokenizer.get_vocab():
        return False
    tokenizer.add_special_tokens({"additional_special_tokens": [text]}, replace_extra_special_tokens=False)
    return True


def _rounded(size: int, pad_to: int) -> int:
    return -(-size // pad_to) * pad_to


def grow(trunk: PreTrainedModel, mask_id: int, size: int, new: bool) -> None:
    """Grows the vocabulary to `size`; every new row, and that of a new mask, is the mean of those before."""
    known = vocabulary(trunk)
    if size > known:
        with torch.random.fork_rng():  # what is drawn here is written over
            trunk.resize_token_embeddings(size, mean_resizing=False)
    if new:
        _to_mean(trunk.get_input_embeddings(), [mask_id], min(mask_id, known))
    for table in (trunk.get_input_embeddings(), trunk.get_output_embeddings()):
        if table is not None and size > known:
            _to_mean(table, list(range(known, size)), min(mask_id, known) if new else known)


@torch.no_grad()
def _to_mean(table: nn.Module, rows: list[int], of: int) -> None:
    """Makes rows of a table, and of its bias, the mean of the first `of`."""
    for weight in (getattr(table, "weight", None), getattr(table, "bias", None)):
        if weight is not None:
            weight[rows] = weight[:of].double().mean(0).to(weight.dtype)


def write_silence(trunk: Any, mask_id: int, unused: int) -> None:
    """Writes into a trunk's configs what plain `transformers` needs: the mask's id, and ids not to say."""
    trunk.config.mask_token_id = mask_id
    if (plan := getattr(trunk, "generation_config", None)) is not None:
        silent = never_said(mask_id, unused, vocabulary(trunk))
        plan.suppress_tokens = sorted({*(plan.suppress_tokens or ()), *silent})
