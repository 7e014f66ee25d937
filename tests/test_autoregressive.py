"""Left to right, three ways, each against a plain loop or the decoder that it stands for (float64, 1e-9).

Laws: next-token decoding is the textbook's loop with a mask written by hand; self-speculation says what `decode` says
one by one, with the same probabilities, in no more passes, and a perfectly predictable text in as few as there can be;
a pass checks what it says it does; block by block is a loop over blocks, and has `decode` as its limits.
"""

import math
from collections.abc import Callable
from functools import cache as remember

import pytest
import torch
from torch import Tensor
from toy import EXACT, Exact, Ignorant, all_sequences, alone, ragged_clean, seeded, tiny

from unspoken.decoders.autoregressive import next_tokens, speculate
from unspoken.decoders.blocks import block_by_block
from unspoken.decoders.decode import decode
from unspoken.decoders.step import Step, last
from unspoken.layout.attention import ANY_ORDER, ATTENTIONS, CACHED_JOINT, SCDM
from unspoken.model.denoiser import Denoiser

MASK = 6
CACHEABLE = [name for name, rule in ATTENTIONS.items() if rule.cacheable]


@remember
def model(rule: str) -> Denoiser:
    return tiny(ATTENTIONS[rule], seed=1, positions=8)


def prompts(free: tuple[int, ...] = (6, 4, 1, 0)) -> Tensor:
    x0, given = ragged_clean(free)
    return torch.where(given, x0, MASK)


def said(steps: list[Step], tokens: Tensor) -> Tensor:
    """The probability with which each token was said, `[batch, seq]`; each unsaid position is said just once."""
    times, probability = torch.zeros_like(tokens), torch.zeros(tokens.shape, dtype=torch.float64)
    for step in steps:
        times += step.committed
        probability = torch.where(step.committed, step.confidence, probability)
        assert torch.equal(step.tokens != tokens, (times > 0) & (tokens == MASK))
        assert torch.equal(step.guess[step.committed], step.tokens[step.committed])
    assert torch.equal(times, (tokens == MASK).long())
    return probability


def textbook(trunk, tokens: Tensor) -> tuple[list[int], list[float]]:
    """One row, the whole pass anew for each token: the prompt sees itself, a later token all before it and itself."""
    entries = [i for i, t in enumerate(tokens.tolist()) if t != MASK]
    ids, words, sure = tokens[entries].tolist(), [], []
    n, read = len(entries), len(entries) - 1
    for position in [i for i, t in enumerate(tokens.tolist()) if t == MASK]:
        sees = [[k < n or k <= q for k in range(len(ids))] for q in range(len(ids))]
        logits = trunk(
            input_ids=torch.tensor([ids]),
            position_ids=torch.tensor([entries]),
            attention_mask=torch.tensor(sees)[None, None],
        ).logits[0, read, :MASK]
        p, word = logits.softmax(-1).max(-1)
        words, sure = [*words, int(word)], [*sure, float(p)]
        entries, ids, read = [*entries, position], [*ids, int(word)], len(ids)
    return words, sure


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("rule", CACHEABLE)
@torch.no_grad()
def test_next_tokens_are_the_textbooks_loop(rule: str, cached: bool) -> None:
    tokens, plain = prompts(), tiny(ATTENTIONS[rule])
    steps = list(next_tokens(plain, tokens, cache=cached))
    probability, end = said(steps, tokens), steps[-1].tokens
    for row in range(len(tokens)):
        unsaid = tokens[row] == MASK
        words, sure = textbook(plain.trunk, tokens[row])
        assert end[row, unsaid].tolist() == words
        assert torch.allclose(probability[row, unsaid], torch.tensor(sure, dtype=torch.float64), **EXACT)
    assert len(steps) == 6
    for index, step in enumerate(steps):
        going = [free for free in (6, 4, 1) if free > index]
        assert int(step.committed.sum()) == len(going) and not step.latents.any()
        entries = 1 if cached and index else max(7 - free + index for free in going)
        known = 6 + index - 1 if cached and index else 0
        assert (step.entries, step.cached, step.asked) == (entries, known, 1)


def some_prompts(rows: int = 200, length: int = 8) -> Tensor:
    """Of all lengths, none and whole included, at arbitrary positions."""
    free = torch.randint(length + 1, (rows,), generator=seeded(2)).tolist()
    x0, given = ragged_clean((*free[2:], 0, length), length)
    return torch.where(given, x0, MASK)


@remember
def one_by_one(rule: str, latents: int | None) -> tuple[Tensor, Tensor]:
    """What `decode` says of `some_prompts`, and the probabilities; recomputed, one token a pass."""
    tokens = some_prompts()
    steps = list(decode(model(rule), tokens, order="left_to_right", latent_policy="next", latents=latents, cache=False))
    assert len(steps) == 8
    return steps[-1].tokens, said(steps, tokens)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("counts", [(0, None), (1, 1), (3, 1), (4, 3), (2, None), (None, 2), (None, None)], ids=str)
@pytest.mark.parametrize("rule", CACHEABLE)
def test_speculation_says_what_one_by_one_says(rule: str, counts: tuple[int | None, int | None], cached: bool) -> None:
    """200 prompts, token for token and probability for probability, in no more passes and in some cases fewer."""
    latents, drafts = counts
    tokens = some_prompts()
    steps = list(speculate(model(rule), tokens, latents=latents, drafts=drafts, cache=cached))
    probability, (end, expected) = said(steps, tokens), one_by_one(rule, latents)
    assert torch.equal(steps[-1].tokens, end)
    assert torch.allclose(probability, expected, **EXACT)
    done, right, wrong = torch.zeros(len(tokens), dtype=torch.int64), 0, 0
    most = min(8 if count is None else count for count in counts)
    for step in steps:
        now, checked = step.committed.sum(1), step.candidates.sum(1) - 1
        assert torch.equal(now > 0, (tokens == MASK).sum(1) > done)  # no more passes than one by one, in any row
        assert not (step.committed & ~step.candidates).any() and not (step.candidates & step.latents).any()
        assert (checked <= most).all()
        right, wrong = right + int((now - 1).clamp_min(0).sum()), wrong + int((now <= checked).sum())
        done += now
    assert (right > 50 and wrong > 50) if most else (right == wrong == 0)  # drafts are right and wrong, both


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("rule", CACHEABLE)
def test_a_predictable_text_takes_as_few_passes_as_there_can_be(rule: str, cached: bool) -> None:
    """An exact network of texts that their first token decides: 1 + ceil((L - 1) / (drafts + 1)) passes a row."""
    x = all_sequences(2, 8)
    follows = (x[:, 1:] == (x[:, :1] + torch.tensor([1, 1, 0, 1, 0, 0, 1])) % 2).all(1)
    exact, texts = Exact(follows.double() / 2, 2, 8, ATTENTIONS[rule]), x[follows]
    assert len(texts) == 2
    free = torch.arange(1, 8).repeat_interleave(2)
    tokens = torch.where(torch.arange(8) < 8 - free[:, None], texts.repeat(7, 1), 2)
    for latents, drafts in [(None, None), (0, 0), (1, 1), (3, 1), (2, 2), (5, 4)]:
        steps = list(speculate(exact, tokens, latents=latents, drafts=drafts, cache=cached))
        passes = torch.stack([step.committed.any(1) for step in steps]).sum(0)
        most = 8 if drafts is None else drafts
        assert passes.tolist() == [1 + math.ceil((n - 1) / (min(most, n) + 1)) for n in free.tolist()]
        assert torch.equal(steps[-1].tokens, texts.repeat(7, 1))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("latents", "drafts"), [(0, 0), (3, 1), (4, 4)])
def test_entries_of_a_speculation(latents: int, drafts: int, cached: bool) -> None:
    """A row's pass: the context, or what of it was said last; the drafts; and after each of them a block of masks."""
    for free in (1, 4, 7):
        tokens, done, checked = prompts((free,)), 0, 0
        for step in speculate(model("cached-joint"), tokens, latents=latents, drafts=drafts, cache=cached):
            masks = sum(min(latents + 1, free - done - a) for a in range(checked + 1))
            context = 7 - free + done
            known = (7 - free + done - 1 if done else 0) if cached else 0
            assert (step.entries, step.cached, step.asked) == (context - known + checked + masks, known, masks)
            assert int(step.candidates.sum()) == checked + 1
            assert int(step.latents.sum()) == min(latents, free - done - checked - 1)
            done += int(step.committed.sum())
            checked = min(drafts, max(free - done - 1, 0))


def block_loop(rule: str, tokens: Tensor, size: int, commit: int) -> tuple[Tensor, list[set[int]]]:
    """One row: every pass made by hand; the end, and what each pass said."""
    now, prompt = tokens.clone(), tokens != MASK
    free = [i for i in range(len(tokens)) if tokens[i] == MASK]
    passes = []
    for start in range(0, len(free), size):
        before = {p: turn // size + 1 for turn, p in enumerate(free[:start])}
        here = free[start : start + size]
        while any(now[p] == MASK for p in here):
            logits = alone(model(rule), now, prompt, before, [(p, int(now[p])) for p in here])
            sure, word = logits.softmax(-1).max(-1)
            best = sorted((p for p in here if now[p] == MASK), key=lambda p: -float(sure[p]))[:commit]
            for p in best:
                now[p] = word[p]
            passes.append(set(best))
    return now, passes


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("size", "commit"), [(1, 1), (3, 1), (3, 2), (9, 4)])
@pytest.mark.parametrize("rule", CACHEABLE)
@torch.no_grad()
def test_block_by_block_is_a_loop_over_blocks(rule: str, size: int, commit: int, cached: bool) -> None:
    """In a ragged batch too: a row that has less to say in a block waits for the others."""
    tokens = prompts((7, 6, 4, 1, 0))
    steps = list(block_by_block(model(rule), tokens, size=size, commit=commit, cache=cached))
    said(steps, tokens)
    for row in range(len(tokens)):
        end, passes = block_loop(rule, tokens[row], size, commit)
        assert torch.equal(steps[-1].tokens[row], end)
        mine = [set(step.committed[row].nonzero()[:, 0].tolist()) for step in steps]
        assert [p for p in mine if p] == passes
    widths = [min(size, 7 - start) for start in range(0, 7, size)]
    assert len(steps) == sum(math.ceil(width / commit) for width in widths)


@pytest.mark.parametrize("rule", CACHEABLE)
def test_limits_of_block_by_block(rule: str) -> None:
    """Blocks of one token are mask-slot autoregression; one block said at once is teacherless decoding."""
    tokens = prompts((7, 6, 4, 1, 0))
    one = last(block_by_block(model(rule), tokens, size=1), tokens)
    assert torch.equal(one, last(decode(model(rule), tokens, order="left_to_right", latents=0), tokens))
    if rule != "any-order":  # there, candidates said at once are all ranked last
        whole = last(block_by_block(model(rule), tokens, size=7, commit=7), tokens)
        assert torch.equal(whole, last(decode(model(rule), tokens, order="left_to_right", commit=7), tokens))
        assert not torch.equal(whole, one)


DECODERS: list[Callable] = [next_tokens, speculate, lambda m, t: block_by_block(m, t, size=2)]


@pytest.mark.parametrize("decoder", DECODERS, ids=["next tokens", "speculation", "blocks"])
def test_nothing_to_say(decoder: Callable) -> None:
    for tokens in (torch.zeros(2, 4, dtype=torch.int64), torch.empty(0, 4, dtype=torch.int64)):
        assert list(decoder(Ignorant(MASK, ANY_ORDER), tokens)) == []
    with pytest.raises(ValueError, match="from 9 to 9"):
        decoder(Ignorant(MASK, ANY_ORDER), torch.full((1, 4), 9))


def test_bad_input() -> None:
    ignorant, tokens = Ignorant(MASK, CACHED_JOINT), torch.tensor([[1, MASK], [MASK, MASK]])
    with pytest.raises(ValueError, match="give every row a prompt"):
        next_tokens(ignorant, tokens)
    for rule in ("mdm", "scdm", "sidm"):
        with pytest.raises(ValueError, match="take cached-joint"):
            speculate(Ignorant(MASK, ATTENTIONS[rule]), tokens)
    for latents, drafts in ((-1, None), (None, -1), (1, 2), (0, 1)):
        with pytest.raises(ValueError, match=r"need 0 <= drafts <= latents|=-1; give whole numbers"):
            speculate(ignorant, tokens, latents=latents, drafts=drafts)
    for size, commit in ((0, 1), (2, 0), (2, 3)):
        with pytest.raises(ValueError, match=r"need 1 <= commit <= size|=0; give whole numbers of 1"):
            block_by_block(ignorant, tokens, size=size, commit=commit)


@torch.no_grad()
def test_speculation_under_a_bidirectional_context_would_be_wrong() -> None:
    """The refusal is needed: under SCDM drafts would change what they are checked by."""

    class Claims:
        """SCDM in the guise of an attention that may speculate; its passes are SCDM's."""

        attention, mask_id, vocab_size = ANY_ORDER, MASK, MASK + 1

        def __call__(self, layout, at=None, cache=None) -> Tensor:
            return inner(layout, at)

        def new_cache(self) -> None:
            return None

    inner, tokens = tiny(SCDM), some_prompts()
    steps = list(speculate(Claims(), tokens, latents=2))
    honest = list(decode(inner, tokens, order="left_to_right", latent_policy="next", latents=2))
    assert not torch.allclose(said(steps, tokens), said(honest, tokens), rtol=0, atol=1e-3)
