"""What a stranger writes, with `unspoken` and torch alone: a commit rule, a latent policy, an order, a decoder."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import tiny

import unspoken as us

MASK = 6
TOKENS = torch.tensor([[0, MASK, MASK, 2, MASK, MASK, MASK], [1, 4, MASK, MASK, MASK, 5, MASK]])


def cached(attention: us.Attention = us.CACHED_JOINT) -> us.Denoiser:
    return tiny(attention, seed=1, positions=7)


# --- a commit rule: one function


def every_other(logp: Tensor, real: Tensor) -> Tensor:
    """The first of the best, the third, ...: no prefix of them."""
    return (torch.arange(real.shape[1]) % 2 == 0).expand(real.shape)


def test_a_commit_rule_is_a_function() -> None:
    """It is asked of the best candidates, the best first; what it says is said, and the rest stay masks."""
    asked = []

    def quite_sure(logp: Tensor, real: Tensor) -> Tensor:
        asked.append((logp, real))
        return logp.amax(-1) > LEAST

    steps = list(us.decode(cached(), TOKENS, commit=us.Commit(most=4, rule=quite_sure)))
    assert len(asked) == len(steps) and (steps[-1].tokens != MASK).all()
    sizes = set()
    for step, (logp, real) in zip(steps, asked, strict=True):
        assert logp.shape[:2] == real.shape and real.dtype == torch.bool
        best = logp.amax(-1)
        assert (best.diff(dim=1) <= 0)[real[:, 1:]].all()
        expected = (real & (best > LEAST)).sum(1).clamp_min(1)
        assert torch.equal(step.committed.sum(1)[step.rows], expected)
        sizes |= set(expected.tolist())
    assert len(sizes) > 1


LEAST = -1.2  # the log-probability above which a token is sure enough


@pytest.mark.parametrize("attention", [us.CACHED_JOINT, us.ANY_ORDER], ids=lambda a: a.name)
def test_a_rule_that_leaves_gaps_is_exact_beside_a_cache(attention: us.Attention) -> None:
    """Tokens said together are dated one after the other, whichever of the best they were: cached = recomputed."""
    model, rule = cached(attention), us.Commit(3, rule=every_other)
    steps, anew = (list(us.decode(model, TOKENS, commit=rule, latents=1, cache=c)) for c in (True, False))
    assert [int(step.committed.sum(1).max()) for step in steps] == [2, 2, 1]
    for step, other in zip(steps, anew, strict=True):
        assert torch.equal(step.tokens, other.tokens)
        assert torch.allclose(step.confidence, other.confidence, rtol=0, atol=1e-9)


def test_the_best_is_said_whatever_the_rule_says_and_bounds_hold_beside_it() -> None:
    none, every = (us.Commit(3, rule=lambda logp, real, s=s: torch.full_like(real, s)) for s in (False, True))
    model = cached()
    for rule, commit in ((none, 1), (every, 3)):
        found, known = (list(us.decode(model, TOKENS, commit=c)) for c in (rule, commit))
        assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(found, known, strict=True))
    bound = us.Commit(3, threshold=1.0, rule=every.rule)
    assert len(list(us.decode(model, TOKENS, commit=bound))) == 5


@pytest.mark.parametrize("found", [torch.ones(2, 4), torch.ones(4, dtype=torch.bool), True], ids=str)
def test_a_rule_that_gives_something_else_is_told(found: Any) -> None:
    with pytest.raises(ValueError, match=r"the commit rule gave .*; let it return bool \(2, 4\), like `real`"):
        list(us.decode(cached(), TOKENS, commit=us.Commit(4, rule=lambda logp, real: found)))


# --- a latent policy and an order: one function each


def test_a_latent_policy_is_a_function() -> None:
    """The latents are the leftmost of the rest, and tokens are said from the right."""
    leftmost = us.LatentPolicy("leftmost", lambda around: torch.arange(7.0).expand(around.rest.shape))
    order = us.Order("right to left", lambda ahead: -torch.arange(7.0).expand(ahead.unsaid.shape))
    now = TOKENS
    for step in us.decode(cached(), TOKENS, order=order, latents=1, latent_policy=leftmost):
        for row in step.rows.tolist():
            unsaid = (now[row] == MASK).nonzero()[:, 0].tolist()
            assert step.committed[row].nonzero()[:, 0].tolist() == unsaid[-1:]
            assert step.latents[row].nonzero()[:, 0].tolist() == unsaid[:-1][:1]
        now = step.tokens
    assert (now != MASK).all()


def test_an_order_scores_what_the_network_said() -> None:
    """Here the least sure is said first."""
    doubt = us.Order("doubt", lambda ahead: torch.zeros(ahead.unsaid.shape), lambda logp: -logp.amax(-1))
    for step in us.decode(cached(), TOKENS, order=doubt):
        least = torch.where(step.candidates, step.confidence, 9.0).argmin(1)
        assert all(step.committed[row, least[row]] for row in step.rows.tolist())


# --- a decoder: one class


@dataclass(frozen=True)
class Oracle:
    """All at once, and every token is the wish."""

    wish: int = 0

    def steps(
        self,
        model: us.Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[us.Step]:
        unsaid = tokens == model.mask_id
        position = torch.arange(tokens.shape[1]).expand_as(tokens)
        read = (torch.full_like(tokens, self.wish), torch.ones(tokens.shape))
        said = torch.where(unsaid, self.wish, tokens)
        yield us.Step.of_all(0, said, position, unsaid, read, mask_id=model.mask_id, entries=tokens.shape[1])


class Nameless:
    """No dataclass: it has no options."""

    def steps(self, model: us.Model, tokens: Tensor, **_: Any) -> Iterator[us.Step]:
        return Oracle(5).steps(model, tokens)


def test_a_decoder_is_a_class() -> None:
    model = cached()
    ways: list[tuple[us.Decoder, dict[str, Any], int]] = [
        (Oracle(3), {}, 3),
        (Oracle(3), {"wish": 4}, 4),
        (Nameless(), {}, 5),
    ]
    for decoder, changes, wish in ways:
        (step,) = us.decode(model, TOKENS, decoder=decoder, **changes)
        assert torch.equal(step.tokens, torch.where(TOKENS == MASK, wish, TOKENS))
        assert torch.equal(step.committed, TOKENS == MASK) and torch.equal(step.candidates, TOKENS == MASK)
        assert (step.guess[TOKENS == MASK] == wish).all()
    with pytest.raises(ValueError, match="latents is an option of Slots and Speculation; this model decodes by Oracle"):
        us.decode(model, TOKENS, decoder=Oracle(), latents=2)
    with pytest.raises(ValueError, match="wish is no option of a decoder; Nameless takes none"):
        us.decode(model, TOKENS, decoder=Nameless(), wish=1)
