"""The path-star task: the way from the start, in the middle of a star of paths, to the goal, the end of one arm.

Bachmann & Nagarajan 2024, "The pitfalls of next-token prediction" (arXiv 2403.06963). The first step takes a look at
a whole arm, each later one at a single edge: next-token prediction learns the later steps, and stays at 1/degree.

task = PathStar()  # two arms of four nodes each
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import factorial, perm
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken import checks
from unspoken.tasks.graphs import Graphs
from unspoken.tasks.hashing import Hashes, scatter
from unspoken.tasks.refine import permutations
from unspoken.tasks.sampled import Form
from unspoken.tasks.splits import SHARES, assign
from unspoken.tasks.store import Rows


@dataclass(frozen=True)
class PathStar(Graphs):
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
        train: Distinct graphs in the split; 0 for new ones without end.
        validation: Distinct graphs in the split, at most 1/20 of all there are.
        test: Distinct graphs in the split, at most 1/20 of all there are.
    """

    degree: int = 2
    nodes: int = 5
    names: int = 12
    train: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "path-star"
    part: ClassVar[int] = 16_384
    patience: ClassVar[tuple[int, str]] = (500_000, "more names")
    distinct: ClassVar[bool] = True
    symmetries: ClassVar[str] = "the order of the edges; all graphs are one up to names"

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        if min(self.degree, self.nodes) < 2:
            raise ValueError(f"degree={self.degree}, nodes={self.nodes} given, at least 2 of each expected")
        if self.names <= self.edges:
            raise ValueError(f"names={self.names} given, at least {1 + self.edges} expected, one for each node")
        most = self.graphs // 20
        if not self.path and not 0 <= min(self.validation, self.test) <= max(self.validation, self.test) <= most:
            expected = f"0 to {most} each expected, as 1/16 of all {self.graphs} graphs fall in each"
            raise ValueError(f"validation, test = {self.validation}, {self.test} given, {expected}; write more names")
        super().__post_init__()

    @property
    def edges(self) -> int:
        """Edges of a graph."""
        return self.degree * (self.nodes - 1)

    @property
    def graphs(self) -> int:
        """Distinct graphs with a goal: names for all nodes, in any order of the arms that the goal is not in."""
        return perm(self.names, 1 + self.edges) // factorial(self.degree - 1)

    @cached_property
    def form(self) -> Form:
        """The edges, the start and the goal, and the nodes after the start."""
        title, names = f"path-star, degree {self.degree}, {self.nodes} nodes, {self.names} names", range(self.names)
        words = (*map(str, names), *(f"{a}>{b}" for a in names for b in names))
        return Form(title, words, asked=self.edges + 2, said=self.nodes - 1)

    @property
    def named(self) -> int:
        return self.names

    @property
    def endless(self) -> int:
        """Graphs of train: of all there are the share of the split, which is right up to the luck of the hash."""
        return self.graphs * SHARES[0] // sum(SHARES)

    def draw_part(self, index: int) -> Rows:
        """`[part, length]`: each part goes on in the stream that `seed` begins where the part before it ended."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(index):
            self._draw(self.part, generator)
        return self._draw(self.part, generator).numpy().astype(np.int16 if self.mask_id < 2**15 else np.int32)

    def fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length]`: random graphs of train, by rejection."""
        kept = torch.empty(0, self.length, dtype=torch.int64)
        while len(kept) < n:
            x0 = self._draw(n + n // 4 + 8, generator)
            kept = torch.cat([kept, x0[self.split_index(x0) == 0]])
        return kept[:n]

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]` of the edges in any order and the goal; the start is the node no edge leads to."""
        codes = scatter(
            scatter(rows[:, : self.edges]).sum(1, dtype=np.uint64) + rows[:, self.edges + 1].astype(np.uint64)
        )
        # The last two of the first three sixteenths are validation and test; of all other hashes the first two are.
        first_or_third = codes >> np.uint64(60) & np.uint64(13) == 0
        return np.where(first_or_third, codes ^ np.uint64(2 << 60), codes)

    def split_index(self, x0: Tensor) -> Tensor:
        """`[n]` int64: which split each of `x0` `[n, length]` belongs to: 0 train, 1 validation, 2 test."""
        return torch.from_numpy(assign(self.canonical(x0.cpu().numpy()))).to(x0.device)

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: whether the answer walks from start to goal along edges."""
        path = torch.cat([tokens[:, [self.edges]], tokens[:, self.edges + 2 :]], dim=1)
        steps = self.edge_tokens(path[:, :-1], path[:, 1:])
        along = (steps[:, :, None] == tokens[:, None, : self.edges]).any(2).all(1)
        return (path < self.names).all(1) & along & (path[:, -1] == tokens[:, self.edges + 1])

    @property
    def vocabulary(self) -> str:
        """The nodes and edges."""
        return f"nodes 0..{self.names - 1}, edges a>b"

    def describe(self) -> dict[str, Any]:
        """The card, and the share right of who guesses the arm."""
        return super().describe() | {"chance": 1 / self.degree}

    def edge_tokens(self, sources: Tensor, targets: Tensor) -> Tensor:
        return self.names + sources * self.names + targets

    def _draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length]` int64: n random sequences of any split, with replacement."""
        name = permutations(n, self.names, generator)[:, : 1 + self.edges]
        arms = name[:, 1:].unflatten(1, (self.degree, self.nodes - 1))
        paths = torch.cat([name[:, None, :1].expand(-1, self.degree, -1), arms], dim=2)  # [n, degree, nodes]
        edges = self.edge_tokens(paths[..., :-1], paths[..., 1:]).flatten(1)
        edges = edges.gather(1, permutations(n, self.edges, generator))
        return torch.cat([edges, paths[:, 0, :1], paths[:, 0, -1:], paths[:, 0, 1:]], dim=1)

    def check_graph(self, edges: list[tuple[int, int]], start: int, goal: int) -> None:
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
