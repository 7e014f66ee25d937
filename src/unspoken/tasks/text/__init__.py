"""The text task: real books in bytes or pieces, all of a window to be said, what follows it, or the gap inside it.

task = Text()  # a few chapters of Austen that come with the package
task = Text(books="austen", held_out="austen-persuasion")  # after `python tools/books.py austen`
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.tasks.base import SPLITS, Examples, Split, check_seed, check_tokens
from unspoken.tasks.hashing import scatter
from unspoken.tasks.sampled import Sampled
from unspoken.tasks.text.books import LICENCE, SOURCES, Corpus, collect, parts, read_book
from unspoken.tasks.text.spelling import BLANK, spell, unspell
from unspoken.tasks.text.vocabulary import BYTES, Vocabulary
from unspoken.tasks.text.windows import Part, duplicates, part

Unit = Literal["byte", "bpe"]
Mode = Literal["unconditional", "prefix", "infill"]


@dataclass(frozen=True)
class Text(Sampled):
    """Windows of `length` tokens of books; the mask is the last token.

    By bytes the vocabulary is all 256 of them and not those alone that occur: byte b is token b for every book, so a
    model takes any text, and a likelihood is one of any text. By BPE it is the 256 bytes and the commonest merges of
    the training text, so the same holds.

    No text is the only right one, so `score` says that an answer is whole and keeps what is given, not that it is good:
    the measure of a model of text is its bits per byte.

    Train draws windows that begin anywhere in the training text. Validation and test are fixed windows one after the
    other. In mode "unconditional" they cover their text once: the last window of a text reaches back into the one
    before it, and what it repeats is given (a text shorter than a window is left out, and counted by `describe`). So
    the bits per byte of a text are, with the nats of the tokens not given,
        nats.sum() / log(2) / (task.bytes_in(x0) - task.bytes_in(examples.prompt(task.mask_id))).sum()

    Attributes:
        length: Tokens of a window, at least 2 (3 for "infill").
        unit: What a token is.
        pieces: Tokens of the BPE vocabulary, more than 256; it has no effect on bytes.
        books: Names and groups of books with commas between them: "excerpt", which is always there, "austen",
            "bible", "shakespeare", or one book as "shakespeare-hamlet" (`python tools/books.py` builds them).
        held_out: Books, named as in `books` and taken out of them, that are the test; validation is then the last 5%
            of each other book. Empty: the last 5% of each book are the test, and the 5% before them validation.
        path: A text file of the user's to use instead of `books`.
        mode: What is given: nothing, the beginning, or both ends with one gap between them.
        share: Of a window's tokens that are given in modes "prefix" and "infill".
        seed: Where the gaps of mode "infill" lie in the fixed windows.
    """

    length: int = 128  # type: ignore[override]
    unit: Unit = "byte"
    pieces: int = 1024
    books: str = "excerpt"
    held_out: str = ""
    path: str = ""
    mode: Mode = "unconditional"
    share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        for name, kinds in (("unit", Unit), ("mode", Mode)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"{name}={quoted(getattr(self, name))} given, one of {', '.join(get_args(kinds))} expected"
                )
        if self.length < (least := 3 if self.mode == "infill" else 2):
            raise ValueError(f"length={self.length} given, at least {least} expected for mode={self.mode!r}")
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share} given, 0 < share < 1 expected: some tokens are given, and not all")
        if not 256 < self.pieces < 2**31:
            raise ValueError(f"pieces={self.pieces} given, more than 256 expected: the bytes, and merges of them")
        check_seed(self.seed)
        if self.path and self.held_out:
            raise ValueError(
                f"path={quoted(self.path)} and held_out={quoted(self.held_out)} given; a file's own end is its test"
            )

    @property
    def mask_id(self) -> int:
        """The token not said yet."""
        return 256 if self.unit == "byte" else self.pieces

    @property
    def title(self) -> str:
        source = Path(self.path).name if self.path else self.books
        return f"text, {source}, {self.length} {'bytes' if self.unit == 'byte' else 'pieces'}, {self.mode}"

    @property
    def judged(self) -> bool:
        """No text is the right one."""
        return False

    def holds(self, split: Split) -> int:
        """Windows in a split, one after the other; `sample` draws those of train at any place."""
        return len(self._parts[split].stored)

    def numbered(self, split: Split, index: Tensor) -> Examples:
        """The fixed windows of those numbers."""
        return self._windows(self._parts[split], index.numpy())

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        """Windows at any place."""
        its, device = self._parts["train"], generator.device
        starts = its.starts[torch.randint(len(its.starts), (n,), generator=generator, device=device).cpu().numpy()]
        gaps = torch.randint(self._gaps, (n,), generator=generator, device=device).cpu()
        return Examples(its.windows(starts, self.length), self._given(gaps))

    def more(self, split: Split) -> str:
        return ", or more books or a smaller length"

    def read(self, path: str | Path) -> Examples:
        """The windows of a text file in UTF-8, one after the other; ValueError names the file, and the line if any."""
        book = read_book(path)
        vocabulary = self._vocabulary
        its = part([vocabulary.cut(book.text)], self.length, vocabulary.width, self._rest)
        if len(its.stored) == 0:
            raise ValueError(f"{path}: {len(its.tokens)} tokens of text, at least one window of {self.length} expected")
        return self._windows(its, np.arange(len(its.stored)))

    def bytes_in(self, tokens: Tensor) -> Tensor:
        r"""`[n]` int64: how many bytes of text each row of `tokens` `[n, length]` stands for; a mask is none."""
        width = torch.tensor([*map(len, self._vocabulary.pieces), 0], device=tokens.device)
        return width[tokens].sum(1)

    def encode(self, text: str) -> Tensor:
        r"""`[length]` token ids of a text as `show` writes it; blanks follow a shorter one.

        A blank is `□` or `\_`, a new line `\n` or itself, a backslash `\\`, a byte `\xHH`. What `show` writes comes
        back token by token by bytes; by BPE the same text does, perhaps in other pieces.
        """
        tokens: list[int] = []
        for run in unspell(text):
            tokens += [self.mask_id] if run is None else self._vocabulary.cut(run).tolist()
        if len(tokens) > self.length:
            raise ValueError(f"a text of {len(tokens)} tokens given, at most {self.length} expected; cut it")
        return torch.tensor(tokens + [self.mask_id] * (self.length - len(tokens)))

    def show(self, tokens: Tensor) -> str:
        """A sequence `[length]` on one line, in the form that `encode` reads."""
        pieces = self._vocabulary.pieces
        return spell(None if token == self.mask_id else pieces[token] for token in check_tokens(self, tokens))

    def symbol(self, token: int) -> str:
        """A byte or piece as `show` writes it, but an arrow for a new line."""
        return BLANK if token == self.mask_id else spell([self._vocabulary.pieces[token]]).replace("\\n", "↵")

    def gap(self, position: int) -> str:
        """A new line after 64 bytes or 16 pieces."""
        end = (position + 1) % (64 if self.unit == "byte" else 16) == 0
        return "\n" if end and position + 1 < self.length else ""

    @property
    def vocabulary(self) -> str:
        learned = f"the 256 bytes and {self.pieces - 256} merges of byte-level BPE learned from train"
        return "the 256 bytes" if self.unit == "byte" else learned

    @property
    def origin(self) -> tuple[str, str]:  # type: ignore[override]
        """The file or the books, and their licence."""
        groups = dict.fromkeys(book.name.partition("-")[0] for book in self._corpus.books)
        books = "; ".join(SOURCES[group] for group in groups if not self.path), LICENCE
        return (self.path, "that of the file") if self.path else books

    def counts(self, split: Split) -> dict[str, Any]:
        """Of a split its fixed windows, their bytes, and the bytes that are in none."""
        its = self._parts[split]
        return {"windows": len(its.stored), "bytes": its.size, "left_out": its.left_out}

    def describe(self) -> dict[str, Any]:
        """The card, and the books with their checksums.

        duplicates: of a split's fixed windows, those that are at any place in a split before it; of train, those that
        are there twice.
        """
        books = {book.name: {"bytes": len(book.text), "sha256": book.sha256} for book in self._corpus.books}
        held_out = self.held_out or f"the last 5% of {'the file' if self.path else 'each book'}"
        card = super().describe() | {"books": books, "held_out": held_out}
        for split, twice in zip(SPLITS, duplicates(list(self._parts.values()), self.length), strict=True):
            card["splits"][split]["duplicates"] = twice
        return card

    @property
    def _vocabulary(self) -> Vocabulary:
        return BYTES if self.unit == "byte" else self._corpus.vocabulary

    @property
    def _source(self) -> tuple[str, str, str, int]:
        """What the tokens of the books depend on."""
        return self.books, self.held_out, self.path, self.mask_id

    @property
    def _corpus(self) -> Corpus:
        return collect(*self._source)

    @property
    def _parts(self) -> dict[Split, Part]:
        return parts(*self._source, self.length, self._rest)

    @property
    def _rest(self) -> bool:
        """Whether the last window takes what is left over: not where other tokens are given, as all might be then."""
        return self.mode == "unconditional"

    @property
    def _ends(self) -> int:
        """Tokens that are given in modes "prefix" and "infill"."""
        least = 2 if self.mode == "infill" else 1
        return min(max(round(self.share * self.length), least), self.length - 1)

    @property
    def _gaps(self) -> int:
        """Places for the gap of mode "infill" that leave a token at both ends."""
        return self._ends - 1 if self.mode == "infill" else 1

    def _given(self, gaps: Tensor) -> Tensor:
        """`[n, length]` bool. gaps: `[n]` int64, which place each row's gap has."""
        place = torch.arange(self.length)
        if self.mode == "infill":
            first = 1 + gaps[:, None]
            return (place < first) | (place >= first + self.length - self._ends)
        return (place < (self._ends if self.mode == "prefix" else 0)).repeat(len(gaps), 1)

    def _windows(self, its: Part, index: np.ndarray) -> Examples:
        """The fixed windows of a part with those numbers."""
        gaps = torch.from_numpy((scatter(index, self.seed) % np.uint64(self._gaps)).astype(np.int64))
        repeated = torch.arange(self.length) < torch.from_numpy(its.seen[index])[:, None]
        return Examples(its.windows(its.stored[index], self.length), self._given(gaps) | repeated)
