"""The books of a task, cut into splits, tokens and windows; in memory once for all the tasks that share them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from unspoken.tasks.base import Split
from unspoken.tasks.splits import SPLITS
from unspoken.tasks.text.books import EXCERPT, EXCERPT_OF, Book, load, names, read_book
from unspoken.tasks.text.vocabulary import BYTES, Tokens, Vocabulary, piece_vocabulary
from unspoken.tasks.text.windows import Part, cut, part

_SHARES = (90, 5, 5)  # of each book, in this order
_SHARES_BESIDE = (95, 5, 0)  # of each book beside those that are held out


@dataclass(frozen=True)
class Corpus:
    """books: all of them, those held out last. texts: by split, the tokens of its share of each book."""

    books: tuple[Book, ...]
    vocabulary: Vocabulary
    texts: dict[Split, list[Tokens]]


@lru_cache(maxsize=4)
def collect(books: str, held_out: str, path: str, pieces: int) -> Corpus:
    """The books of a `Text` with these fields, pieces=256 for bytes; ValueError where they are unknown or none."""
    apart = names(held_out)
    chosen = [name for name in names(books) if name not in apart]
    own = [read_book(path)] if path else [load(name) for name in chosen]
    if not own:
        given = f"books={books!r}, held_out={held_out!r} given"
        raise ValueError(f"{given}, which leaves no book to train on; write more books, or hold out fewer")
    if {EXCERPT, EXCERPT_OF} <= {book.name for book in own} | set(apart):
        raise ValueError(f"the {EXCERPT} is a part of {EXCERPT_OF}, and both are given; write one of them")
    tests = [load(name) for name in apart]
    cuts = [cut(book.text, _SHARES_BESIDE if tests else _SHARES) for book in own]
    train, validation, test = ([three[i] for three in cuts] for i in range(3))
    shares = (train, validation, [book.text for book in tests] or test)
    vocabulary = BYTES if pieces == 256 else piece_vocabulary(train, pieces)
    texts: dict[Split, list[Tokens]] = {
        split: [vocabulary.cut(text) for text in share] for split, share in zip(SPLITS, shares, strict=True)
    }
    return Corpus((*own, *tests), vocabulary, texts)


@lru_cache(maxsize=8)
def parts(books: str, held_out: str, path: str, pieces: int, length: int, rest: bool) -> dict[Split, Part]:
    """The windows of each split (see `windows.part`); ValueError where train has none."""
    its = collect(books, held_out, path, pieces)
    made: dict[Split, Part] = {
        split: part(texts, length, its.vocabulary.width, rest) for split, texts in its.texts.items()
    }
    if len(made["train"].starts) == 0:
        longest = max(map(len, its.texts["train"]))
        raise ValueError(f"length={length} given, but no text to train on has more than {longest} tokens; write less")
    return made
