"""Files of other tasks as people have them: DIMACS formulas and graphs, Countdown's records, ZebraLogic's."""

import json

import pytest

from unspoken.tasks import Colouring, Countdown, Sat

SAT = Sat(variables=3, clauses=4)
CNF = """c a formula by hand
c of four clauses
p cnf 3 4
1 -2 3 0 -1 2
3 0
c in the middle
-1 -2 -3 0
1 2 -3 0
"""
GRAPH = Colouring(nodes=4, colours=3, edges=5)
COL = "c all edges of four nodes but 3-4\np edge 4 5\ne 1 2\ne 1 3\ne 4 1\ne 2 3\ne 2 4\n"


def read(tmp_path, task, content, name="file"):
    (tmp_path / name).write_text(content)
    return [task.show(row) for row in task.read(tmp_path / name).x0]


@pytest.mark.parametrize("name", ["uf3.cnf", "uf3"])
@pytest.mark.parametrize("end", ["", "%\n0\n\n"])
def test_a_formula_is_read_and_answered(tmp_path, name, end):
    """Of the eight assignments 0 0 0 breaks none of the clauses and is the first."""
    assert read(tmp_path, SAT, CNF + end, name) == ["1,-2,3/-1,2,3/-1,-2,-3/1,2,-3=-1,-2,-3"]


def test_a_formula_whose_first_assignment_is_the_last(tmp_path):
    clauses = [(a, b, c) for a in (1, -1) for b in (2, -2) for c in (3, -3)]
    left = clauses[:-1]  # without -1 -2 -3, which all true breaks
    task = Sat(variables=3, clauses=7)
    said = "p cnf 3 7\n" + "".join(f"{a} {b} {c} 0\n" for a, b, c in left)
    (shown,) = read(tmp_path, task, said)
    assert shown.endswith("=1,2,3")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CNF.replace("p cnf 3 4", "p cnf 20 4"), r"Sat\(variables=20, clauses=4\)"),
        (CNF.replace("p cnf 3 4", "p cnf 3 5"), "file, line 8: 4 clauses given, 5 expected by the line with p"),
        (CNF.replace("3 0 -1", "4 0 -1"), "file, line 4: '4' given, a whole number -3..3 expected"),
        (CNF.replace("1 2 -3 0", "1 2 0"), "file, the formula: clause '1,2' given, three literals"),
        (CNF.replace("p cnf 3 4", "p cnf 3"), "file, line 3: 'p cnf 3' given, p cnf and two numbers expected"),
        (CNF.replace("1 2 -3 0", "9" * 5000 + " 0"), "line 8: '9+'... .5,000 characters. given, a whole number"),
    ],
)
def test_other_formulas_are_named(tmp_path, content, says):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, SAT, content)


def test_a_formula_that_nothing_satisfies_is_said(tmp_path):
    clauses = [(a, b, c) for a in (1, -1) for b in (2, -2) for c in (3, -3)]
    said = "p cnf 4 8\n" + "".join(f"{a} {b} {c} 0\n" for a, b, c in clauses)
    with pytest.raises(ValueError, match="the formula: no assignment makes every clause true"):
        read(tmp_path, Sat(variables=4, clauses=8), said)


@pytest.mark.parametrize("name", ["four.col", "four"])
@pytest.mark.parametrize("kind", ["edge", "col"])
def test_a_graph_is_read_and_coloured(tmp_path, name, kind):
    twice = COL.replace("p edge 4 5", f"p {kind} 4 10") + "e 2 1\ne 3 1\ne 1 4\ne 3 2\ne 4 2\n"
    for content in (COL.replace("edge", kind, 1) if kind == "edge" else COL.replace("p edge", "p col"), twice):
        assert read(tmp_path, GRAPH, content, name) == ["0-1 0-2 0-3 1-2 1-3=ABCC"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (COL.replace("4 5", "5 5"), r"the graph: 5 nodes given, 4 expected; write Colouring\(nodes=5, edges=5\)"),
        (COL.replace("4 5", "4 9"), "file, line 7: 5 edges given, 9 expected"),
        (COL.replace("e 4 1", "e 1 1"), "file, line 5: an edge from 1 to itself"),
        (COL.replace("e 4 1", "e 0 1"), "file, line 5: '0' given, a whole number 1..4"),
        (COL.replace("e 4 1", "4 1"), "file, line 5: '4 1' given, e and two nodes expected"),
        ("p edge 4 4\ne 1 2\ne 1 3\ne 1 4\ne 2 3\n", "the graph: 4 edges given, 5 expected; write edges=4"),
    ],
)
def test_other_graphs_are_named(tmp_path, content, says):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, GRAPH, content)


def test_a_graph_without_a_colouring_is_said(tmp_path):
    four = "p edge 4 6\ne 1 2\ne 1 3\ne 1 4\ne 2 3\ne 2 4\ne 3 4\n"
    with pytest.raises(ValueError, match="the graph: no colouring with 3 colours is proper"):
        read(tmp_path, Colouring(nodes=4, colours=3, edges=6), four)


@pytest.mark.parametrize("name", ["countdown.jsonl", "countdown"])
@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"target": 10, "nums": [2, 3, 4]}, "2,3,4,10=3*2=6,6+4=10"),
        ({"target": 10, "nums": [2, 3, 4], "solution": ["2*3=6", "4+6=10"]}, "2,3,4,10=2*3=6,4+6=10"),
        ({"target": 10, "nums": [2, 3, 4], "solution": "2*3=6,4+6=10", "id": 7}, "2,3,4,10=2*3=6,4+6=10"),
        ({"input": "2,3,4,10", "output": ""}, "2,3,4,10=3*2=6,6+4=10"),
    ],
)
def test_countdown_of_nums_and_target(tmp_path, name, record, shown):
    assert read(tmp_path, Countdown(numbers=3), json.dumps(record) + "\n", name) == [shown]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"target": 7, "nums": [2, 2, 2]}, r"line 1: no steps in whole numbers up to 999 make 7 of \[2, 2, 2\]"),
        ({"target": 7, "nums": [2, 2]}, "2 numbers and a target given, 3 and one expected"),
        ({"target": 7, "nums": [2, True, 2]}, "whole numbers expected"),
        ({"target": 7.0, "nums": [2, 2, 2]}, "target 7.0 given, whole numbers expected"),
        ({"target": 7, "nums": "2,2,2"}, "whole numbers expected"),
        ({"target": 6, "nums": [2, 2, 2], "solution": [5]}, r"solution \[5\] given, steps such as"),
        ({"target": 6, "nums": [2, 2, 2], "solution": "2+2=4"}, "a right answer expected"),
    ],
)
def test_other_records_of_countdown_are_named(tmp_path, record, says):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, Countdown(numbers=3), json.dumps(record))


def test_six_numbers_that_reach_nothing_are_soon_told(tmp_path):
    with pytest.raises(ValueError, match="no steps in whole numbers"):
        read(tmp_path, Countdown(numbers=6, most=99), json.dumps({"target": 97, "nums": [1, 1, 1, 1, 1, 1]}))
