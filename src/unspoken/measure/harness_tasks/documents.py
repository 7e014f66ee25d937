"""Documents of the tasks of lm-evaluation-harness that ship: passages of the excerpt of Pride and Prejudice."""

from __future__ import annotations

from typing import Any

from unspoken.tasks.text.books import EXCERPT, load

WORDS = 24, 12  # of a passage, and of what goes on after it
OTHERS = 7, 31, 57  # the passages, so many further on, whose continuations are offered too


def passages() -> list[list[str]]:
    """The words of every paragraph that is long enough, in order."""
    paragraphs = load(EXCERPT).text.decode().split("\n\n")
    return [words for words in map(str.split, paragraphs) if len(words) >= sum(WORDS)]


def choices() -> list[dict[str, Any]]:
    """Passages, four continuations of each, and which of them is the book's."""
    its, (first, more) = passages(), WORDS
    after = [" ".join(words[first : first + more]) for words in its]
    found = []
    for number, words in enumerate(its):
        right = number % 4
        offered = [after[(number + other) % len(its)] for other in OTHERS]
        offered.insert(right, after[number])
        found.append({"passage": " ".join(words[:first]), "choices": offered, "answer": right})
    return found


def texts() -> list[dict[str, Any]]:
    """The paragraphs as texts."""
    return [{"text": " ".join(words)} for words in passages()]


def words() -> list[dict[str, Any]]:
    """Passages, and the word that follows."""
    first = WORDS[0]
    return [{"passage": " ".join(its[:first]), "word": its[first].strip('.,;:!?"-')} for its in passages()]


def splits(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """As the harness takes them. The fingerprint is given: some versions of pyarrow can not be pickled for one."""
    from datasets import Dataset  # pyright: ignore[reportMissingImports]
    from datasets.table import InMemoryTable  # pyright: ignore[reportMissingImports]

    return {"test": Dataset(InMemoryTable.from_pylist(documents), fingerprint=f"unspoken-{sorted(documents[0])}")}


def of_choices(**_: Any) -> dict[str, Any]:
    """See `choices`."""
    return splits(choices())


def of_texts(**_: Any) -> dict[str, Any]:
    """See `texts`."""
    return splits(texts())


def of_words(**_: Any) -> dict[str, Any]:
    """See `words`."""
    return splits(words())
