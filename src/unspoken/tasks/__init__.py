"""Tasks: data and their judges, one room each."""

from unspoken.tasks.addition import Addition
from unspoken.tasks.arithmetic import Arithmetic
from unspoken.tasks.base import Examples, Split, Task, Values
from unspoken.tasks.bouncing import Bouncing
from unspoken.tasks.burgers import Burgers
from unspoken.tasks.chain import Chain
from unspoken.tasks.colouring import Colouring
from unspoken.tasks.countdown import Countdown
from unspoken.tasks.digits import Digits
from unspoken.tasks.image_codes import ImageCodes
from unspoken.tasks.paths import Paths
from unspoken.tasks.pathstar import PathStar
from unspoken.tasks.permutations import Permutations
from unspoken.tasks.prompted import Prompted
from unspoken.tasks.sat import Sat
from unspoken.tasks.scenes import Scenes
from unspoken.tasks.strips import Strips
from unspoken.tasks.sudoku import Sudoku
from unspoken.tasks.sudoku.grids import SudokuGrids
from unspoken.tasks.text import Text
from unspoken.tasks.zebra import Zebra

# The union of all tasks: the CLI's choices and the record's tags come from it.
Tasks = (
    Addition
    | Arithmetic
    | Bouncing
    | Burgers
    | Chain
    | Colouring
    | Countdown
    | Digits
    | ImageCodes
    | Paths
    | PathStar
    | Permutations
    | Prompted
    | Sat
    | Scenes
    | Strips
    | Sudoku
    | SudokuGrids
    | Text
    | Zebra
)

__all__ = [
    "Addition",
    "Arithmetic",
    "Bouncing",
    "Burgers",
    "Chain",
    "Colouring",
    "Countdown",
    "Digits",
    "Examples",
    "ImageCodes",
    "PathStar",
    "Paths",
    "Permutations",
    "Prompted",
    "Sat",
    "Scenes",
    "Split",
    "Strips",
    "Sudoku",
    "SudokuGrids",
    "Task",
    "Tasks",
    "Text",
    "Values",
    "Zebra",
]
