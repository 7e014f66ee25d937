"""Where the texts of `Prompted` are: files of records, files of text, books; read line by line, never whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unspoken.messages import quoted
from unspoken.tasks.files import LONGEST, located, read_record
from unspoken.tasks.prompted.coding import Coding, Part
from unspoken.tasks.text.books import load, names, table

_PIECE = 2**20  # letters of a text that are tokenised together, about
_SUFFIXES = (".txt", ".jsonl")
_FORMS = '{"prompt": ..., "response": ...} or {"messages": [{"role": ..., "content": ...}, ...]}'


@dataclass(frozen=True)
class Source:
    """A file, or the text of a book.

    name: as the user says it. path: the file, None of a book. state: what changes when its content does.
    """

    name: str
    path: Path | None
    state: str

    @property
    def records(self) -> bool:
        """Whether it holds records, a line each, and not text."""
        return self.path is not None and self.path.suffix == ".jsonl"

    def texts(self) -> Iterator[str]:
        """The text, piece by piece; each ends with a line, and begins with a letter."""
        if self.path is None:
            yield load(self.name).text.decode()
            return
        held, size = list[str](), 0
        for _, line in _lines(self.path):
            if size >= _PIECE and not line[:1].isspace():
                yield "".join(held)
                held, size = [], 0
            held.append(line)
            size += len(line)
        if held:
            yield "".join(held)

    def check(self) -> bool:
        """Whether there are conversations in it.

        ValueError, with file and line, for a record that is none, and for a file of nothing.
        """
        if self.path is None:
            return False
        lines = ((n, line) for n, line in _lines(self.path) if line.strip())
        if not self.records:
            if next(lines, None) is None:
                raise ValueError(f"{self.path}: no text in it; a text file in UTF-8 expected")
            return False
        found = list[bool]()
        for number, line in lines:
            with located(self.path, f"line {number}"):
                if len(line) > LONGEST:
                    raise ValueError(f"a line of {len(line):,} characters given, at most {LONGEST:,} expected")
                chat = check_record(read_record(line))
            found = [chat or any(found)]
        if not found:
            raise ValueError(f"{self.path}: no record in it; one a line expected, {_FORMS}")
        return found[0]

    def parts(self, its: Coding, every: bool) -> Iterator[tuple[str, list[Part]]]:
        """Of each record where it is, and its tokens in parts that are given and parts that are asked."""
        assert self.path is not None
        for number, line in _lines(self.path):
            if line.strip():
                with located(self.path, f"line {number}"):
                    parts = parts_of(read_record(line), its, every)
                yield f"line {number}", parts


def sources(named: str, what: str) -> list[Source]:
    """The files and books of a list with commas between them; ValueError for one that is not there. what: its field."""
    found = dict[str, Source]()
    groups = {name.partition("-")[0] for name in table()}
    for word in filter(None, (word.strip() for word in named.split(","))):
        if word in groups or word in table():
            books = {name: Source(name, None, str(table()[name]["sha256"])) for name in names(word)}
            for book in books:
                load(book)  # it is there, and whole
            found |= books
        else:
            found[word] = _file(word, what)
    return list(found.values())


def _file(word: str, what: str) -> Source:
    path = Path(word)
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{what}: {quoted(word)} given; a file .jsonl or .txt, or the name of a book, expected")
    if not path.is_file():
        raise ValueError(f"{word}: no such file; a path to a file .jsonl of records or .txt of text expected")
    state = path.stat()
    return Source(word, path, f"{path.resolve()} {state.st_size} {state.st_mtime_ns}")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, each with its end; ValueError for a byte that is not UTF-8."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong = f"the byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
                raise ValueError(f"{path}, line {number}: {wrong}") from None
            yield number, line.replace("\r\n", "\n").replace("\r", "\n")


def check_record(record: Any) -> bool:
    """Whether it is a conversation; ValueError for what is no record, or one with an empty text."""
    if not isinstance(record, dict) or not ({"prompt", "response"} <= record.keys() or "messages" in record):
        raise ValueError(f"{quoted(record)} given, {_FORMS} expected")
    if "messages" not in record:
        for name in ("prompt", "response"):
            if not isinstance(record[name], str) or not record[name].strip():
                raise ValueError(f"{name} is {quoted(record[name])}; text expected, not empty")
        return False
    messages = record["messages"]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise ValueError(
            f'messages is {quoted(messages)}; a list of {{"role": ..., "content": ...}} of text expected, none empty'
        )
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant" or len(roles) < 2 or roles[0] == "assistant":
        raise ValueError(f"messages of {', '.join(map(str, roles))}: a prompt, and at last the assistant, expected")
    return True


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        and bool(message["content"].strip())
    )


def parts_of(record: dict[str, Any], its: Coding, every: bool) -> list[Part]:
    """The tokens of a record, the last of which say that it is over."""
    if "messages" in record:
        parts = its.chat(record["messages"], every)
    else:
        parts = [(its.front + its.ids(record["prompt"]), True), (its.ids(record["response"]), False)]
    last = parts[-1][0]
    if last[-1:] != [its.eos_id]:
        last.append(its.eos_id)
    return parts
