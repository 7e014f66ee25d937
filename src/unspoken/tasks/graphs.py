"""Tasks that ask for a path from a start to a goal in a directed graph: how such a question is written and read."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.files import whole_number
from unspoken.tasks.generated import Generated
from unspoken.tasks.sampled import BLANK, PAD


@dataclass(frozen=True)
class Graphs(Generated):
    """A sequence is the edges, one token each, the start, the goal, and the answer: the nodes after the start.

    As text, in the form of Bachmann & Nagarajan's files: `a,b|c,d|.../start,goal=start,...,goal`.
    """

    @property
    @abstractmethod
    def named(self) -> int:
        """Names that nodes can have: node a is token a."""

    @abstractmethod
    def edge_tokens(self, sources: Tensor, targets: Tensor) -> Tensor:
        """The tokens of edges from `sources` to `targets`."""

    @abstractmethod
    def check_graph(self, edges: list[tuple[int, int]], start: int, goal: int) -> None:
        """ValueError for what is no question of the task."""

    def encode(self, text: str) -> Tensor:
        """`[length]` token ids of `a,b|c,d|.../start,goal=start,...,goal`, edges from a to b and from c to d.

        `.` is a blank, and nothing after `=`, or no `=`, leaves all of the path blank. Where the length of a path is
        not known, `_` for each pad may follow the goal or be left out. ValueError for another form, a name out of
        range, what is no question of the task, or a path of another length or from elsewhere. `score` judges paths.
        """
        edges, start, goal, path = self.parse(text)
        self.check_graph(edges, start, goal)
        pad, said = self.named if PAD in self.words else None, self.form.said
        words = path.split(",") if path else [str(start), *BLANK * said]
        least = said + 1 if pad is None else 2
        if not least <= len(words) <= said + 1 or self.node(words[0]) != start:
            count = f"{said + 1}" if pad is None else f"{least} to {said + 1}"
            raise ValueError(f"path {quoted(path)} given, {count} nodes ({BLANK} for a blank) from {start} on expected")
        special = {BLANK: self.mask_id} | ({} if pad is None else {PAD: pad})
        answer = [special[w.strip()] if w.strip() in special else self.node(w) for w in words[1:]]
        sources, targets = torch.tensor(edges).T
        pads = [self.named] * (said - len(answer))
        return torch.cat([self.edge_tokens(sources, targets), torch.tensor([start, goal, *answer, *pads])])

    def show(self, tokens: Tensor) -> str:
        """A sequence `[length]` on one line, in the form that `encode` reads, `.` for the mask."""
        words, edges = self.check_tokens(tokens), self.asked - 2
        graph = "|".join(word.replace(">", ",") for word in words[:edges])
        start, goal, *answer = words[edges:]
        return f"{graph}/{start},{goal}={','.join([start, *answer])}"

    def gap(self, position: int) -> str:
        """A line for the edges, one for start and goal, one for the answer."""
        return "\n" if position + 1 in (self.asked - 2, self.asked) else super().gap(position)

    def parse(self, text: str) -> tuple[list[tuple[int, int]], int, int, str]:
        """The edges, the start, the goal and what stands behind `=`; ValueError for another form."""
        graph, slash, rest = text.strip().partition("/")
        question, _, path = rest.partition("=")
        pairs = [pair.split(",") for pair in [question, *graph.split("|")]]
        if not slash or any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"{quoted(text)} given, a graph as a,b|c,d|.../start,goal= expected")
        (start, goal), *edges = [(self.node(a), self.node(b)) for a, b in pairs]
        return edges, start, goal, path.strip()

    def node(self, word: str) -> int:
        """The node of a name; ValueError where it is none."""
        try:
            return whole_number(word.strip(), 0, self.named - 1)
        except ValueError as error:
            raise ValueError(f"node {error}") from None
