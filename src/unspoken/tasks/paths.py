"""Path planning: the shortest way from a start to a goal in a directed graph.

Path-star (`pathstar.py`) is the worst case, and all its graphs are one up to names. Here the graphs are random, the
shortest path is the only one of its length, and its length varies: a step has to be chosen by a search from the goal.

task = Paths()  # twelve nodes, up to six steps
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.tasks.base import check_range
from unspoken.tasks.graphs import Graphs
from unspoken.tasks.hashing import Hashes, scatter
from unspoken.tasks.refine import permutations, refine, rejection, subsets
from unspoken.tasks.sampled import PAD, Form
from unspoken.tasks.store import Rows


@dataclass(frozen=True)
class Paths(Graphs):
    """Directed graphs of so many nodes and edges, a start, a goal, and the one shortest path between them.

    Node a is token a, then comes the pad, then the edges, one token each: all pairs a != b in order. A sequence is the
    edges in random order, the start, the goal, and the answer: the nodes after the start, the goal among them, then
    pads up to `longest`. The pads are predicted as well, so that nothing gives the length away. All lengths from 2 to
    `longest` are drawn equally often. `judge` takes any path that is as short as can be.

    Attributes:
        nodes: 3 to 64.
        edges: From `longest` on; the more there are, the rarer are long ways.
        longest: Steps of the longest path, 2 to nodes - 1.
    """

    nodes: int = 12
    edges: int = 24
    longest: int = 6

    name: ClassVar[str] = "paths"
    symmetries: ClassVar[str] = "names of nodes, order of edges"
    difficulty_is: ClassVar[str] = "steps of the path"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "nodes", 3, 64)
        check_range(self, "longest", 2, self.nodes - 1, " steps, for it is a path")
        check_range(self, "edges", self.longest, self.nodes * (self.nodes - 1))

    @cached_property
    def form(self) -> Form:
        """The edges, the start and the goal, and the nodes after the start."""
        title = f"shortest paths, {self.nodes} nodes, {self.edges} edges, 2 to {self.longest} steps"
        names = (*map(str, range(self.nodes)), PAD, *(f"{a}>{b}" for a, b in _pairs(self.nodes).tolist()))
        return Form(title, names, asked=self.edges + 2, said=self.longest)

    @property
    def named(self) -> int:
        return self.nodes

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: random graphs, each with a random pair of nodes that are as far apart as was drawn for it."""
        counts = rng.multinomial(n, np.full(self.longest - 1, 1 / (self.longest - 1)))
        advice = f"fewer edges, or a longest below {self.longest}"
        parts = [
            rejection(count, lambda size, s=steps: self._attempt(size, s, rng), advice)
            for steps, count in enumerate(counts.tolist(), start=2)
        ]
        return rng.permutation(np.concatenate(parts))

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: a hash of the graph with start and goal marked, by colour refinement."""
        sources, targets = np.moveaxis(_pairs(self.nodes)[rows[:, : self.edges] - self.nodes - 1], -1, 0)
        ends = rows[:, self.edges : self.edges + 2].astype(np.int64)
        colours = scatter((np.arange(self.nodes) == ends[:, :1]) + 2 * (np.arange(self.nodes) == ends[:, 1:]))
        return refine(colours, sources, targets)

    def judge(self, tokens: list[int]) -> bool:
        """Do the answer's nodes walk along edges from start to goal, in as few steps as can be, with pads after it?"""
        graph, (start, goal) = tokens[: self.edges], tokens[self.edges : self.edges + 2]
        nodes = tokens[self.edges + 2 :]
        pads = nodes.index(self.nodes) if self.nodes in nodes else self.longest
        path = [start, *nodes[:pads]]
        if path[-1] != goal or max(path) >= self.nodes or min(graph) <= self.nodes or set(nodes[pads:]) - {self.nodes}:
            return False
        edges = {tuple(_pairs(self.nodes)[token - self.nodes - 1].tolist()) for token in graph}
        return set(pairwise(path)) <= edges and len(path) - 1 == _steps(edges, start, goal)

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]` int64: steps of the path."""
        return (rows[:, self.edges + 2 :] != self.nodes).sum(1)

    def disguise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Nodes renamed, edges reordered, at random in each row of `[n, length]`."""
        n, pairs = len(rows), torch.from_numpy(_pairs(self.nodes))
        names = permutations(n, self.nodes, generator)
        ends = names.gather(1, pairs[rows[:, : self.edges] - self.nodes - 1].flatten(1)).unflatten(1, (self.edges, 2))
        edges = self.edge_tokens(ends[..., 0], ends[..., 1]).gather(1, permutations(n, self.edges, generator))
        kept = torch.cat([names, torch.full((n, 1), self.nodes)], 1)  # a pad stays a pad
        return torch.cat([edges, kept.gather(1, rows[:, self.edges :])], 1)

    def _attempt(self, size: int, steps: int, rng: np.random.Generator) -> Rows:
        """Among so many random graphs those with a pair of nodes so many steps apart, a random one, and its path.

        As many walks of the length of the distance lead from one node to another as there are shortest paths.
        """
        pairs, n = _pairs(self.nodes), self.nodes
        edges = subsets(size, len(pairs), self.edges, rng)
        step = np.zeros((size, n, n), np.float32)
        step[np.arange(size)[:, None], pairs[edges, 0], pairs[edges, 1]] = 1
        walks, apart = step, np.where(np.eye(n, dtype=bool), 0, np.where(step > 0, 1, n))
        for taken in range(2, steps + 1):
            walks = walks @ step
            apart = np.where((walks > 0) & (apart == n), taken, apart)
        fit = ((apart == steps) & (walks == 1)).reshape(size, n * n)
        found = fit.any(1).nonzero()[0]
        start, goal = np.divmod(((1 - rng.random((len(found), n * n))) * fit[found]).argmax(1), n)
        path = [start]
        for left in range(steps - 1, -1, -1):
            onward = (step[found, path[-1]] > 0) & (apart[found, :, goal] == left)
            path.append(onward.argmax(1))
        pads = np.full((len(found), self.longest - steps), n)
        return np.column_stack([1 + n + edges[found], start, goal, *path[1:], pads]).astype(np.int16)

    def edge_tokens(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Tokens of edges, in the order of `_pairs`."""
        return self.nodes + 1 + sources * (self.nodes - 1) + targets - (targets > sources).long()

    def check_graph(self, edges: list[tuple[int, int]], start: int, goal: int) -> None:
        for i, (a, b) in enumerate(edges):
            if a == b or (a, b) in edges[:i]:
                raise ValueError(f"edge {a},{b} given, edges between distinct nodes, each once, expected")
        self.check_count("edges", edges, self.edges)
        if not 1 <= (steps := _steps(set(edges), start, goal)) <= self.longest:
            away = "out of reach" if steps < 0 else f"{steps} steps away"
            raise ValueError(f"goal {goal} given, {away} from {start}; 1 to {self.longest} steps expected")


@lru_cache
def _pairs(nodes: int) -> NDArray[np.int64]:
    """`[pairs, 2]`: the source and target of each edge there may be, in the order of their tokens."""
    return np.array([(a, b) for a in range(nodes) for b in range(nodes) if a != b])


def _steps(edges: set[tuple[int, int]], start: int, goal: int) -> int:
    """Steps of the shortest path, -1 where there is none."""
    seen, steps = {start}, 0
    while goal not in seen:
        more = {b for a, b in edges if a in seen} | seen
        if len(more) == len(seen):
            return -1
        seen, steps = more, steps + 1
    return steps
