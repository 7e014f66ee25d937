"""Graph colouring: a colour for each node such that no edge joins two of the same.

Near the number of edges at which random graphs turn from colourable to not, a node's colour hangs on all of the graph,
and every answer is as good as with its colours renamed: the first one said breaks the tie for the rest.

task = Colouring()  # ten nodes, three colours
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from math import ceil, comb, factorial, log
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.base import check_range
from unspoken.tasks.dimacs import is_dimacs, read_col
from unspoken.tasks.files import Text, located, read_lines, texts, whole_number
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.refine import permutations, refine, rejection, subsets
from unspoken.tasks.sampled import BLANK, Form
from unspoken.tasks.store import Rows

_LETTERS = "ABCD"
_COLOURINGS = 1_000  # of one graph, up to names; all are enumerated, so that there must not be too many


@dataclass(frozen=True)
class Colouring(Generated):
    """Colourable graphs of so many nodes and edges, any with equal odds, and one of the colourings of each.

    An edge is one token, not two: the question is half as long, and nobody has to learn which nodes go together, nor
    that 3-7 is 7-3. The edge of nodes a < b is the token of its place among all pairs in order; the colours follow. A
    sequence is the edges in random order, and the answer: the colours of node 0, 1, ...; `judge` takes any proper one.

    A file may also be a graph in DIMACS form (.col); its node 1 is node 0 here. A graph without colours gets the first
    that are proper.

    Attributes:
        nodes: 3 to 14.
        colours: 2 to 4, fewer than nodes.
        edges: Enough that a graph has at most about 1,000 colourings. Of random graphs with 10 nodes and 18, 20, 22 or
            24 edges 0.56, 0.28, 0.09 or 0.02 can be coloured with three colours.
    """

    nodes: int = 10
    colours: int = 3
    edges: int = 20

    name: ClassVar[str] = "colouring"
    symmetries: ClassVar[str] = "names of nodes, order of edges, names of colours"
    difficulty_is: ClassVar[str] = "log2 of the colourings up to the colours' names, rounded down"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "nodes", 3, 14)
        check_range(self, "colours", 2, min(len(_LETTERS), self.nodes - 1))
        also = f" for {self.nodes} nodes and {self.colours} colours"
        check_range(self, "edges", self._fewest, comb(self.nodes, 2), also)

    @property
    def _fewest(self) -> int:
        """Edges, each of which leaves about 1 - 1 / colours of the colourings, for `_COLOURINGS` to be left."""
        too_many = self.colours**self.nodes / factorial(self.colours) / _COLOURINGS
        return max(1, ceil(log(too_many) / log(self.colours / (self.colours - 1))))

    @cached_property
    def form(self) -> Form:
        """The edges, and a colour for each node."""
        title = f"graph colouring, {self.nodes} nodes, {self.edges} edges, {self.colours} colours"
        edges = tuple(f"{a}-{b}" for a, b in combinations(range(self.nodes), 2))
        return Form(title, (*edges, *_LETTERS[: self.colours]), asked=self.edges, said=self.nodes)

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: random graphs, those that cannot be coloured left out."""
        return rejection(n, lambda size: self._attempt(size, rng), "fewer edges, or more colours")

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: a hash of the graph, by colour refinement."""
        a, b = np.moveaxis(_pairs(self.nodes)[rows[:, : self.edges]], -1, 0)
        start = np.zeros((len(rows), self.nodes), np.uint64)
        return refine(start, np.concatenate([a, b], axis=1), np.concatenate([b, a], axis=1))

    def judge(self, tokens: list[int]) -> bool:
        """Does each node have a colour, and no edge the same one at both ends?"""
        pairs, colours = _pairs(self.nodes), tokens[self.edges :]
        if min(colours) < len(pairs) or max(tokens[: self.edges]) >= len(pairs):
            return False
        return all(colours[a] != colours[b] for a, b in pairs[tokens[: self.edges]].tolist())

    def encode(self, text: str) -> Tensor:
        """`[length]` token ids of `0-1 2-5 ...=ABCA.B`: edges, and the colours of node 0, 1, ..., `.` for a blank.

        Edges may be separated by commas, too, and written as 5-2; nothing after `=`, or no `=`, leaves all colours
        blank. ValueError for another form or number of edges or colours, a loop, or an edge that comes twice.
        """
        question, _, answer = text.partition("=")
        edges = [self._edge(word) for word in re.split(r"[,\s]+", question.strip())]
        self.check_count("edges", edges, self.edges)
        letters, choice = re.sub(r"[,\s]+", "", answer) or BLANK * self.nodes, _LETTERS[: self.colours]
        if len(letters) != self.nodes or not set(letters) <= {*choice, BLANK}:
            expected = f"{self.nodes} letters of {choice}, or {BLANK} for a blank, expected"
            raise ValueError(f"colours {quoted(letters)} given, {expected}")
        colours = [self.mask_id if letter == BLANK else self.words.index(letter) for letter in letters]
        return torch.tensor(edges + colours)

    def texts(self, path: Path) -> Iterator[Text]:
        lines = read_lines(path)
        return iter([self._graph(path)]) if is_dimacs(lines, "edge", "edges", "col") else texts(lines, self.line)

    def answered(self, row: Tensor) -> Tensor:
        """With the first proper colouring; ValueError where there is none."""
        _, classes = _colourings(self._neighbours(row[None, : self.edges].numpy()), self.colours)
        if len(classes) == 0:
            raise ValueError(f"no colouring with {self.colours} colours is proper")
        of_node = (classes[0][:, None] >> np.arange(self.nodes) & 1).argmax(0)
        return torch.cat([row[: self.edges], torch.from_numpy(comb(self.nodes, 2) + of_node)])

    def show(self, tokens: Tensor) -> str:
        words = self.check_tokens(tokens)
        return " ".join(words[: self.edges]) + "=" + "".join(words[self.edges :])

    def gap(self, position: int) -> str:
        """A line for the edges, and one for the colours."""
        return "\n" if position + 1 == self.edges else super().gap(position)

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]` int64: log2 of the number of colourings up to the colours' names, rounded down: 0 for only one."""
        owner, _ = _colourings(self._neighbours(rows[:, : self.edges].numpy()), self.colours)
        return torch.from_numpy(np.log2(np.bincount(owner, minlength=len(rows))).astype(np.int64))

    def disguise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Nodes and colours renamed, edges reordered, at random in each row of `[n, length]`."""
        n, pairs = len(rows), torch.from_numpy(_pairs(self.nodes))
        names, paint = permutations(n, self.nodes, generator), permutations(n, self.colours, generator)
        ends = names.gather(1, pairs[rows[:, : self.edges]].flatten(1)).unflatten(1, (self.edges, 2))
        edges = self._tokens(ends.amin(2), ends.amax(2)).gather(1, permutations(n, self.edges, generator))
        colours = len(pairs) + paint.gather(1, rows[:, self.edges :] - len(pairs))
        return torch.cat([edges, colours.gather(1, names.argsort(1))], 1)

    def _attempt(self, size: int, rng: np.random.Generator) -> Rows:
        """The colourable ones among so many random graphs, each with a random colouring."""
        pairs = len(_pairs(self.nodes))
        edges = subsets(size, pairs, self.edges, rng)
        owner, classes = _colourings(self._neighbours(edges), self.colours)
        found, first, counts = np.unique(owner, return_index=True, return_counts=True)
        classes = rng.permuted(classes[rng.integers(first, first + counts)], axis=1)  # any colour for any class
        colours = (classes[:, :, None] >> np.arange(self.nodes) & 1).argmax(1)
        return np.concatenate([edges[found], pairs + colours], axis=1).astype(np.int16)

    def _neighbours(self, edges: NDArray[np.integer]) -> NDArray[np.int16]:
        """`[n, nodes]`: the neighbours of each node, a bit each, in graphs of edges `[n, edges]`."""
        a, b = np.moveaxis(_pairs(self.nodes)[edges], -1, 0)
        bits = np.zeros((len(edges), self.nodes), np.int16)
        for i in range(self.edges):
            for at, other in ((a[:, i], b[:, i]), (b[:, i], a[:, i])):
                bits[np.arange(len(edges)), at] |= (1 << other).astype(np.int16)
        return bits

    def _tokens(self, a: Tensor, b: Tensor) -> Tensor:
        """Tokens of the edges between nodes a < b: the pairs before those of a, and the place among those."""
        return a * (2 * self.nodes - a - 1) // 2 + b - a - 1

    def _graph(self, path: Path) -> Text:
        """The one of a DIMACS file."""
        with located(path):
            nodes, edges = read_col(read_lines(path))
            if nodes != self.nodes:
                instead = f"write Colouring(nodes={nodes}, edges={len(edges)})"
                raise ValueError(f"the graph: {nodes} nodes given, {self.nodes} expected; {instead}")
        return "the graph", lambda: " ".join(f"{a - 1}-{b - 1}" for a, b in edges)

    def _edge(self, word: str) -> int:
        try:
            a, b = sorted(whole_number(end, 0, self.nodes - 1) for end in word.split("-"))
            return self.words.index(f"{a}-{b}")
        except ValueError:
            expected = f"two distinct nodes of 0 to {self.nodes - 1}, as 2-5, expected"
            raise ValueError(f"edge {quoted(word)} given, {expected}") from None


@lru_cache
def _pairs(nodes: int) -> NDArray[np.int64]:
    """`[pairs, 2]`: the nodes of each edge there may be, in the order of their tokens."""
    return np.array(list(combinations(range(nodes), 2)))


def _colourings(neighbours: NDArray[np.int16], colours: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Every colouring of each graph up to the colours' names: `[m]` which graph, ascending, and `[m, colours]` classes.

    A class is the nodes of one colour, a bit each. Node after node takes each colour that none of its neighbours has;
    of the colours that no node has yet it takes the first alone, so that no colouring comes twice.
    """
    owner = np.arange(len(neighbours))
    classes = np.zeros((len(neighbours), colours), np.int16)
    for node in range(neighbours.shape[1]):
        free = (classes & neighbours[owner, node][:, None]) == 0
        free[:, 1:] &= classes[:, :-1] != 0
        row, colour = free.nonzero()
        owner, classes = owner[row], classes[row]
        classes[np.arange(len(row)), colour] |= np.int16(1 << node)
    return owner, classes
