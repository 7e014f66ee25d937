"""One number for a curve of accuracy against cost: the best accuracy that a budget buys, on average over budgets.

The curve is that of Accuracy Under Parallelism (AUP, d3LLM, arXiv 2601.07568), and the number is not: theirs adds up
accuracies times tokens a pass without bound, with a weight for lost accuracy. Here it lies in [0, 1], and a curve that
is nowhere worse has no smaller area.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from unspoken.measure.accuracy import Outcome

ROUNDING = 1e-9  # of a cost that was averaged, beside the end of a range that was not


def frontier(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """The points that are better than all that cost no more: their indices, costs and values rising."""
    best: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):
        if not best or values[i] > values[best[-1]]:
            best.append(i)
    return best


def shares(costs: Sequence[float], values: Sequence[float], low: float, high: float) -> Tensor:
    """`[points]` float64: on which share of the budgets each point is the best that may be had.

    A budget buys every point that costs no more. Budgets are uniform in their logarithm between low and high, both
    above 0; where low is high there is one. What is left to 1 are budgets that buy nothing.
    Raises ValueError for a range that is none.
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(f"low={low}, high={high}: give finite budgets above 0, the lower one first")
    best = [i for i in frontier(costs, values) if costs[i] <= high * (1 + ROUNDING)]
    found = torch.zeros(len(costs), dtype=torch.float64)
    if low == high:
        found[best[-1:]] = 1.0
        return found
    starts = [min(max(costs[i], low), high) for i in best]
    for i, start, end in zip(best, starts, [*starts, high][1:], strict=True):
        found[i] = math.log(end / start) / math.log(high / low)
    return found


def area(costs: Sequence[float], right: Sequence[Tensor], low: float, high: float) -> Tensor:
    """`[seeds, examples]`, whose mean is the area: the best accuracy that a budget buys, on average (see `shares`).

    right: `[seeds, examples]` of every point, 1 where the answer is right. Which point is the best is decided by its
    mean over all of them, so that the area is a mean over seeds and examples, with an interval as any other.
    """
    weights = shares(costs, [float(its.mean()) for its in right], low, high)
    return torch.einsum("p,pse->se", weights, torch.stack(list(right)).double())


def areas(outcomes: Mapping[str, Sequence[Outcome]], free: float) -> dict[str, dict[str, Tensor]]:
    """The areas under each model's curves, `[seeds, examples]` each: `area`, over ranges that the models share.

    Against tokens a pass the cost is passes a token, from all tokens in one pass to one a pass: a range of the task
    alone. Against FLOPs and seconds it runs from the cheapest setting of any model to the dearest.

    outcomes: of every model, its settings. free: tokens to say, on average.
    """
    every = [its for found in outcomes.values() for its in found]
    measures: dict[str, tuple[Callable[[Outcome], float], float, float]] = {
        "area_by_tokens": (lambda its: its.passes / free, 1 / free, 1.0),
        "area_by_flops": (lambda its: its.flops, min(o.flops for o in every), max(o.flops for o in every)),
        "area_by_seconds": (lambda its: its.seconds, min(o.seconds for o in every), max(o.seconds for o in every)),
    }
    return {
        model: {
            key: area([cost(its) for its in found], [its.right for its in found], low, high)
            for key, (cost, low, high) in measures.items()
        }
        for model, found in outcomes.items()
    }
