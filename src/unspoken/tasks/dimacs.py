"""DIMACS files: formulas (.cnf) and graphs (.col). Each holds one question and no answer.

Lines that begin with `c` are comments, one with `p` says the sizes; names count from 1. SATLIB's formulas end in a line
of `%` and one of `0`. See the DIMACS challenges: "Satisfiability: suggested format" (1993), and on colouring (1993).
"""

from __future__ import annotations

from collections.abc import Iterator

from unspoken.messages import quoted
from unspoken.tasks.files import Line, whole_number

_MOST = 10**9  # of anything


def is_dimacs(lines: list[Line], *kinds: str) -> bool:
    """Whether the first line that is no comment is `p` and one of the kinds."""
    said = next((line.split() for _, line in lines if line.strip() and line.split()[0] != "c"), [])
    return said[:1] == ["p"] and said[1:2] != [] and said[1] in kinds


def read_cnf(lines: list[Line]) -> tuple[int, list[list[int]]]:
    """The variables, and the clauses as literals, of a formula. ValueError names the line of what is wrong."""
    variables, count, rest = _sizes(lines, "cnf")
    clauses: list[list[int]] = []
    clause: list[int] = []
    number = 0
    for number, words in rest:
        if words == ["%"]:
            break
        for word in words:
            literal = _number(word, number, -variables, variables)
            if literal:
                clause.append(literal)
            else:
                clauses.append(clause)
                clause = []
    if clause:
        clauses.append(clause)  # the 0 behind the last one may be missing
    if len(clauses) != count:
        raise ValueError(f"line {number}: {len(clauses)} clauses given, {count} expected by the line with p")
    return variables, clauses


def read_col(lines: list[Line]) -> tuple[int, list[tuple[int, int]]]:
    """The nodes, and each edge once, of a graph, from 1 on. ValueError names the line of what is wrong.

    Files that name each edge from both ends, as some of DIMACS do, may count it once or twice.
    """
    nodes, count, rest = _sizes(lines, "edge", "edges", "col")
    named: list[tuple[int, int]] = []
    number = 0
    for number, words in rest:
        if words[0] == "e" and len(words) == 3:
            a, b = sorted(_number(word, number, 1, nodes) for word in words[1:])
            if a == b:
                raise ValueError(f"line {number}: an edge from {a} to itself given, two nodes expected")
            named.append((a, b))
        elif words[0] not in ("n", "d", "v", "x"):  # weights and places of nodes
            raise ValueError(f"line {number}: {quoted(' '.join(words))} given, e and two nodes expected")
    edges = list(dict.fromkeys(named))
    if count not in (len(named), len(edges)):
        raise ValueError(f"line {number}: {len(named)} edges given, {count} expected by the line with p")
    return nodes, edges


def _sizes(lines: list[Line], *kinds: str) -> tuple[int, int, Iterator[tuple[int, list[str]]]]:
    """The two numbers of the line with `p`, and the words of each line after it, comments left out."""
    words = ((number, line.split()) for number, line in lines)
    rest = ((number, its) for number, its in words if its and its[0] != "c")
    number, head = next(rest, (1, []))
    if len(head) != 4 or head[0] != "p" or head[1] not in kinds:
        raise ValueError(f"line {number}: {quoted(' '.join(head))} given, p {kinds[0]} and two numbers expected")
    return _number(head[2], number, 1, _MOST), _number(head[3], number, 0, _MOST), rest


def _number(word: str, line: int, low: int, high: int) -> int:
    try:
        return whole_number(word, low, high)
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from None
