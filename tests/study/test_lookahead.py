"""Laws of the lookahead verdict: on tables made by hand each of its comparisons can come out either way."""

import pytest
import torch
from torch import Tensor

from unspoken.study.ar_latents import Right, lookahead

CHECKS = {
    "chance": "path-star: next-token AR",
    "foresight": "AR + MTP with the window chosen",
    "pause": "unsupervised latents",
    "gain": "Sudoku: AR + all latents",
    "growth": "solved from the smallest window to all",
}


def solved(accuracy: float, examples: int = 4000) -> Tensor:
    """Three seeds; every example as hard for every method, so that differences are clean."""
    return (torch.arange(examples) < accuracy * examples).double().expand(3, -1)


def table(**changes: Tensor) -> Right:
    """A table on which every check holds, and what is to be different."""
    clean = {
        "star_next": solved(0.5),
        "star_slot": solved(0.5),
        "star_pause": solved(0.5),
        "star_2": solved(0.97),
        "star_all": solved(0.55),
        "next": solved(0.2),
        "slot": solved(0.5),
        "pause": solved(0.5),
        "2": solved(0.55),
        "4": solved(0.6),
        "all": solved(0.7),
    }
    assert changes.keys() <= clean.keys()
    methods = {"next": ("next token", ""), "slot": ("mask slot", "1"), "pause": ("pause", "all")}
    right: Right = {}
    for name, value in (clean | changes).items():
        method = name.removeprefix("star_")
        task = "path-star" if name.startswith("star_") else "sudoku"
        right[task, *methods.get(method, ("AR + MTP", method))] = value
    return right


def failing(right: Right, chance: float = 0.5, window: str = "2") -> set[str]:
    """The names of the checks that do not hold."""
    verdict = lookahead(right, chance, window)
    parts = verdict.evidence.split("; ")
    assert verdict.name == "lookahead" and len(parts) == len(CHECKS)
    for part, text in zip(parts, CHECKS.values(), strict=True):
        assert part.removeprefix("NOT SHOWN: ").startswith(text)
    found = {name for part, name in zip(parts, CHECKS, strict=True) if part.startswith("NOT SHOWN: ")}
    assert verdict.holds == (not found)
    return found


def test_it_holds_on_a_clean_table():
    assert failing(table()) == set()


FAILURES = {
    "next token foresees": ("chance", {"star_next": solved(0.7)}),
    "next token is below chance": ("chance", {"star_next": solved(0.3)}),
    "next token is near chance within noise alone": ("chance", {"star_next": solved(0.57)}),
    "latents do not foresee": ("foresight", {"star_2": solved(0.6)}),
    "latents foresee within noise alone": ("foresight", {"star_2": solved(0.91)}),
    "pause foresees": ("pause", {"star_pause": solved(0.97)}),
    "pause fails within noise alone": ("pause", {"star_pause": solved(0.89)}),
    "the mask slot is as good": ("gain", {"slot": solved(0.69)}),
    "the mask slot is almost as good": ("gain", {"slot": solved(0.65)}),
    "next token is as good": ("gain", {"next": solved(0.69)}),
    "windows make no difference": ("growth", {"2": solved(0.7), "4": solved(0.7)}),
    "a wider window is worse": ("growth", {"4": solved(0.5)}),
}


@pytest.mark.parametrize("name", FAILURES)
def test_it_fails_where_one_check_does(name):
    check, changes = FAILURES[name]
    assert failing(table(**changes)) == {check}


def test_every_check_can_fail():
    assert {check for check, _ in FAILURES.values()} == set(CHECKS)


def test_a_wider_window_may_be_worse_within_noise():
    """Two examples fewer of 4,000, others solved instead: no more than chance."""
    flat = solved(0.6).clone()
    flat[:, [0, 1]] = 0.0
    assert failing(table(**{"2": solved(0.6), "4": flat})) == set()


def test_one_seed_allows_no_verdict():
    one = {key: its[:1] for key, its in table().items()}
    verdict = lookahead(one, 0.5, "2")
    assert verdict.holds is None and verdict.evidence.startswith("one seed: no verdict. Seen: path-star")
    assert "NOT SHOWN" not in verdict.evidence and verdict.verdict == "no verdict"


def test_the_window_on_path_star_is_the_one_given():
    """And the evidence tells the others, so that a choice can be seen."""
    assert failing(table(), window="all") == {"foresight"}
    assert failing(table(star_all=solved(0.97), star_2=solved(0.5)), window="all") == set()
    for window in ("2", "all"):
        evidence = lookahead(table(), 0.5, window).evidence
        assert f"validation ({window})" in evidence and "(by window 2: 0.970, all: 0.550)" in evidence


def test_chance_is_the_tasks():
    thirds = table(star_next=solved(0.335), star_pause=solved(0.335))
    assert failing(thirds, chance=1 / 3) == set()
    assert failing(thirds, chance=1 / 2) == {"chance"}


def test_other_seeds_make_it_less_certain():
    """Three seeds that differ much: the mean passes, the interval does not."""
    apart = torch.stack([solved(a)[0] for a in (0.99, 0.99, 0.86)])
    assert float(apart.mean()) > 0.94 and failing(table(star_2=apart)) == {"foresight"}
