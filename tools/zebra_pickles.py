"""The .pkl files of Shah et al. 2024 as text for the Zebra task, read without running anything that is in them.

    python tools/zebra_pickles.py theirs.pkl puzzles.jsonl --houses 4 --attributes 4

Then `Zebra(houses=4, attributes=4, path="puzzles.jsonl")`. A file mixes sizes: one call takes the puzzles of one.

A pickle names functions and calls them. Here a name gives one of the stand-ins below or is refused, so that lists,
strings and numbers come out, those of numpy included, and nothing of numpy runs.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from unspoken.messages import quoted
from unspoken.record import write_text
from unspoken.tasks.zebra.clues import DIGITS, Size

_TOLD = 300  # characters of a mistake in a file
_LONGEST = 20  # characters of a word: the longest known has 14


def convert(source: Path, target: Path, houses: int = 4, attributes: int = 4) -> None:
    """Writes the puzzles of one size as .jsonl, and prints how many there are of it and of others.

    Args:
        source: Their file.
        target: The file to write.
        houses: Of the puzzles to take.
        attributes: Of the puzzles to take.
    """
    lines, others = [], 0
    for number, record in enumerate(read_records(source)):
        if size_of(record) not in (None, Size(houses, attributes)):
            others += 1
            continue
        try:
            words = words_of(record)
        except ValueError as error:
            raise ValueError(f"{source}, puzzle {number}: {error}") from None
        at = words.index("ANSWER") + 1
        lines.append(json.dumps({"input": " ".join(words[:at]), "output": " ".join(words[at:])}) + "\n")
    said = f"{len(lines)} puzzles of {houses} houses and {attributes} attributes, {others} of another size left out"
    if not lines:
        raise ValueError(f"{source}: {said}; write --houses and --attributes of those that are in it")
    write_text(target, "".join(lines))
    print(f"{target}: {said}")


def read_records(path: Path) -> list[Any]:
    """What a pickled list holds; ValueError for another file, a truncated one, or one that asks for other functions."""
    data = path.read_bytes()
    try:
        _check_memo(data)
        records = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # a file that is made to do harm can raise any
        raise ValueError(f"{path}: no pickle of lists, strings and whole numbers ({str(error)[:_TOLD]})") from None
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path}: {type(records).__name__} given, a list of puzzles expected")
    return records


def _check_memo(data: bytes) -> None:
    """ValueError for a pickle that numbers what it remembers beyond its own length: the table of them would be filled.

    Nine bytes can ask for gigabytes. Nothing is made here, and what an argument says of its length is bounded by what
    there is of it.
    """
    for code, number, _ in pickletools.genops(data):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(number or 0) < len(data):
            raise ValueError(f"it remembers something as number {quoted(number)}, and is of {len(data)} bytes")


def size_of(record: Any) -> Size | None:
    """By its box, which has a row of houses and then one for each attribute; None where it has none."""
    box = _plain(record[1]) if isinstance(record, list | tuple) and len(record) > 1 else None
    rows = [_plain(row) for row in box] if isinstance(box, list) else []
    if len(rows) < 2 or not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        return None
    return Size(len(rows[0]), len(rows) - 1)


def words_of(record: Any) -> list[str]:
    """Clues, ANSWER, and the grid attribute by attribute, of `[words, box, ...]`.

    The words behind ANSWER are triples attribute, house, value in the order of a solver. ValueError for another form,
    or where words and box differ.
    """
    size = size_of(record)
    if size is None:
        raise ValueError(
            f"{_brief(record)} given, [words, solution box, order] expected, rows of one length in the box"
        )
    words, box = _plain(record[0]), _plain(record[1])
    known = isinstance(words, list) and all(isinstance(word, str) and len(word) <= _LONGEST for word in words)
    if not known or "ANSWER" not in words:
        raise ValueError(f"{_brief(words)} given, a list of words with ANSWER among them expected")
    at = words.index("ANSWER") + 1
    cells = _grid(words[at:], size)
    values = [value for row in box[1:] for value in _plain(row)]
    if [str(value) if isinstance(value, int) else "" for value in values] != cells:
        raise ValueError(f"another grid in the solution box than in the words, {' '.join(cells)}")
    return [*words[:at], *cells]


def _grid(words: list[str], size: Size) -> list[str]:
    cells = [""] * size.cells
    if len(words) != 3 * size.cells:
        raise ValueError(f"{len(words)} words behind ANSWER given, {3 * size.cells} expected: attribute house value")
    attributes, houses = DIGITS[: size.attributes], DIGITS[: size.houses]
    for attribute, house, value in zip(words[::3], words[1::3], words[2::3], strict=True):
        if attribute not in attributes or house not in houses:
            most = f"0..{size.attributes - 1} and 0..{size.houses - 1}"
            raise ValueError(
                f"attribute {quoted(attribute)} and house {quoted(house)} behind ANSWER given, {most} expected"
            )
        cells[int(attribute) * size.houses + int(house)] = value
    if "" in cells:
        raise ValueError(f"{quoted(' '.join(words))} behind ANSWER given, each attribute and house once expected")
    return cells


def _plain(value: Any) -> Any:
    """A list for a tuple or a stand-in of an array."""
    if isinstance(value, _Array):
        return value.values
    return list(value) if isinstance(value, tuple) else value


def _brief(value: Any) -> str:
    """Its type and start; the whole may be large."""
    if isinstance(value, list | tuple):
        start = ", ".join(repr(item)[:20] if isinstance(item, str | int) else "..." for item in value[:4])
        return f"{type(value).__name__} of {len(value)} ({start})"
    return f"{type(value).__name__} {value!r:.40}" if isinstance(value, str | int) else type(value).__name__


class _Type:
    """In place of a numpy.dtype."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[iu][1248]", code):
            raise ValueError(f"a numpy array of {quoted(code)} in it, whole numbers such as 'i8' expected")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")

    def numbers(self, data: bytes) -> list[int]:
        return np.frombuffer(data, self.dtype).tolist()


class _Array:
    """In place of a numpy.ndarray. values: its numbers in lists."""

    values: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, data = state
        numbers = np.array(kind.numbers(data), np.int64)
        if not all(0 <= side <= numbers.size for side in shape):  # of sides 10^12 and 0 there would be as many lists
            raise ValueError(f"a numpy array of shape {quoted(shape)} in it, and of {numbers.size} numbers")
        self.values = numbers.reshape(shape, order="F" if by_column else "C").tolist()


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: _Type, data: bytes) -> int:
    (number,) = kind.numbers(data)
    return number


def _from_buffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", data))
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {quoted(encoding)} in it, 'latin1' expected")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _STAND_INS |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _from_buffer,
    }


class _Maker:
    """Makes a stand-in. A pickle may set the state of what it is given: of this it cannot."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValueError(f"it sets {name} of what it imports: refused")

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it sets the state of what it imports: refused")


class _Unpickler(pickle.Unpickler):
    """Imports nothing."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _STAND_INS:
            raise ValueError(f"{module}.{name} refused")
        return _Maker(_STAND_INS[module, name])


if __name__ == "__main__":
    tyro.cli(convert)
