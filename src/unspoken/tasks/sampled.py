"""What all tasks share: how a split is sampled, an answer judged and the card made; and how most write and read.

A task says which examples are numbered and how random ones are drawn (`Sampled`). Those with a vocabulary of words say
it, and how a question is divided from its answer, in a `Form` (`Worded`); they read files of examples, one a line.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.noise.space import is_unknown
from unspoken.tasks.base import SPLITS, Examples, Split, Task, check_split, check_tokens
from unspoken.tasks.files import Text, checked, read_lines, texts

BLANK = "."  # how a person writes the mask
PAD = "_"  # a word that fills up a question or an answer that is shorter than it might be
GENERATED = ("generated here", "no rights reserved")


class Sampled(Task):
    """A task whose splits hold numbered examples; train may hold more than those."""

    symmetries: ClassVar[str] = "none"
    origin: ClassVar[tuple[str, str]] = GENERATED  # where the data come from, and their licence

    @abstractmethod
    def holds(self, split: Split) -> int:
        """Examples in a split."""

    @abstractmethod
    def numbered(self, split: Split, index: Tensor) -> Examples:
        """The examples of a split with the numbers `index` `[n]`, always the same."""

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        """n random examples of train, augmented; by default of those that are numbered, with replacement."""
        index = torch.randint(self.size("train"), (n,), generator=generator, device=generator.device)
        return self.numbered("train", index.cpu())

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: is each of `tokens` `[n, length]`, all said, a right answer? By default all are."""
        return torch.ones(len(tokens), dtype=torch.bool)

    def more(self, split: Split) -> str:
        """What to write for more examples in a split, after a comma."""
        return ""

    def size(self, split: Split) -> int:
        """Examples in a split; what counts as one epoch where train has no end."""
        check_split(split)
        return self.holds(split)

    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """With a generator: n random examples, of train with replacement and augmented. Without: the first n.

        What comes out depends on the generator's state alone. ValueError when validation, test or the stored order
        are asked for more examples than there are. The first n of a train without end are always the same.
        """
        size = self.size(split)
        random = generator is not None and split == "train"
        if n < 0 or (n > size and not (random and size)):
            raise ValueError(
                f"{n} examples of {split} asked for, which holds {size}; write 0 <= n <= {size}{self.more(split)}"
            )
        if generator is None:
            return self.numbered(split, torch.arange(n))
        if random:
            return self.drawn(n, generator)
        return self.numbered(split, torch.randperm(size, generator=generator, device=generator.device)[:n].cpu())

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: does `answer` `[n, length]` keep what `prompt` gives, and answer it? A mask left is wrong.

        Tokens, or values `[n, length, width]`, on any device; any right answer counts, not the stored one alone.
        """
        if prompt.dim() == 2:
            kept, said = (prompt == self.mask_id) | (prompt == answer), (answer >= 0) & (answer < self.mask_id)
        else:
            kept, said = is_unknown(prompt) | (prompt == answer).all(2), ~is_unknown(answer)
        right = (kept & said).all(1)
        right[right.clone()] = self.judge_all(answer[right].cpu()).to(right.device)
        return right

    def describe(self) -> dict[str, Any]:
        """The card: what the data are, sizes by split (with duplicates and difficulty), symmetries and licence."""
        source, licence = self.origin
        return {
            "task": self.title,
            "length": self.length,
            "vocab_size": self.vocab_size,
            "vocabulary": self.vocabulary,
            "source": source,
            "symmetries": self.symmetries,
            "licence": licence,
            "splits": {split: self.counts(split) for split in SPLITS},
        }

    @property
    @abstractmethod
    def vocabulary(self) -> str:
        """What the tokens are, for the card."""

    def counts(self, split: Split) -> dict[str, Any]:
        """Of a split, for the card."""
        return {"examples": self.size(split)}


@dataclass(frozen=True)
class Form:
    """What a sequence of a task is: `asked` tokens of a question, `said` of an answer, each one of `words`.

    title: what the task is, in a few words. The mask is the token after the last word.
    """

    title: str
    words: tuple[str, ...]
    asked: int
    said: int


class Worded(Sampled):
    """A question and its answer in a sequence of words; the mask is the last token.

    What a file holds of an example is a row: its sequence, unless the task says otherwise (`examples`).
    """

    between: ClassVar[str] = "="  # the input and the output of a .jsonl record, to make a text for `encode`

    @cached_property
    def form(self) -> Form:
        """The title, the words, and the tokens of question and answer."""
        raise NotImplementedError(f"{type(self).__name__} has no form; write a cached_property that returns a Form")

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return self.form.title

    @property
    def words(self) -> tuple[str, ...]:
        """What each token stands for; the mask is not among them."""
        return self.form.words

    @property
    def asked(self) -> int:
        """Tokens of the question, which come first."""
        return self.form.asked

    @property
    def length(self) -> int:
        """Tokens in a sequence, question and answer."""
        return self.form.asked + self.form.said

    @property
    def mask_id(self) -> int:
        """The token not said yet."""
        return len(self.words)

    @property
    def vocabulary(self) -> str:
        return " ".join(self.words)

    def symbol(self, token: int) -> str:
        """A token as a person writes it."""
        return BLANK if token == self.mask_id else self.words[token]

    def check_tokens(self, tokens: Tensor) -> list[str]:
        """The words of one sequence; ValueError where it is none."""
        return [self.symbol(token) for token in check_tokens(self, tokens)]

    def check_count(self, what: str, found: Sequence[Hashable], wanted: int) -> None:
        """ValueError unless so many distinct things were found; `what` is their name, and that of the task's field."""
        if len(found) != wanted:
            instead = f"write {what}={len(found)} in {type(self).__name__}(...)"
            raise ValueError(f"{len(found)} {what} given, {wanted} expected; {instead}")
        if len(set(found)) < wanted:
            raise ValueError(f"{wanted} distinct {what} expected, and one comes twice")

    def given(self, rows: Tensor) -> Tensor:
        """`[n, length]` bool: which tokens of `rows` `[n, ...]` are the question."""
        return (torch.arange(self.length) < self.asked).repeat(len(rows), 1)

    def examples(self, rows: Tensor) -> Examples:
        """What rows `[n, width]` say; by default a row is a sequence."""
        return Examples(rows, self.given(rows))

    def read(self, path: str | Path) -> Examples:
        """The examples of a file, checked: a line each as `show` writes them, or JSON lines of inputs and outputs.

        What a file holds is told by its content, not its suffix. Lines that are empty, and what follows a `#` where
        they are not JSON, are left out. ValueError names the file and the line of what is wrong, an answer that is not
        right included.
        """
        return self.examples(self.rows(path))

    def rows(self, path: str | Path) -> Tensor:
        """`[n, width]`: the rows of the examples of a file (see `read`)."""
        path = self.file(path)
        return torch.stack(checked(path, self.texts(path), self.solved))

    def file(self, path: str | Path) -> Path:
        """The file; ValueError where there is none."""
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"{path}: no such file; a path to a file with one example a line expected")
        return path

    def texts(self, path: Path) -> Iterator[Text]:
        """Of each example of a file where it is, and what makes its text."""
        return texts(read_lines(path), self.line)

    def line(self, record: dict[str, Any]) -> str:
        """The text of one record of a .jsonl file, for `encode`."""
        if not isinstance(record, dict) or not {"input", "output"} <= record.keys():
            raise ValueError(f'{quoted(record)} given, {{"input": ..., "output": ...}} expected')
        return f"{record['input']}{self.between}{record['output']}"

    def solved(self, text: str) -> Tensor:
        """`[width]`: the row of an example with its answer; ValueError for an answer that is not right.

        Where the text gives no answer, the task's own (`answered`).
        """
        row = self.encode(text)
        if row.dim() == 1 and (row[self.asked :] == self.mask_id).all():
            row = self.answered(row)
        if not self.score(row[None], row[None])[0]:
            raise ValueError("a right answer expected, and this is none")
        return row

    def answered(self, row: Tensor) -> Tensor:
        """`[length]`: a question whose answer is not said, with a right answer, where the task can find one.

        ValueError where there is none. By default the row, which is no right answer.
        """
        return row
