"""Tasks: data and their judges, one room each."""

from unspoken.tasks.base import Examples, Split, Task
from unspoken.tasks.pathstar import PathStar
from unspoken.tasks.sudoku import Sudoku

Tasks = PathStar | Sudoku  # the union of all tasks: the CLI's choices and the record's tags come from it

__all__ = ["Examples", "PathStar", "Split", "Sudoku", "Task", "Tasks"]
