"""Files of other tasks as people have them: DIMACS formulas and graphs, Countdown's records, ZebraLogic's."""

import json

import pytest

from unspoken.tasks import Colouring, Countdown, Sat, Zebra

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


ZEBRA = Zebra(houses=3, attributes=3)
ABOUT = """There are 3 houses, numbered 1 to 3 from left to right, as seen from across the street. Each house has:
 - Each person has a unique name: `Peter`, `Eric`, `Arnold`
 - Each person has a favorite color: `red`, `yellow`, `white`
 - People have unique hair colors: `black`, `red`, `brown`

## Clues:
"""
ANSWER = {"header": ["House", "Name", "Color", "HairColor"], "rows": []}
ANSWER["rows"] = [["1", "Arnold", "white", "red"], ["2", "Peter", "red", "brown"], ["3", "Eric", "yellow", "black"]]


def zebralogic(*clues, about=ABOUT, solution=ANSWER):
    said = "".join(f"{i}. {clue}\n" for i, clue in enumerate(clues, start=1))
    return json.dumps({"id": "by hand", "size": "3*3", "puzzle": about + said, "solution": solution})


CLUES = {
    "Arnold is in the first house.": "= LHS c 0 2 RHS n 0 0",
    "The person who has black hair is not in the second house.": "!= LHS c 2 0 RHS n 0 1",
    "Arnold is the person who loves white.": "= LHS c 0 2 RHS c 1 2",
    "The person who has red hair is the person who loves white.": "= LHS c 2 1 RHS c 1 2",
    "The person whose favorite color is red is Peter.": "= LHS c 1 0 RHS c 0 0",
    "Eric is not the person who has brown hair.": "!= LHS c 0 1 RHS c 2 2",
    "Peter is directly left of the person who loves yellow.": "immediate-left LHS c 0 0 RHS c 1 1",
    "Eric is directly right of the person whose favorite color is red.": "immediate-left LHS c 1 0 RHS c 0 1",
    "Arnold is somewhere to the left of Eric.": "left-of LHS c 0 2 RHS c 0 1",
    "Eric is somewhere to the right of Arnold.": "left-of LHS c 0 2 RHS c 0 1",
    "Peter and the person who has black hair are next to each other.": "nbr LHS c 0 0 RHS c 2 0",
}


@pytest.mark.parametrize("name", ["zebra.jsonl", "zebra"])
@pytest.mark.parametrize("clue", CLUES)
def test_a_clue_of_zebralogic_is_read(tmp_path, clue, name):
    assert read(tmp_path, ZEBRA, zebralogic(clue), name) == [f"{CLUES[clue]} CLUE_END ANSWER 2 0 1 2 0 1 1 2 0"]


def test_a_puzzle_of_zebralogic_is_read(tmp_path):
    shown = " ".join(f"{words} CLUE_END" for words in list(CLUES.values())[:6])
    assert read(tmp_path, ZEBRA, zebralogic(*list(CLUES)[:6])) == [f"{shown} ANSWER 2 0 1 2 0 1 1 2 0"]


@pytest.mark.parametrize(
    ("values", "phrase", "value"),
    [
        (("jan", "sept", "april"), "The person whose birthday is in September", 1),
        (("water", "tea", "boba tea"), "The boba tea drinker", 2),
        (("water", "tea", "boba tea"), "The tea drinker", 1),
        (("short", "very short", "tall"), "The person who is very short", 1),
        (("ford f150", "tesla model 3", "toyota camry"), "The person who owns a Ford F-150", 0),
        (("craftsman", "ranch", "modern"), "The person in a ranch-style home", 1),
        (("hip hop", "rock", "jazz"), "The person who loves hip-hop music", 0),
        (("high school", "associate", "master"), "The person with an associate's degree", 1),
        (("brit", "swede", "dane"), "The Swedish person", 1),
        (("horse", "bird", "cat"), "The person who keeps horses", 0),
    ],
)
def test_values_are_known_in_the_words_of_clues(tmp_path, values, phrase, value):
    """Also where others begin as they do."""
    about = ABOUT.replace("`red`, `yellow`, `white`", ", ".join(f"`{name}`" for name in values))
    rows = [[row[0], row[1], values[(i + value) % 3], row[3]] for i, row in enumerate(ANSWER["rows"])]
    said = zebralogic(f"{phrase} is in the first house.", about=about, solution={"rows": rows})
    assert read(tmp_path, ZEBRA, said)[0].startswith(f"= LHS c 1 {value} RHS n 0 0 CLUE_END ANSWER")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (zebralogic("There is one house between Arnold and Eric."), "line 1: clue .* cannot be said in the task"),
        (zebralogic("There are two houses between Arnold and Eric."), "cannot be said in the task"),
        (zebralogic("Arnold is red."), "clue 'Arnold is red' given, which can mean nothing of the known"),
        (zebralogic("Arnold is in the fourth house."), "can mean nothing"),
        (zebralogic("Arnold sings."), "can mean nothing"),
        (zebralogic("Eric is in the first house."), "a right answer expected"),
        (
            zebralogic("Arnold is in the first house.", about=ABOUT.replace("Peter`, ", "")),
            "0 houses and 3|2 houses and 3",
        ),
        (zebralogic("Eric is in the third house.", solution={"rows": [["___"] * 4] * 3}), "this copy has no solutions"),
        (zebralogic("Eric is in the third house.", solution=[1]), r"solution \[1\] given, a header and a row of 4"),
    ],
)
def test_what_zebralogic_leaves_unclear_is_refused(tmp_path, record, says):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, ZEBRA, record)
