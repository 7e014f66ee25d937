"""What decoding a set of prompts costs, counted by hand: passes an example, entries and latents a pass, FLOPs."""

import pytest
import torch
from toy import tiny

import unspoken as us
from unspoken.measure.accuracy import Outcome, Solved, solve_ways, solved
from unspoken.measure.costs import pass_flops
from unspoken.tasks import Chain


def test_costs_are_those_of_the_passes() -> None:
    """Batches of 3, 3 and 1: one token a pass, beside 2 latents while there are so many, from a prompt of nothing."""
    task = Chain(states=4, length=5)
    model = tiny(us.SCDM, vocab=task.mask_id)
    examples = task.sample("test", 7)
    found = solved(model, task, examples, us.Slots(latents=2, candidates=1), 3)
    latents = [2, 2, 2, 1, 0]
    entries = [said + 1 + beside for said, beside in enumerate(latents)]
    assert found.passes == 5 and found.latents == sum(latents) / 5 and found.entries == sum(entries) / 5
    assert found.flops == sum(pass_flops(model, n, 1) for n in entries) and found.right.shape == (7,)
    assert torch.equal(found.right, task.score(examples.prompt(task.mask_id), found.tokens))


def test_an_outcome_weighs_its_parts_by_their_examples() -> None:
    """Two seeds of 3 and 1 examples: the means over all four."""

    def part(n: int, cost: float) -> Solved:
        return Solved(torch.ones(n, dtype=torch.bool), torch.zeros(n, 2), *[cost] * 5)

    outcome = Outcome.of([[part(3, 1.0), part(3, 3.0)], [part(1, 8.0), part(1, 8.0)]])
    assert outcome.right.shape == (2, 4)
    assert [outcome.passes, outcome.flops, outcome.seconds] == pytest.approx([3.5, 3.5, 3.5])


def test_what_is_cached_costs_its_attention_alone() -> None:
    """Beside 10 cached entries 4 cost 4 x 10 more dot products and sums: 4 FLOPs a layer and unit of width each."""
    model = tiny(us.CACHED_JOINT, layers=2)
    assert pass_flops(model, 4, 1, cached=10) - pass_flops(model, 4, 1) == 4 * 2 * 16 * 4 * 10


def test_batches_draw_anew_and_ways_alike() -> None:
    """Where nothing is given every prompt is the same; batches that drew alike would count one answer many times."""
    drawn: list[torch.Tensor] = []

    class Watched(Chain):
        def score(self, prompt: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
            drawn.append(answer)
            return super().score(prompt, answer)

    task = Watched(states=4, length=5)
    model = tiny(us.MDM, vocab=task.mask_id)
    ways = {name: ([model], us.Slots(candidates=5, commit=5, order="uniform", temperature=1.0)) for name in ("a", "b")}
    for _ in solve_ways(ways, task, task.sample("test", 8), 4, lambda way, entries: way):
        pass
    first, again, second, _ = drawn
    assert first.equal(again) and not first.equal(second)
