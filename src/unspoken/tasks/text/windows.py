"""Texts cut into splits, and splits into windows: which bytes are whose, and what occurs twice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.tasks.hashing import Hashes, mix, scatter
from unspoken.tasks.text.vocabulary import Tokens

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64


@dataclass(frozen=True)
class Part:
    """The text of one split.

    tokens: its texts one after the other. starts: where a window can begin, `[places]`; none spans two texts.
    stored: where the windows begin that cover it in order, `[windows]`. seen: how many tokens of each are also in
        the window before, `[windows]`: none but of the last window of a text. size, left_out: bytes inside and outside
        of the stored windows.
    """

    tokens: Tokens
    starts: NDArray[np.int64]
    stored: NDArray[np.int64]
    seen: NDArray[np.int64]
    size: int
    left_out: int

    def windows(self, starts: NDArray[np.int64], length: int) -> Tensor:
        """`[n, length]` int64: the tokens of the windows that begin at `starts` `[n]`."""
        return torch.from_numpy(self.tokens[starts[:, None] + np.arange(length)].astype(np.int64))


def cut(text: bytes, shares: tuple[int, int, int]) -> list[bytes]:
    """The text in three contiguous parts in proportion to `shares`, no letter of UTF-8 cut in two."""
    edges = [0, *(_letter_edge(text, len(text) * sum(shares[:k]) // sum(shares)) for k in (1, 2)), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def _letter_edge(text: bytes, at: int) -> int:
    while at < len(text) and text[at] & 0xC0 == 0x80:  # the byte goes on with a letter
        at += 1
    return at


def part(texts: list[Tokens], length: int, width: NDArray[np.int64], rest: bool) -> Part:
    """The windows of the texts.

    width: bytes that each token id stands for. rest: whether a last window that overlaps takes what would be left
    over of a text. A text shorter than a window is left out.
    """
    firsts = np.cumsum([0, *map(len, texts)])[:-1]
    starts, stored, seen = [], [], []
    for first, text in zip(firsts.tolist(), texts, strict=True):
        starts.append(first + np.arange(max(len(text) - length + 1, 0)))
        stored.append(starts[-1][::length])
        seen.append(np.zeros_like(stored[-1]))
        over = len(text) % length
        if rest and over and len(text) > length:
            stored.append(starts[-1][-1:])
            seen.append(np.array([length - over]))
    tokens, windows = np.concatenate(texts), np.concatenate(stored)
    covered = np.zeros(len(tokens), dtype=bool)
    covered[windows[:, None] + np.arange(length)] = True
    size, left_out = int(width[tokens[covered]].sum()), int(width[tokens[~covered]].sum())
    return Part(tokens, np.concatenate(starts), windows, np.concatenate(seen), size, left_out)


def hashes(tokens: Tokens, length: int, starts: NDArray[np.int64]) -> Hashes:
    """`[places]`: of the windows of `length` tokens that begin at `starts`, equal for equal windows wherever they are.

    A rolling polynomial modulo 2**64: the work does not grow with the length.
    """
    power = np.multiply.accumulate(np.full(len(tokens) + 1, _BASE, dtype=np.uint64))
    shrink = np.multiply.accumulate(np.full(len(tokens) + 1, pow(_BASE, -1, 2**64), dtype=np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(scatter(tokens) * power[: len(tokens)])])
    return mix((sums[starts + length] - sums[starts]) * shrink[starts])


def duplicates(parts: list[Part], length: int) -> list[int]:
    """How many stored windows of each part are, at any place, in a part before it; of the first, are in it twice."""
    places = [hashes(p.tokens, length, p.starts) for p in parts]
    stored = [codes[np.searchsorted(p.starts, p.stored)] for codes, p in zip(places, parts, strict=True)]
    counts = [len(stored[0]) - len(np.unique(stored[0]))]
    for i, mine in enumerate(stored[1:], start=1):
        codes, number = np.unique(mine, return_counts=True)
        there = np.zeros(len(codes), dtype=bool)
        for before in places[:i] if len(codes) else []:
            nearest = np.searchsorted(codes, before).clip(max=len(codes) - 1)  # the few are sorted, not the many
            there[nearest[codes[nearest] == before]] = True
        counts.append(int(number[there].sum()))
    return counts
