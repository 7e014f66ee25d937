"""Commands on tasks: which there are, and the card of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console
from rich.table import Table

from unspoken.cli.runs import Flat
from unspoken.presets.tasks import OWN, TASKS
from unspoken.tasks import Tasks


@dataclass(frozen=True)
class ListTasks:
    """The tasks by name, each with what it is."""

    def __call__(self, console: Console) -> None:
        for name, make in TASKS.items():
            task = make()
            console.print(f"{name:<16} {task.title}: {task.length} tokens of {task.vocab_size}")
        for name, make in OWN.items():
            console.print(f"{name:<16} records, chats or text of yours: {make().length} tokens of --task.tokenizer")


@dataclass(frozen=True)
class ShowTask:
    """The card of a task, sizes, vocabulary, duplicates, symmetries and licence, and examples of its test split.

    Attributes:
        examples: How many are shown.
    """

    task: Annotated[Tasks, Flat]
    examples: int = 2

    def __call__(self, console: Console) -> None:
        if self.examples < 0:
            raise ValueError(f"examples is {self.examples}; give 0 or more")
        card = self.task.describe()
        splits = card.pop("splits")
        width = max(map(len, card))
        for key, value in card.items():
            console.print(f"{key:<{width}}  {value}")
        columns = list(dict.fromkeys(key for its in splits.values() for key in its))
        table = Table("split", *columns)
        for split, its in splits.items():
            table.add_row(split, *(_written(its.get(column, "")) for column in columns))
        console.print(table)
        shown = self.task.sample("test", min(self.examples, self.task.size("test")))
        for answer, prompt in zip(shown.answer, shown.prompt(self.task.mask_id), strict=True):
            console.print(f"asked     {self.task.show(prompt)}\nanswered  {self.task.show(answer)}")


def _written(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {count}" for key, count in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)
