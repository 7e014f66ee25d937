"""The pickles of Shah et al. become text that the Zebra task reads, and nothing in them is run."""

import os
import pickle
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from zebra_pickles import convert

from unspoken.tasks.base import SPLITS
from unspoken.tasks.zebra import Zebra

FOUR = Zebra(train=100, validation=8, test=8)
THREE = Zebra(houses=3, attributes=3, train=100, validation=8, test=8)
MIXED = Zebra(houses=3, attributes=4)


def drawn(task, n, seed=0):
    return torch.from_numpy(task.draw(n, np.random.default_rng(seed)).astype(np.int64))


def corrupted(row, task, rng):
    """Another answer: a cell changed, or two cells of an attribute swapped."""
    row, a, (p, q) = row.clone(), rng.randrange(task.attributes), rng.sample(range(task.houses), 2)
    p, q = (task.room + 1 + a * task.houses + house for house in (p, q))
    row[p], row[q] = row[q].item(), (row[p] if rng.random() < 0.7 else row[q]).item()
    return row


def read(task, file):
    """The examples of one of their files."""
    convert(file, file.with_suffix(".jsonl"), task.houses, task.attributes)
    return task.read(file.with_suffix(".jsonl"))


def record(task, row, rng, number=lambda value: value, box=lambda rows: rows):
    """A puzzle as in the files of Shah et al."""
    words, _, _ = task.show(row).partition(" ANSWER")
    grid = row[task.room + 1 :].view(task.attributes, task.houses).tolist()
    cells = [(a, p) for a in range(task.attributes) for p in range(task.houses)]
    rng.shuffle(cells)
    triples = [str(word) for a, p in cells for word in (a, p, grid[a][p])]
    rows = [[number(value) for value in row] for row in [list(range(task.houses)), *grid]]
    return [[*words.split(), "ANSWER", *triples], box(rows), [list(cell) for cell in cells]]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "box",
    [
        list,
        tuple,
        np.array,
        partial(np.array, dtype=">i2"),
        lambda b: np.asfortranarray(b),
        lambda b: list(map(np.array, b)),
    ],
)
def test_their_files(tmp_path, protocol, box):
    rng, rows = random.Random(0), drawn(MIXED, 6)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([record(MIXED, row, rng, box=box) for row in rows], protocol))
    assert torch.equal(read(MIXED, tmp_path / "a.pkl").x0, rows)
    numbers = [record(MIXED, row, rng, np.int64) for row in rows]
    (tmp_path / "b.PKL").write_bytes(pickle.dumps(numbers, protocol))
    assert torch.equal(read(MIXED, tmp_path / "b.PKL").x0, rows)


def test_their_files_mix_sizes_and_repeat(tmp_path, capsys):
    rng, file = random.Random(0), tmp_path / "a.pkl"
    rows, others = drawn(THREE, 40), drawn(FOUR, 3)
    records = [record(THREE, row, rng) for row in [*rows, *rows]] + [record(FOUR, row, rng) for row in others]
    file.write_bytes(pickle.dumps(records))
    read(THREE, file)
    assert "80 puzzles of 3 houses and 3 attributes, 3 of another size left out" in capsys.readouterr().out
    task = replace(THREE, train=8, validation=1, test=1, path=str(file.with_suffix(".jsonl")))
    sizes = [task.size(split) for split in SPLITS]
    distinct = len(set(THREE.canonical(rows.numpy()).tolist()))
    duplicates = sum(part["duplicates"] for part in task.describe()["splits"].values())
    assert duplicates == 80 - distinct and sum(sizes) == distinct
    with pytest.raises(ValueError, match=r"0 puzzles .* 83 of another size left out; write --houses"):
        read(MIXED, file)


def change(record, *path, to):
    *path, last = path
    for step in path:
        record = record[step]
    record[last] = to


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        ((0,), 7, "puzzle 1: int 7 given, a list of words"),
        ((0, 0), "maybe", "word 'maybe' given"),
        ((0, 0), 3, "a list of words with ANSWER"),
        ((0, -3), "9", "attribute '9' and house"),
        ((0, slice(-3, None)), [], "24 words behind ANSWER given, 27 expected"),
        ((0, -1), "x", "another grid"),
        ((1,), "box", "rows of one length"),
        ((1, 1), [0, 1], "rows of one length"),
        ((1, 1), ["0", 1, 2], "another grid"),
        ((1, 1), [[], 1, 2], "another grid"),
    ],
)
def test_a_malformed_record_is_named(tmp_path, path, to, says):
    rng, rows, file = random.Random(0), drawn(THREE, 2), tmp_path / "a.pkl"
    records = [record(THREE, row, rng) for row in rows]
    change(records, 1, *path, to=to)
    file.write_bytes(pickle.dumps(records))
    with pytest.raises(ValueError, match=says):
        read(THREE, file)
    records[1] = [["ANSWER"]]
    file.write_bytes(pickle.dumps(records))
    with pytest.raises(ValueError, match=r"puzzle 1: list of 1 .* solution box"):
        read(THREE, file)


def test_a_right_form_with_a_wrong_answer_is_refused(tmp_path):
    rng, file = random.Random(0), tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps([record(THREE, corrupted(drawn(THREE, 1)[0], THREE, rng), rng)]))
    with pytest.raises(ValueError, match="line 1: a right answer expected"):
        read(THREE, file)


def test_a_truncated_or_scrambled_pickle_is_a_value_error(tmp_path):
    rng, file = random.Random(0), tmp_path / "a.pkl"
    whole = pickle.dumps([record(THREE, row, rng, np.int64, np.array) for row in drawn(THREE, 2)])
    for cut in range(0, len(whole), 23):
        file.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a\.pkl"):
            read(THREE, file)
    for _ in range(300):
        hurt = bytearray(whole)
        hurt[rng.randrange(len(hurt))] = rng.randrange(256)
        file.write_bytes(bytes(hurt))
        try:
            read(THREE, file)
        except ValueError:
            continue
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="dict given, a list of puzzles expected"):
        read(THREE, file)


class Hostile:
    """Does harm when it is unpickled."""

    def __init__(self, function, *arguments):
        self.harm = function, arguments

    def __reduce__(self):
        return self.harm


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, open, getattr, np.load, np.frombuffer])
def test_no_code_in_a_file_is_run(tmp_path, protocol, function):
    spoil, file = tmp_path / "harm", tmp_path / "a.pkl"
    arguments = {os.system: f"touch {spoil}", open: str(spoil)}.get(function, f"open({str(spoil)!r}, 'w')")
    rows = [
        record(THREE, drawn(THREE, 1)[0], random.Random(0)),
        Hostile(function, arguments, *["w"] * (function is open)),
    ]
    file.write_bytes(pickle.dumps(rows, protocol))
    with pytest.raises(ValueError, match=f"{function.__name__} refused"):
        read(THREE, file)
    assert not spoil.exists()
    pickle.loads(pickle.dumps(Hostile(os.system, f"touch {spoil}")))
    assert spoil.exists()  # the harm is real


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR.",  # pointers, in numpy
        b"cnumpy\ndtype\n(S'V999999'\ntR.",
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"c_codecs\nencode\n}S'func'\nNsb.",
        b"Pname\n.",
        b"\x80\x02\x82\x01.",  # a registered extension
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",  # a string of 8 EiB
        b"]\x94" + b"]a" * 3 + b"h\x00a.",
        b"",
    ],
)
def test_pickles_by_hand(tmp_path, code):
    file = tmp_path / "a.pkl"
    file.write_bytes(code)
    with pytest.raises(ValueError, match=r"a\.pkl"):
        read(THREE, file)


HOSTILE = {
    "a memo of gigabytes": (
        b"\x80\x02]r\x00\x00\x00\x08.",
        "it remembers something as number 134217728, and is of 9 bytes",
    ),
    "a memo of gigabytes in text": (b"(lp99999999\n.", "it remembers something as number 99999999, and is of"),
    "an array of terabytes": (
        b"(lp0\ncnumpy.core.numeric\n_frombuffer\n(c_codecs\nencode\n(V\nVlatin1\ntR"
        b"cnumpy\ndtype\n(S'i8'\ntR(L1000000000000L\nI0\ntS'C'\ntRa.",
        r"a numpy array of shape \(1000000000000, 0\) in it, and of 0 numbers",
    ),
    "a number of many digits": (b"(lL" + b"9" * 10**6 + b"L\na.", "no pickle of lists"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_gigabytes_is_refused(tmp_path, name):
    code, says = HOSTILE[name]
    (tmp_path / "a.pkl").write_bytes(code)
    with pytest.raises(ValueError, match=says) as caught:
        read(THREE, tmp_path / "a.pkl")
    assert len(str(caught.value)) < 600


def test_words_that_are_long_are_refused(tmp_path):
    """A pickle says a long word many times at a byte or two each; as text they would fill the disk."""
    its = record(THREE, drawn(THREE, 1)[0], random.Random(0))
    its[0].insert(0, "=" * 21)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([its]))
    with pytest.raises(ValueError, match=r"puzzle 0: list of .* given, a list of words with ANSWER"):
        read(THREE, tmp_path / "a.pkl")


def test_stand_ins_survive_a_pickle_that_sets_their_attributes(tmp_path):
    file = tmp_path / "a.pkl"
    file.write_bytes(b"(lp0\ncnumpy.core.multiarray\nscalar\np1\n(N}S'__doc__'\nS'spoilt'\nsS'__defaults__'\nNstba.")
    for _ in range(2):
        with pytest.raises(ValueError, match="no pickle"):
            read(THREE, file)
    rows = drawn(THREE, 2)
    file.write_bytes(pickle.dumps([record(THREE, row, random.Random(0), np.int64) for row in rows]))
    assert torch.equal(read(THREE, file).x0, rows)


def test_a_pickle_that_sets_the_state_of_what_it_is_given_is_refused(tmp_path):
    """It makes a function of the file's call itself: to follow that would end the interpreter, not the reading."""
    path = tmp_path / "s.pkl"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nq\x00(h\x00)}Ntbh\x00(Vx\nVlatin1\ntR.")
    with pytest.raises(ValueError, match="sets the state of what it imports"):
        read(THREE, path)
