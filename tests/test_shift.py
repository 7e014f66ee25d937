"""The shift by one: the answer for a position is that of the entry to its left (float64, 1e-9).

Laws: over a whole sequence the shifted model's logits are the plain ones rolled by one, as Dream's are; the next token
from left to right is the causal trunk's own; entries that nobody asks or sees change nothing; a packed pass is one
prefix at a time; cached = recomputed. What has no left neighbour is refused.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import EXACT, alone, ragged_clean, seeded, tiny

import unspoken as us
from unspoken.layout.attention import ANY_ORDER, ATTENTIONS, CACHED_ALONE, CACHED_JOINT, JOINT, MDM, SCDM, Attention
from unspoken.layout.entries import Layout, one_block, random_order
from unspoken.layout.packing import ask_next, left_to_right
from unspoken.layout.questions import SUCCESSOR
from unspoken.model.denoiser import Denoiser
from unspoken.model.shift import left_of

MASK, LENGTH = 6, 8


def model(rule: Attention, shift: bool = True, **options: Any) -> Denoiser:
    made = tiny(rule, positions=LENGTH, **options)
    made.shift = shift
    return made


def sequences(rows: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clean tokens, and a prompt of the first one alone: what a causal model is asked at."""
    x0 = torch.randint(MASK, (rows, LENGTH), generator=seeded(seed))
    return x0, (torch.arange(LENGTH) < 1).expand(rows, -1)


def some_layout(rows: int = 4, seed: int = 0) -> tuple[Layout, Tensor]:
    """The first token given, of the others about half unsaid, in random order; and the clean tokens."""
    x0, given = sequences(rows, seed)
    unsaid = ~given & (torch.rand(x0.shape, generator=seeded(seed + 1)) < 0.5)
    return random_order(torch.where(unsaid, MASK, x0), unsaid, given, seeded(seed + 2)), x0


def causal_logits(made: Denoiser, tokens: Tensor) -> Tensor:
    """`[batch, seq, vocab]`: the trunk as transformers runs it, under its own causal mask."""
    embedded = made.trunk.get_input_embeddings()(tokens)
    if made.place is not None:
        embedded = embedded + made.place.weight[: tokens.shape[1]]
    return made.trunk(inputs_embeds=embedded).logits[..., :MASK]


@pytest.mark.parametrize("rule", ATTENTIONS.values(), ids=ATTENTIONS)
@torch.no_grad()
def test_over_a_whole_sequence_the_logits_are_rolled_by_one(rule: Attention) -> None:
    layout, _ = some_layout()
    plain, ours = model(rule, shift=False)(layout), model(rule)(layout)
    rolled = torch.cat([plain[:, :1], plain[:, :-1]], 1)
    expected = torch.where(layout.unsaid[..., None], rolled, plain)
    assert torch.equal(ours, expected) and not torch.equal(ours, plain)


@torch.no_grad()
def test_mdm_is_dreams_pass_by_hand() -> None:
    """The bare trunk under no mask, its logits rolled by one, as Dream's generation code rolls them."""
    made = tiny(MDM)
    made.shift = True
    layout, _ = some_layout()
    every = torch.ones(*layout.shape, layout.shape[1], dtype=torch.bool)[:, None]
    bare = made.trunk(input_ids=layout.token, attention_mask=every).logits
    rolled = torch.cat([bare[:, :1], bare[:, :-1]], 1)
    ours = made(layout)
    assert torch.allclose(ours[layout.unsaid][:, :MASK], rolled[layout.unsaid][:, :MASK], **EXACT)


@pytest.mark.parametrize("latents", [0, 2, None])
@pytest.mark.parametrize("rule", [CACHED_JOINT, CACHED_ALONE, ANY_ORDER], ids=lambda r: r.name)
@torch.no_grad()
def test_the_next_token_from_left_to_right_is_the_causal_trunks_own(rule: Attention, latents: int | None) -> None:
    """However many latents stand beside it, with a cache and without: the last token said answers, and sees none."""
    made = model(rule)
    x0, given = sequences()
    for cache in (True, False):
        decoder = us.Slots(latents=latents, order="left_to_right", latent_policy="next", cache=cache)
        steps = list(us.decode(made, torch.where(given, x0, MASK), decoder=decoder))
        assert len(steps) == LENGTH - 1
        p = causal_logits(made, steps[-1].tokens).softmax(-1)
        for i, step in enumerate(steps):
            assert torch.equal(step.tokens[:, i + 1], p[:, i].argmax(-1))
            assert torch.allclose(step.confidence[:, i + 1], p[:, i].amax(-1), **EXACT)


@torch.no_grad()
def test_next_tokens_are_asked_at_the_token_itself() -> None:
    """Not shifted twice: `NextToken` and successor questions are those of the plain model."""
    x0, given = sequences()
    prompt = torch.where(given, x0, MASK)
    runs = [list(us.decode(model(CACHED_JOINT, s), prompt, decoder=us.NextToken())) for s in (True, False)]
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.confidence, b.confidence)
    clean = left_to_right(x0, given)
    packed = ask_next(clean.context(), clean)
    assert (packed.one.slot[packed.one.real] == SUCCESSOR).all()
    losses = [us.packed_losses(model(CACHED_JOINT, s), packed) for s in (True, False)]
    assert torch.equal(*losses)


@torch.no_grad()
def test_self_speculation_says_what_the_causal_trunk_says() -> None:
    x0, given = sequences()
    prompt = torch.where(given, x0, MASK)
    made = model(CACHED_JOINT)
    expected = us.last(us.decode(made, prompt, decoder=us.NextToken()), prompt)
    for cache in (True, False):
        steps = list(us.decode(made, prompt, decoder=us.Speculation(latents=3, cache=cache)))
        assert torch.equal(steps[-1].tokens, expected)


@pytest.mark.parametrize("rule", [MDM, JOINT, SCDM, CACHED_JOINT], ids=lambda r: r.name)
@torch.no_grad()
def test_the_order_of_the_list_and_other_documents_change_nothing(rule: Attention) -> None:
    made = model(rule)
    layout, _ = some_layout()
    other, _ = some_layout(seed=7)
    logits = made(layout)
    both = layout.join(replace(other, document=other.document + 1))
    index = torch.rand(both.shape, generator=seeded(3)).argsort(1)
    moved = made(both.select(index))
    back = index.argsort(1)[:, : layout.shape[1], None].expand_as(logits)
    assert torch.allclose(moved.gather(1, back), logits, **EXACT)


@torch.no_grad()
def test_entries_that_answer_for_nobody_can_be_dropped() -> None:
    """Under lone latents: all but the one that is asked and the one before it."""
    made = model(CACHED_ALONE)
    layout, _ = some_layout()
    logits = made(layout)
    for row in range(4):
        for p in layout.unsaid[row].nonzero()[:, 0].tolist():
            near = torch.tensor([i for i in range(LENGTH) if layout.said[row, i] or i in (p - 1, p)])
            part = layout.rows(torch.tensor([row])).select(near[None])
            answer = made(part, (near == p).nonzero().T)
            assert torch.allclose(answer[0, 0], logits[row, p], **EXACT)


@pytest.mark.parametrize("rule", [CACHED_JOINT, CACHED_ALONE, ANY_ORDER], ids=lambda r: r.name)
@torch.no_grad()
def test_a_packed_pass_is_one_prefix_at_a_time(rule: Attention) -> None:
    """Blocks at every threshold, with given tokens in between: each answers as the pass of its prefix alone."""
    made = model(rule)
    x0, given = ragged_clean((6, 4, 1), length=LENGTH)
    given[:, 0] = True
    clean = left_to_right(x0, given)
    objective = us.MultiToken(window=3)
    packed = objective.pack(us.Absorbing(), x0, given, MASK, seeded())
    losses, asked = us.packed_losses(made, packed), packed.one
    compared = 0
    for row, column in asked.real.nonzero().tolist():
        entry = int(asked.at[row, column])
        start = int(packed.layout.horizon[row, entry]) - 1
        free = [p for p in clean.place[row].tolist() if not given[row, p]]
        said = {p: 1 + date for date, p in enumerate(free[:start])}
        block = [(p, MASK) for p in free[start : start + 3]]
        logits = alone(made, x0[row], given[row], said, block)
        p = int(packed.layout.position[row, entry])
        expected = torch.nn.functional.cross_entropy(logits[p : p + 1], x0[row, p : p + 1])
        assert torch.allclose(losses[row, column], expected, **EXACT)
        compared += 1
    assert compared > 15


@torch.no_grad()
def test_masked_diffusion_is_trained_on_what_decoding_computes() -> None:
    made = model(MDM)
    x0, given = sequences()
    packed = us.MaskedDiffusion().pack(us.Absorbing(), x0, given, MASK, seeded())
    losses, asked = us.packed_losses(made, packed), packed.one
    logits = model(MDM, shift=False)(packed.layout).log_softmax(-1)
    for row, column in asked.real.nonzero().tolist():
        p = int(packed.layout.position[row, asked.at[row, column]])
        assert torch.allclose(losses[row, column], -logits[row, p - 1, x0[row, p]], **EXACT)


def test_a_gradient_flows_and_questions_cost_what_entries_answer() -> None:
    made = model(CACHED_JOINT).train()
    x0, given = sequences()
    packed = us.MultiToken(window=2, next_token=0.5).pack(us.Absorbing(), x0, given, MASK, seeded())
    loss = packed.reduce(us.packed_losses(made, packed))
    loss.backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in made.parameters())
    by_question = made(packed.layout, questions=packed.questions)
    for question, found in zip(packed.questions, by_question, strict=True):
        expected = us.CrossEntropy()(made(packed.layout, question.at), question.target).where(question.real, 0.0)
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


CACHED: dict[str, us.Decoder] = {
    "any order": us.Slots(),
    "several": us.Slots(commit=3, threshold=0.3),
    "left to right": us.Slots(latents=2, order="left_to_right", latent_policy="next", commit=2),
    "in doubt": us.Slots(latents=1, order="left_to_right", latent_policy="next", min_confidence=0.9),
    "speculation": us.Speculation(latents=3, drafts=2),
    "blocks": us.Blocks(size=3, commit=2),
    "next tokens": us.NextToken(),
}


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("rule", [CACHED_JOINT, ANY_ORDER], ids=lambda r: r.name)
@torch.no_grad()
def test_cached_is_recomputed(rule: Attention, name: str) -> None:
    """The token to the left may be one that was said long ago: the cache holds its last state beside its keys."""
    made = model(rule)
    x0, given = ragged_clean((7, 5, 3, 1, 0), length=LENGTH)
    given[:, 0] = True
    prompt = torch.where(given, x0, MASK)
    decoder = CACHED[name]
    runs = [
        list(us.decode(made, prompt, decoder=replace(decoder, cache=c), generator=seeded()))  # type: ignore[type-var]
        for c in (True, False)
    ]
    assert len(runs[0]) == len(runs[1]) > 1 and max(step.cached for step in runs[0]) > 0
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.allclose(a.confidence, b.confidence, **EXACT)


@torch.no_grad()
def test_rows_apart_take_their_part_of_the_cached_states() -> None:
    x0, given = ragged_clean((7, 5, 3, 1, 0), length=LENGTH)
    given[:, 0] = True
    prompt = torch.where(given, x0, MASK)
    made = model(CACHED_JOINT)
    together, apart = (
        list(us.decode(made, prompt, order="left_to_right", rebatch=share, generator=seeded())) for share in (0.0, 0.01)
    )
    assert len(apart) > len(together) and torch.equal(apart[-1].tokens, together[-1].tokens)


@torch.no_grad()
def test_all_stale_latents_fresh_are_none() -> None:
    """Where every latent is refreshed in every pass, none of the kept states is stale."""
    x0, given = sequences()
    prompt = torch.where(given, x0, MASK)
    runs = [list(us.decode(model(CACHED_JOINT), prompt, stale=s)) for s in (True, False)]
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a.tokens, b.tokens) and torch.allclose(a.confidence, b.confidence, **EXACT)
    few = list(us.decode(model(CACHED_JOINT), prompt, latents=1, stale=True))  # stale states answer: no refusal
    assert (few[-1].tokens != MASK).all()


@torch.no_grad()
def test_a_walk_and_carried_states_are_shifted_too() -> None:
    x0, given = sequences()
    prompt = torch.where(given, x0, MASK)
    steps = list(us.decode(model(MDM), prompt, decoder=us.Walk(passes=4)))
    assert (steps[-1].tokens != MASK).all()
    carrying, plain = model(MDM, carry=True), model(MDM)
    assert carrying.carried is not None
    torch.nn.init.zeros_(carrying.carried.weight)  # carries nothing: the answers are the plain ones
    for a, b in zip(us.decode(carrying, prompt), us.decode(plain, prompt), strict=True):
        assert torch.equal(a.tokens, b.tokens) and torch.allclose(a.confidence, b.confidence, **EXACT)


def test_the_neighbour_by_hand() -> None:
    """Said 0, 1, 2, 4 (dates 0, 1, 2, 0); a block at threshold 1 with masks at 2, 3, 5, one at 2 with 3."""
    layout = Layout(
        token=torch.tensor([[1, 2, 3, 4, 6, 6, 6, 6]]),
        position=torch.tensor([[0, 1, 2, 4, 2, 3, 5, 3]]),
        order=torch.tensor([[0, 1, 2, 0, 7, 0, 1, 7]]),
        horizon=torch.tensor([[1, 2, 3, 1, 2, 2, 2, 3]]),
        block=torch.tensor([[-1, -1, -1, -1, 0, 0, 0, 1]]),
        document=torch.zeros(1, 8, dtype=torch.long),
    )
    at = torch.arange(8)[None]
    # 3 of the first block is answered by its 2, though 2 is said later; 3 of the second by the token at 2.
    assert left_of(layout, at).tolist() == [[0, 1, 2, 3, 1, 4, 3, 2]]
    unseen = replace(layout, horizon=torch.tensor([[1, 2, 3, 1, 1, 2, 2, 3]]))
    with pytest.raises(ValueError, match="answer for position 2 of row 0 is read at position 1"):
        left_of(unseen, at)


@torch.no_grad()
def test_what_has_no_left_neighbour_is_refused() -> None:
    made = model(MDM)
    nothing = torch.full((2, LENGTH), MASK)
    with pytest.raises(ValueError, match="begin every row with a given token, such as BOS"):
        list(us.decode(made, nothing))
    x0, given = sequences()
    with pytest.raises(ValueError, match="position 0 of row 0"):
        us.packed_losses(made, us.MaskedDiffusion().pack(us.Absorbing(), x0, ~given & False, MASK, seeded(3)))
    prompt = torch.where(given, x0, MASK)
    wrong: tuple[dict[str, Any], ...] = (
        {"latents": 2},
        {"latents": 2, "order": "left_to_right", "predict_latents": True},
    )
    for options in wrong:
        with pytest.raises(ValueError, match="take all latents, or the order left_to_right"):
            us.decode(made, prompt, **options)
    grouped = us.MaskedDiffusion(groups=us.Groups(whole=0.0, sizes=(1,)))
    packed = grouped.pack(us.Absorbing(), x0, given, MASK, seeded())
    with pytest.raises(ValueError, match="not in the same block of the pass"):
        us.packed_losses(model(JOINT), packed)
    with pytest.raises(ValueError, match="which sees another number of them"):
        us.nll_by_latents(model(SCDM), x0, given, [0, 2])
    with pytest.raises(ValueError, match="values are read at their own entries"):
        Denoiser(made.trunk, MDM, MASK, port=us.Vectors(2, placeholder=5), shift=True)


@torch.no_grad()
def test_it_is_saved_and_can_be_changed(tmp_path: Path) -> None:
    made = model(CACHED_JOINT)
    made.save_pretrained(tmp_path)
    layout, _ = some_layout()
    again = Denoiser.from_pretrained(tmp_path)
    assert again.shift and torch.equal(again.double()(layout), made(layout))
    assert not Denoiser.from_pretrained(tmp_path, shift=False).shift
    whole = one_block(*(torch.zeros(1, 3, dtype=t) for t in (torch.long, torch.bool, torch.long)))
    assert torch.equal(made(whole), model(CACHED_JOINT, shift=False)(whole))  # nothing is unsaid
    config = made.trunk.config
    assert Denoiser.from_config(config, attention=MDM, mask_id=MASK, shift=True).shift
