"""The passes of a model whose thoughts are vectors: words to vectors, vectors to words, and reasoning in vectors.

LaDiR (Kang et al. 2025, arXiv 2510.04573). A block of words becomes a block of vectors, and back. In the reasoner a
block is a set of noisy vectors, bidirectional inside; it sees the question and the clean blocks before it, which are
context of one order each. The answer's words come after the last block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.layout.entries import PADDING, Layout
from unspoken.noise.thoughts import Thoughts


def to_vectors(thoughts: Tensor, there: Tensor, vectors: int, mask_id: int) -> Layout:
    """Words of thoughts, then the entries that their vectors are read at: masks. Each block is a document of its own.

    thoughts: `[n, blocks, words]` ids. there: `[n, blocks]` bool. Of the entries the words come first, block after
    block, then so many masks (memory entries) a block.
    """
    n, blocks, words = thoughts.shape
    document = torch.where(there, torch.arange(blocks, device=there.device), PADDING)
    context = _context(thoughts, 0, torch.zeros_like(thoughts), document)
    slot = torch.arange(vectors, device=there.device).expand(n, blocks, vectors)
    block = torch.arange(blocks, device=there.device)[:, None].expand_as(slot)
    memory = Layout(
        token=torch.full_like(slot, mask_id).flatten(1),
        position=(words + slot).flatten(1),
        order=slot.flatten(1),
        horizon=torch.ones_like(slot).flatten(1),
        block=block.flatten(1),
        document=document[..., None].expand_as(slot).flatten(1),
    )
    return context.join(memory)


def to_words(thoughts: Tensor, there: Tensor, vectors: int, form: Thoughts) -> Layout:
    """Entries that show vectors, then the words but the last after a start entry, each asked for the word that follows.

    thoughts: `[n, blocks, w]` the words that are known; their number may be less than those of a thought. there, and
    the order of the entries: see `to_vectors`. The values are not filled in.
    """
    n, blocks, _ = thoughts.shape
    document = torch.where(there, torch.arange(blocks, device=there.device), PADDING)
    shape = torch.full((n, blocks, vectors), form.more, device=there.device)
    start = thoughts.new_full((n, blocks, 1), form.done)
    words = torch.cat([start, thoughts], 2)
    order = torch.arange(1, words.shape[2] + 1, device=there.device).expand_as(words)
    return _context(shape, 0, torch.zeros_like(shape), document).join(_context(words, vectors, order, document))


def _context(token: Tensor, first: int, order: Tensor, document: Tensor) -> Layout:
    """Clean entries `[n, blocks, m]` of blocks that are documents, at the positions from `first` on."""
    position = first + torch.arange(token.shape[2], device=token.device).expand_as(token)
    return Layout(
        token=token.flatten(1),
        position=position.flatten(1),
        order=order.flatten(1),
        horizon=(order + 1).flatten(1),
        block=torch.full_like(token, -1).flatten(1),
        document=document[..., None].expand_as(token).flatten(1),
    )


@dataclass(frozen=True)
class Reasoning:
    """Where question, vectors and answer stand in a pass of the reasoner. Positions leave room for every block.

    The entries of a training pass come in this order: the question; the clean vectors, block after block; a start entry
    and the answer's words but the last; the noisy vectors, block after block.

    form: of the words. vectors: of a block.
    """

    form: Thoughts
    vectors: int

    @property
    def reach(self) -> int:
        """Positions: the question, every block's vectors, the start entry and the answer."""
        return self.form.question + self.form.blocks * self.vectors + self.form.answer

    def clean(self, block: int) -> range:
        """The entries of a clean block."""
        first = self.form.question + block * self.vectors
        return range(first, first + self.vectors)

    @property
    def answer(self) -> range:
        """The start entry, and the answer's words but the last."""
        first = self.form.question + self.form.blocks * self.vectors
        return range(first, first + self.form.answer)

    def noisy(self, block: int, draw: int = 0, draws: int = 1) -> range:
        """The entries of a noisy block; of its draws the given one."""
        first = self.reach + (block * draws + draw) * self.vectors
        return range(first, first + self.vectors)

    def ask(self, question: Tensor) -> Layout:
        """The question's entries, `[n, question]` ids: the prompt."""
        position = torch.arange(question.shape[1], device=question.device).expand_as(question)
        zero = torch.zeros_like(question)
        return Layout(question, position, zero, zero + 1, zero - 1, zero)

    def block(self, number: int, value: Tensor, time: Tensor, there: Tensor, *, noisy: int | None = None) -> Layout:
        """A block's vectors `[n, vectors, width]` at times `[n]`: context, or the latent block of the number `noisy`.

        there: `[n]` bool; elsewhere nobody sees them.
        """
        n = len(value)
        slot = torch.arange(self.vectors, device=value.device).expand(n, self.vectors)
        full = torch.ones_like(slot)
        return Layout(
            token=full * self.form.more,
            position=slot + self.form.question + number * self.vectors,
            order=full * (number + 1) if noisy is None else slot,
            horizon=full * (number + (2 if noisy is None else 1)),
            block=full * (-1 if noisy is None else noisy),
            document=torch.where(there[:, None], 0, PADDING).expand_as(slot).contiguous(),
            time=time[:, None].expand(n, self.vectors).contiguous(),
            value=value,
        )

    def say(self, words: Tensor, first: int = 0) -> Layout:
        """Entries of the answer from the `first` on, `[n, m]` ids: its start entry (`form.done`) is number 0."""
        number = first + torch.arange(words.shape[1], device=words.device).expand_as(words)
        order = number + self.form.blocks + 1
        zero = torch.zeros_like(words)
        return Layout(words, number + self.answer.start, order, order + 1, zero - 1, zero)

    def starts(self, answer: Tensor) -> Tensor:
        """`[n, answer]`: the start entry, and the answer's words but the last."""
        return torch.cat([torch.full_like(answer[:, :1], self.form.done), answer[:, :-1]], 1)
