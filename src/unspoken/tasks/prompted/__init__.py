"""Text with any Hugging Face tokenizer: prompts and responses, conversations, or plain text, packed into rows.

task = Prompted("path/to/model", "questions.jsonl", length=512)
task = Prompted("path/to/model", "austen", held_out="austen-persuasion", length=256)
batch = task.sample("train", 8, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.noise.space import PADDING
from unspoken.tasks.base import SPLITS, Examples, Split, check_seed
from unspoken.tasks.prompted.coding import Coding, coding
from unspoken.tasks.prompted.store import Stored, Wanted, scattered, source_list, stored
from unspoken.tasks.sampled import Sampled
from unspoken.tasks.splits import assign
from unspoken.tasks.text.books import LICENCE
from unspoken.tasks.text.spelling import BLANK, spell, unspell

Turns = Literal["last", "every"]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Prompted(Sampled):
    """Rows of `length` tokens of a tokenizer: prompts that are given, and responses to be said.

    A document is a record or a window of a text. Of a record {"prompt": ..., "response": ...} the response is asked,
    and after it the tokenizer's EOS. Of {"messages": [...]} the chat template writes what is given, the header of the
    last answer included; asked is that answer up to the end of its turn (EOS is added where the template has none).
    A text is cut into windows, each of which begins with the last token of the one before it: so every token is asked
    once, but for the first. Special tokens that stand in a text are read as the letters that they are written with.

    What fills a row up is in no document (`Examples.document`): it is neither seen nor trained.

    Train holds rows, validation and test a document a row. Which split a document is in is decided by a hash of its
    prompt, of a window by its tokens: what is there twice, is in one split.

    Attributes:
        tokenizer: A folder with a tokenizer, a model's, or a model's name on the Hub.
        data: Files (.jsonl of records, .txt of text) and books (named as in `Text`), with commas between them.
        held_out: Files and books, named as in `data` and taken out of it, that are the test.
        length: Tokens of a row, at least 2. Longer records are refused, unless `cut`.
        packed: Rows of train hold as many documents, one after the other, as they have room for; else one.
        cut: A response that does not fit is cut, and then has no EOS. A prompt that leaves no room is always refused.
        turns: Of a conversation, the `last` answer is asked, or `every` one.
        mask: A token of the tokenizer that is the mask; by default "<|mask|>", one more after its last.
        validation: Share of the documents.
        test: Share of the documents; of those that are not held out there is then no test.
        seed: Of the splits.
    """

    tokenizer: str = ""
    data: str = "excerpt"
    held_out: str = ""
    length: int = 256  # type: ignore[override]
    packed: bool = True
    cut: bool = False
    turns: Turns = "last"
    mask: str = ""
    validation: float = 0.05
    test: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """ValueError for a field out of range; files are looked at when they are needed."""
        checks.plain(self)
        if self.turns not in get_args(Turns):
            raise ValueError(f"turns={quoted(self.turns)} given, one of {', '.join(get_args(Turns))} expected")
        checks.count("length", self.length, 2)
        for name in ("validation", "test"):
            checks.number(name, getattr(self, name), 0, 1, "a share of the documents, from 0 to 1")
        if self.validation + self.test >= 1:
            raise ValueError(f"validation={self.validation}, test={self.test}: nothing is left to train on; give less")
        check_seed(self.seed)

    @property
    def coding(self) -> Coding:
        """The tokenizer (`coding.tokenizer` is that of transformers), loaded once; ValueError where there is none."""
        return coding(self.tokenizer, self.mask)

    @property
    def mask_id(self) -> int:
        """The token not said yet: one of the tokenizer's, or one more."""
        return self.coding.mask_id

    @property
    def vocab_size(self) -> int:
        """The tokenizer's tokens and the mask."""
        return max(len(self.coding.tokenizer), self.mask_id + 1)

    @property
    def title(self) -> str:
        named = ", ".join(Path(word.strip()).name for word in self.data.split(","))
        return f"text, {named}, {self.length} tokens of {Path(self.tokenizer).name}"

    @property
    def judged(self) -> bool:
        """No text is the right one."""
        return False

    def holds(self, split: Split) -> int:
        """Rows of train, documents of the others."""
        return len(self._rows) - 1 if split == "train" else len(self._splits[split])

    def numbered(self, split: Split, index: Tensor) -> Examples:
        """The rows of train, or the documents, of those numbers."""
        its = self._splits[split]
        bounds = self._rows if split == "train" else np.arange(len(its) + 1)
        return self._examples(self._stored, [its[bounds[i] : bounds[i + 1]] for i in index.tolist()])

    def more(self, split: Split) -> str:
        return ", or more data, or a larger share"

    def read(self, path: str | Path) -> Examples:
        """The documents of a file of records (.jsonl) or text (.txt), one a row; ValueError names file and line."""
        found = stored(self.coding, replace(self._wanted, sources=source_list(str(path), "")))
        return self._examples(found, list(np.arange(len(found.first))[:, None]))

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: does `answer` `[n, length]` keep what `prompt` gives, and say all the rest?"""
        kept = (prompt == self.mask_id) | (prompt == answer)
        return (kept & (answer >= 0) & (answer < self.vocab_size) & (answer != self.mask_id)).all(1)

    def bytes_in(self, tokens: Tensor) -> Tensor:
        """`[n]` int64: how many bytes of text each row of `tokens` `[n, length]` stands for; special ones are none."""
        width = torch.zeros(self.vocab_size, dtype=torch.int64)
        pieces = self.coding.pieces
        width[: len(pieces)] = torch.tensor([*map(len, pieces)])
        return width.to(tokens.device)[tokens].sum(1)

    def encode(self, text: str) -> Tensor:
        r"""`[length]` token ids of a text as `show` writes it; blanks follow a shorter one.

        A blank is `□` or `\_`, a new line `\n` or itself, a backslash `\\`, a byte `\xHH`. Special tokens are what
        they are written as, and nothing is added: write a chat with its header. What `show` writes comes back as the
        same text, perhaps in other tokens.
        """
        its, tokens = self.coding, list[int]()
        for number, part in enumerate(its.any_special.split(text)):
            if number % 2:
                tokens.append(its.special[part])
                continue
            for run in unspell(part):
                tokens += [its.mask_id] if run is None else its.ids(_text(run))
        if len(tokens) > self.length:
            raise ValueError(f"a text of {len(tokens)} tokens given, at most {self.length} expected; cut it")
        return torch.tensor(tokens + [its.mask_id] * (self.length - len(tokens)))

    def show(self, tokens: Tensor) -> str:
        """A sequence `[length]` on one line, in the form that `encode` reads, without the padding at its end."""
        ids, its = self._checked(tokens), self.coding
        end = len(ids)
        while end > 1 and ids[end - 1] == its.pad_id and (its.pad_id != its.eos_id or ids[end - 2] == its.eos_id):
            end -= 1
        line, run = "", list[bytes | None]()
        for token in ids[:end]:
            if token in self._names:
                line, run = line + self._spelt(run) + self._names[token], []
            else:
                run.append(None if token == its.mask_id else self._piece(token))
        return line + self._spelt(run)

    def symbol(self, token: int) -> str:
        """A token as `show` writes it, but an arrow for a new line."""
        if token == self.mask_id:
            return BLANK
        return self._names.get(token) or spell([self._piece(token)]).replace("\\n", "↵")

    def gap(self, position: int) -> str:
        """A new line after 16 tokens."""
        return "\n" if (position + 1) % 16 == 0 and position + 1 < self.length else ""

    @property
    def vocabulary(self) -> str:
        mask = f"{self.mask} as the mask" if self.mask else "one more as the mask"
        return f"the {len(self.coding.tokenizer)} tokens of {self.tokenizer}, {mask}"

    @property
    def origin(self) -> tuple[str, str]:  # type: ignore[override]
        """The files and books, and their licence."""
        files = any(source.path is not None for source in self._wanted.sources)
        return self.data, "that of the files" if files else LICENCE

    def counts(self, split: Split) -> dict[str, Any]:
        """Of a split its rows, its documents and their tokens."""
        its = self._splits[split]
        rows = {"rows": self.size(split)} if split == "train" else {}
        return {**rows, "documents": len(its), "tokens": int(self._stored.size[its].sum())}

    @property
    def _wanted(self) -> Wanted:
        return Wanted(source_list(self.data, self.held_out), self.length, self.cut, self.turns == "every")

    @cached_property
    def _stored(self) -> Stored:
        return stored(self.coding, self._wanted)

    @cached_property
    def _splits(self) -> dict[Split, Index]:
        """The numbers of the documents of each split; ValueError where train has none."""
        its, apart = self._stored, len(source_list(self.held_out, "")) if self.held_out else 0
        first = len(self._wanted.sources) - apart  # of the sources that are held out
        test = 0.0 if apart else self.test
        split = assign(scattered(its.hashes, self.seed), (1 - self.validation - test, self.validation, test))
        split[its.source >= first] = SPLITS.index("test")
        if not (split == 0).any():
            raise ValueError(f"{len(split)} documents in {self.data}, none of them to train on; give more text")
        return {name: np.flatnonzero(split == number) for number, name in enumerate(SPLITS)}

    @cached_property
    def _rows(self) -> Index:
        """Where each row of train begins among its documents, and at last how many these are."""
        size = self._stored.size[self._splits["train"]]
        if not self.packed:
            return np.arange(len(size) + 1)
        ends, bounds = size.cumsum(), [0]
        while bounds[-1] < len(size):
            before = ends[bounds[-1] - 1] if bounds[-1] else 0
            bounds.append(int(np.searchsorted(ends, before + self.length, side="right")))
        return np.array(bounds)

    def _examples(self, its: Stored, rows: Sequence[Index]) -> Examples:
        """The documents of those numbers, in rows."""
        x0 = np.full((len(rows), self.length), self.coding.pad_id)
        given, document = np.ones_like(x0, dtype=bool), np.full_like(x0, PADDING)
        for row, numbers in enumerate(rows):
            at = 0
            for number, (first, size) in enumerate(zip(its.first[numbers], its.size[numbers], strict=True)):
                here, there = slice(at, at + size), slice(first, first + size)
                x0[row, here], given[row, here], document[row, here] = its.tokens[there], its.given[there], number
                at += size
        return Examples(torch.from_numpy(x0), torch.from_numpy(given), document=torch.from_numpy(document))

    @cached_property
    def _names(self) -> dict[int, str]:
        """The special tokens' letters, but for the mask's."""
        return {number: word for word, number in self.coding.special.items() if number != self.mask_id}

    def _piece(self, token: int) -> bytes:
        """The bytes of a token; none past the tokenizer's last."""
        pieces = self.coding.pieces
        return pieces[token] if token < len(pieces) else b""

    def _spelt(self, run: Sequence[bytes | None]) -> str:
        """A run of tokens on one line; letters that would be read as a special token begin with a byte."""
        return self.coding.any_special.sub(_escaped, spell(run))

    def _checked(self, tokens: Tensor) -> list[int]:
        """The ids of one sequence; ValueError where it is none."""
        if tokens.shape != (self.length,) or tokens.min() < 0 or tokens.max() >= self.vocab_size:
            expected = f"one sequence [{self.length}] of ids 0..{self.vocab_size - 1}"
            raise ValueError(f"tokens of shape {tuple(tokens.shape)} given, {expected} expected; write tokens[i]")
        return tokens.tolist()


def _escaped(found: re.Match[str]) -> str:
    """The letters of a special token, the first of them as bytes."""
    return "".join(f"\\x{byte:02x}" for byte in found[0][0].encode()) + found[0][1:]


def _text(run: bytes) -> str:
    """The text of bytes; ValueError where they are none."""
    try:
        return run.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{quoted(run)} is no text in UTF-8; write whole letters") from None
