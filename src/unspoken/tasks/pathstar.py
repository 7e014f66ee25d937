"""The path-star task: the way from the start, in the middle of a star of paths, to the goal, the end of one arm.

Bachmann & Nagarajan 2024, "The pitfalls of next-token prediction" (arXiv 2403.06963). The first step takes a look at
a whole arm, each later one at a single edge: next-token prediction learns the later steps, and stays at 1/degree.

task = PathStar()  # two arms of four nodes each
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial, perm
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspoken.tasks.base import Examples, Split
from unspoken.tasks.hashing import scatter
from unspoken.tasks.splits import SPLITS

_CHUNK = 16_384  # graphs drawn at a time for the stored examples; with `seed` it fixes them
_PATIENCE = 40  # draws for each graph there is, until all are seen: the odds to miss a given one are e**-40


@dataclass(frozen=True)
class PathStar:
    """Stars of `degree` arms, and the path from the start in the middle to the goal, the end of one arm.

    Node a is token a; the edge a -> b is one token, names + a * names + b; the mask is the last, names + names**2.
    A sequence is the edges in random order, the start, the goal, and the answer: the nodes after the start, in the
    order one walks them (the forward direction, the hard one). All but the answer is given.

    All graphs of one shape are the same up to renaming, so no split is disjoint from another up to symmetry, as the
    splits of Sudoku are. They are disjoint as graphs with their names: a hash of the edges in any order and of the
    goal sends 1/16 of all graphs to validation, 1/16 to test and the rest to train, whatever the seed and sizes.

    Attributes:
        degree: Arms of the star, at least 2.
        nodes: Nodes of a path, its start and goal included, at least 2; an arm has nodes - 1 of them.
        names: Names that nodes can have, at least 1 + degree * (nodes - 1).
        validation: Distinct graphs in the split, at most 1/20 of all there are.
        test: Distinct graphs in the split, at most 1/20 of all there are.
        seed: Which graphs are stored for validation and test, and for `sample("train", n)`.
    """

    degree: int = 2
    nodes: int = 5
    names: int = 12
    validation: int = 1_000
    test: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        if min(self.degree, self.nodes) < 2:
            raise ValueError(f"degree={self.degree}, nodes={self.nodes} given, at least 2 of each expected")
        if self.names <= self.edges:
            raise ValueError(f"names={self.names} given, at least {1 + self.edges} expected, one for each node")
        if not 0 <= min(self.validation, self.test) <= max(self.validation, self.test) <= self.graphs // 20:
            expected = f"0 to {self.graphs // 20} each expected, as 1/16 of all {self.graphs} graphs fall in each"
            raise ValueError(f"validation, test = {self.validation}, {self.test} given, {expected}; write more names")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} given, 0 <= seed < 2**63 expected")

    @property
    def edges(self) -> int:
        """Edges of a graph."""
        return self.degree * (self.nodes - 1)

    @property
    def graphs(self) -> int:
        """Distinct graphs with a goal: names for all nodes, in any order of the arms that the goal is not in."""
        return perm(self.names, 1 + self.edges) // factorial(self.degree - 1)

    @property
    def length(self) -> int:
        """The edges, start and goal, and the nodes after the start."""
        return self.edges + 2 + self.nodes - 1

    @property
    def vocab_size(self) -> int:
        """The nodes, the edges and the mask."""
        return self.mask_id + 1

    @property
    def mask_id(self) -> int:
        """The node not said yet."""
        return self.names + self.names**2

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"path-star, degree {self.degree}, {self.nodes} nodes, {self.names} names"

    def size(self, split: Split) -> int:
        """Graphs in a split; of train, 14/16 of all there are, which is right up to the luck of the hash."""
        if split not in SPLITS:
            raise ValueError(f"split={split!r} given, one of {', '.join(SPLITS)} expected")
        return {"train": self.graphs * 14 // 16, "validation": self.validation, "test": self.test}[split]

    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """With a generator: n random examples, of train fresh ones. Without: the first n, distinct, fixed by `seed`.

        What comes out depends on the generator's state alone. ValueError for more than there are.
        """
        size = self.size(split)
        if n < 0 or (n > size and (generator is None or split != "train")):
            raise ValueError(f"{n} examples of {split} asked for, which holds {size}; write 0 <= n <= {size}")
        if generator is None:
            return self._examples(_stored(self, split, n if split == "train" else size)[:n].clone())
        if split == "train":
            return self._examples(self._fresh(n, generator).cpu())
        index = torch.randperm(size, generator=generator, device=generator.device)[:n].cpu()
        return self._examples(_stored(self, split, size)[index])

    def split_index(self, x0: Tensor) -> Tensor:
        """`[n]` int64: which split each of `x0` `[n, length]` belongs to: 0 train, 1 validation, 2 test."""
        sixteenth = (self._hash(x0) >> 60) & 15
        return torch.where(sixteenth < len(SPLITS), sixteenth, 0)

    def read(self, path: str | Path) -> Examples:
        """The graphs of a .txt file, a line each with its path (see `encode`); ValueError names the file and line."""
        path = Path(path)
        if path.suffix.lower() != ".txt" or not path.is_file():
            raise ValueError(f"{path}: no such .txt file; a path to a text file with one graph a line expected")
        rows = []
        for i, line in enumerate(path.read_text("utf-8-sig", errors="replace").splitlines(), start=1):
            try:
                rows += [self._solved(line)] if line.strip() else []
            except ValueError as error:
                raise ValueError(f"{path}, line {i}: {error}") from None
        if not rows:
            raise ValueError(f"{path}: the file holds no graph; one a line with its path expected")
        return self._examples(torch.stack(rows))

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: the answer walks from start to goal along edges of the prompt, and what is given is kept.

        prompt, answer: token ids `[n, length]`, on any device; a mask or an edge in the answer makes it wrong.
        """
        kept = ((prompt == self.mask_id) | (prompt == answer)).all(1)
        start, goal = prompt[:, [self.edges]], prompt[:, self.edges + 1]
        path = torch.cat([start, answer[:, self.edges + 2 :]], dim=1)
        steps = self._edge(path[:, :-1], path[:, 1:])
        along = (steps[:, :, None] == prompt[:, None, : self.edges]).any(2).all(1)
        return kept & (path < self.names).all(1) & along & (path[:, -1] == goal)

    def encode(self, text: str) -> Tensor:
        """`[length]` token ids of a graph as in the authors' files: `a,b|c,d|.../start,goal=start,...,goal`.

        Nothing after `=`, or `.` for a node, is not said yet. ValueError for another form, a name out of range, edges
        that are no star of this shape, a goal inside an arm, a path of another length or start. `score` judges paths.
        """
        graph, slash, rest = text.strip().partition("/")
        question, _, path = rest.partition("=")
        ends, pairs = question.split(","), [edge.split(",") for edge in graph.split("|")]
        if not slash or any(len(pair) != 2 for pair in [ends, *pairs]):
            raise ValueError(f"{text!r} given, a graph as a,b|c,d|.../start,goal= expected")
        (start, goal), *edges = [(self._name(a), self._name(b)) for a, b in [ends, *pairs]]
        self._check_star(edges, start, goal)
        words = (path.strip() or ends[0] + ",." * (self.nodes - 1)).split(",")
        if len(words) != self.nodes or self._name(words[0]) != start:
            raise ValueError(f"path {path!r} given, {self.nodes} nodes (. for a blank) from {start} on expected")
        answer = [self.mask_id if word.strip() == "." else self._name(word) for word in words[1:]]
        sources, targets = torch.tensor(edges).T
        return torch.cat([self._edge(sources, targets), torch.tensor([start, goal, *answer])])

    def show(self, tokens: Tensor) -> str:
        """A sequence `[length]` on one line, in the form that `encode` reads, `.` for the mask."""
        if tokens.shape != (self.length,) or tokens.min() < 0 or tokens.max() > self.mask_id:
            expected = f"one sequence [{self.length}] of ids 0..{self.mask_id}"
            raise ValueError(f"tokens of shape {tuple(tokens.shape)} given, {expected} expected; write tokens[i]")
        words = [self.symbol(token) for token in tokens.tolist()]
        graph = "|".join(word.replace(">", ",") for word in words[: self.edges])
        start, goal, *answer = words[self.edges :]
        return f"{graph}/{start},{goal}={','.join([start, *answer])}"

    def symbol(self, token: int) -> str:
        """A node as its number, an edge as `a>b`, the mask as `.`."""
        if self.names <= token < self.mask_id:
            return ">".join(map(str, divmod(token - self.names, self.names)))
        return "." if token == self.mask_id else str(token)

    def gap(self, position: int) -> str:
        """A line for the edges, one for start and goal, one for the answer."""
        return {self.edges: "\n", self.edges + 2: "\n", self.length: ""}.get(position + 1, " ")

    def describe(self) -> dict[str, Any]:
        """What the data are: shape, vocabulary, the share right of who guesses the arm, sizes by split."""
        return {
            "graph": f"{self.degree} arms of {self.nodes - 1} nodes, {self.names} names",
            "length": self.length,
            "vocab_size": self.vocab_size,
            "vocabulary": f"nodes 0..{self.names - 1}, edges a>b",
            "source": f"generated, seed {self.seed}",
            "symmetries": "the order of the edges; all graphs are one up to names",
            "licence": "generated here: no rights reserved",
            "chance": 1 / self.degree,
            "splits": {split: {"graphs": self.size(split), "duplicates": 0} for split in SPLITS},
        }

    def _draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length]` int64 on the generator's device: n random sequences of any split, with replacement."""
        name = _permutations(n, self.names, generator)[:, : 1 + self.edges]
        arms = name[:, 1:].unflatten(1, (self.degree, self.nodes - 1))
        paths = torch.cat([name[:, None, :1].expand(-1, self.degree, -1), arms], dim=2)  # [n, degree, nodes]
        edges = self._edge(paths[..., :-1], paths[..., 1:]).flatten(1)
        edges = edges.gather(1, _permutations(n, self.edges, generator))
        return torch.cat([edges, paths[:, 0, :1], paths[:, 0, -1:], paths[:, 0, 1:]], dim=1)

    def _fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length]`: random graphs of train, by rejection."""
        kept = torch.empty(0, self.length, dtype=torch.int64, device=generator.device)
        while len(kept) < n:
            x0 = self._draw(n + n // 4 + 8, generator)
            kept = torch.cat([kept, x0[self.split_index(x0) == 0]])
        return kept[:n]

    def _examples(self, x0: Tensor) -> Examples:
        return Examples(x0, (torch.arange(self.length) < self.edges + 2).repeat(len(x0), 1))

    def _edge(self, source: Tensor, target: Tensor) -> Tensor:
        return self.names + source * self.names + target

    def _hash(self, x0: Tensor) -> Tensor:
        """`[n]` int64 of the edges in any order and the goal; the start is the node no edge leads to."""
        return _mix(_mix(x0[:, : self.edges]).sum(1) + x0[:, self.edges + 1])

    def _solved(self, line: str) -> Tensor:
        tokens = self.encode(line)
        if not self.score(tokens[None], tokens[None]):
            raise ValueError(f"path {line.partition('=')[2]!r} given, one along edges from start to goal expected")
        return tokens

    def _name(self, word: str) -> int:
        if not word.strip().isdecimal() or int(word) >= self.names:
            raise ValueError(f"name {word.strip()!r} given, a whole number 0..{self.names - 1} expected")
        return int(word)

    def _check_star(self, edges: list[tuple[int, int]], start: int, goal: int) -> None:
        if len(edges) != self.edges:
            raise ValueError(f"{len(edges)} edges given, {self.edges} expected for {self.title}")
        after, arms = dict(edges), [[b] for a, b in edges if a == start]
        for arm in arms:
            while arm[-1] in after and len(arm) < self.nodes:
                arm.append(after[arm[-1]])
        # Such arms take as many edges as there are, so none is left over.
        if [len(arm) for arm in arms] != [self.nodes - 1] * self.degree or len({start}.union(*arms)) != 1 + self.edges:
            expected = f"{self.degree} of {self.nodes - 1} nodes each without a common node"
            raise ValueError(f"arms {arms} from start {start} given, {expected} expected")
        if goal not in (ends := [arm[-1] for arm in arms]):
            raise ValueError(f"goal {goal} given, the end of an arm expected, one of {ends}")


@lru_cache(maxsize=8)
def _stored(task: PathStar, split: Split, n: int) -> Tensor:
    """`[n, length]`: the first n distinct graphs of the split in the stream that the task's seed starts."""
    generator, kept = torch.Generator().manual_seed(task.seed), torch.empty(0, task.length, dtype=torch.int64)
    for _ in range(1 + _PATIENCE * task.graphs // _CHUNK):
        x0 = task._draw(_CHUNK, generator)
        kept = torch.cat([kept, x0[task.split_index(x0) == SPLITS.index(split)]])
        kept = kept[np.sort(np.unique(task._hash(kept), return_index=True)[1])]
        if len(kept) >= n:
            return kept[:n]
    raise ValueError(f"{n} graphs of {split} wanted, which has {len(kept)} of {task.title}; write more names")


def _permutations(n: int, size: int, generator: torch.Generator) -> Tensor:
    """`[n, size]` int64: a random order of 0..size-1 in each row."""
    return torch.rand(n, size, generator=generator, device=generator.device, dtype=torch.float64).argsort(1)


def _mix(x: Tensor) -> Tensor:
    """A hash of each entry of int64 `x`."""
    return torch.from_numpy(scatter(x.cpu().numpy()).view(np.int64))
