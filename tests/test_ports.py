"""Values beside ids: ports integrate to the right number, layouts with values obey the laws of those with ids."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from toy import EXACT, ragged_clean, seeded, tiny

from unspoken.codecs import ScalarQuantizer, normal_levels
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT, MDM, SCDM, Attention
from unspoken.layout.entries import Layout, entries_of, one_block, random_order
from unspoken.layout.packing import Packed, ask_masks, blocks, every_start, left_to_right
from unspoken.layout.questions import CTC, CrossEntropy, Question, SquaredError
from unspoken.model.codes import Codes, CodeStates, CodeWeights, Head
from unspoken.model.denoiser import Denoiser
from unspoken.model.ports import Port, Vectors
from unspoken.noise import Absorbing, Gaussian, Hybrid, Reals, Seen, Views
from unspoken.noise.times import Independent
from unspoken.training.losses import packed_losses
from unspoken.training.objective import Denoising, MaskedDiffusion, MultiToken, NextTokenPrediction

each_attention = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
VECTORS, CODES = Vectors(3, "v", placeholder=0), Codes(2, 4, width=8, placeholder=0)
PORTS: dict[str, Port] = {"vectors": VECTORS, "codes": CODES}
each_port = pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)


def values_of(port: Port, *shape: int, seed: int = 0) -> Tensor:
    """Random values `[*shape, width]` that the port reads."""
    if isinstance(port, Vectors):
        return torch.randn(*shape, port.width, generator=seeded(seed), dtype=torch.float64)
    assert isinstance(port, Codes)
    return torch.randint(port.levels, (*shape, port.dims), generator=seeded(seed))


def valued(port: Port, seed: int = 0) -> Layout:
    """Two rows of six tokens in a random order: id 2 and 3, values (id 0), and masks (id 6)."""
    x0 = torch.tensor([[0, 2, 0, 0, 3, 0], [2, 0, 0, 3, 0, 0]])
    given = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1]]).bool()
    unsaid = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 1, 0]]).bool()
    layout = random_order(torch.where(unsaid, 6, x0), unsaid, given, seeded(seed))
    return replace(layout, value=values_of(port, 2, 6) * ~unsaid[..., None])


# What a port's loss is


HEADS = [Codes(3, 3, width=8, placeholder=0, head=h, spacing=s) for h in get_args(Head) for s in ("even", "normal")]
each_head = pytest.mark.parametrize("port", HEADS, ids=lambda port: f"{port.head}-{port.spacing}")


@each_head
def test_the_probabilities_of_all_codes_sum_to_one(port: Codes) -> None:
    weights = port.build(16).double()
    hidden = torch.randn(2, 1, 16, generator=seeded(), dtype=torch.float64)
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    logp = [-weights.loss(weights.predict(hidden, c.expand(2, 1, 3)), c.expand(2, 1, 3)) for c in every]
    assert torch.allclose(torch.cat(logp, 1).exp().sum(1), torch.ones(2, dtype=torch.float64), **EXACT)


def test_the_probabilities_of_all_ids_sum_to_one() -> None:
    model = tiny(MDM)
    logits = model.ids.predict(torch.randn(2, 1, 16, generator=seeded(), dtype=torch.float64))
    every = torch.arange(6)
    losses = torch.stack([model.ids.loss(logits, i.expand(2, 1)) for i in every])
    assert torch.allclose((-losses).exp().sum(0), torch.ones(2, 1, dtype=torch.float64), **EXACT)


def test_codes_are_read_as_the_numbers_that_they_stand_for() -> None:
    """Even, or the levels of a standard normal number as a quantizer has them."""
    codes = values_of(Codes(2, 5), 2, 3)
    for weights, number in (
        (Codes(2, 5, placeholder=0).build(16), torch.linspace(-1, 1, 5)),
        (Codes(2, 5, placeholder=0, spacing="normal").build(16), normal_levels(5).float()),
    ):
        assert torch.allclose(weights.read(codes), weights.reader(number[codes]))
    quantizer = ScalarQuantizer(torch.tensor([3.0, -1.0]), torch.tensor([2.0, 0.5]), 5)
    assert torch.allclose((quantizer.decode(codes) - quantizer.mean) / quantizer.std, normal_levels(5).float()[codes])


def test_the_parallel_head_has_as_many_weights_as_the_additive_one() -> None:
    sizes = [
        sum(p.numel() for p in Codes(16, 32, placeholder=0, head=head).build(96).parameters())
        for head in ("additive", "parallel")
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


@pytest.mark.parametrize("change", [{"head": "autoregressive"}, {"spacing": "log"}])
def test_another_head_or_spacing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give 'recurrent', 'additive' or 'parallel', and 'even' or 'normal'"):
        Codes(2, 4, **change)


@torch.no_grad()
def test_a_vectors_loss_is_that_of_a_normal() -> None:
    """exp(-loss width / 2) is the density of a standard normal around the prediction, but for its constant.

    Its integral over a grid, and the mean loss of its own samples: 40,000 of them, within 5 standard errors (false
    alarm below 1 in a million).
    """
    weights = Vectors(2, placeholder=0).build(16).double()
    seen = weights.predict(torch.randn(1, 1, 16, generator=seeded(), dtype=torch.float64))
    line = torch.linspace(-8, 8, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)[None] + seen.value
    whole = Seen(seen.value.expand_as(grid), seen.view)
    density = (-weights.loss(whole, grid)).exp() / (2 * torch.pi)
    assert float(density.sum() * (line[1] - line[0]) ** 2) == pytest.approx(1, abs=1e-6)
    many = Seen(seen.value.expand(1, 40_000, 2), seen.view)
    drawn, _ = weights.sample(many, seeded(1), temperature=0.5)
    losses = weights.loss(many, drawn)
    assert float(losses.mean()) == pytest.approx(0.25, abs=5 * 0.25 / 40_000**0.5)


@pytest.mark.parametrize("head", get_args(Head))
def test_a_dim_of_codes_does_not_depend_on_later_ones(head: Head) -> None:
    """It depends on the one before it, but under the parallel head."""
    port = Codes(4, 3, width=8, placeholder=0, head=head)
    weights = port.build(16).double()
    hidden, codes = torch.randn(1, 2, 16, generator=seeded(), dtype=torch.float64), values_of(port, 1, 2)
    plain = weights.predict(hidden, codes)
    for dim in range(4):
        other = codes.clone()
        other[..., dim] = (other[..., dim] + 1) % 3
        moved = (weights.predict(hidden, other) - plain).abs().amax((0, 1, 3))
        assert (moved[: dim + 1] < 1e-12).all() and (dim == 3 or (moved[dim + 1] > 1e-6) == (head != "parallel"))


@each_head
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_codes_drawn_dim_by_dim_have_the_probability_of_teacher_forcing(temperature: float, port: Codes) -> None:
    """The head's kept state is what it would compute from all dims before."""
    weights = replace(port, dims=5, levels=4).build(16).double()
    hidden = torch.randn(3, 2, 16, generator=seeded(), dtype=torch.float64)
    states = weights.predict(hidden)
    assert isinstance(states, CodeStates)
    codes, logp = weights.sample(states, seeded(2), temperature)
    forced = weights.predict(hidden, codes)
    assert torch.allclose(logp, -weights.loss(forced, codes), **EXACT)
    if temperature == 0:
        assert torch.equal(codes, forced.argmax(-1))


@pytest.mark.parametrize("head", get_args(Head))
@torch.no_grad()
def test_drawn_codes_have_their_probabilities(head: Head) -> None:
    """Pearson's chi-square on all 9 codes, 20,000 draws: p below 1e-6 is a false alarm of one in a million."""
    from toy import chi_square_p

    weights = Codes(2, 3, width=8, placeholder=0, head=head).build(16).double()
    hidden = torch.randn(1, 1, 16, generator=seeded(), dtype=torch.float64)
    many = CodeStates(weights.predict(hidden).first.expand(1, 20_000, 8))
    codes, _ = weights.sample(many, seeded(3))
    counts = torch.bincount(codes[0, :, 0] * 3 + codes[0, :, 1], minlength=9)
    every = torch.tensor(list(itertools.product(range(3), repeat=2)))[None]
    p = -weights.loss(weights.predict(hidden.expand(1, 9, 16), every), every)
    assert chi_square_p(counts, p[0].exp()) > 1e-6


@pytest.mark.parametrize("view", ["eps", "x0", "v", "u"])
@pytest.mark.parametrize("process", [Gaussian(), Gaussian("linear")])
def test_a_squared_error_compares_the_view_that_is_predicted(process: Gaussian, view) -> None:
    x0, eps = values_of(VECTORS, 2, 4), values_of(VECTORS, 2, 4, seed=1)
    t = torch.rand(2, 4, generator=seeded(), dtype=torch.float64)
    right = Seen(process.seen(Views(x0, eps), t, view), view)
    assert float(SquaredError(process, t, eps)(right, x0).abs().max()) < 1e-12
    off = replace(right, value=right.value + 0.5)
    assert torch.allclose(SquaredError(process, t, eps)(off, x0), torch.full((2, 4), 0.25, dtype=torch.float64))
    weighed = SquaredError(process, t, eps, clip=5.0)(off, x0)
    expected = 0.25 if view == "u" else 0.25 * process.loss_weight(process.snr(t), view, 5.0)
    assert torch.allclose(weighed, torch.as_tensor(expected).double().expand(2, 4))


# CTC


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    """Repeats merged, then blanks left out."""
    return [token for token, _ in itertools.groupby(path) if token != blank]


def test_ctc_is_the_sum_over_all_alignments() -> None:
    blank, slots, vocab = 2, 4, 3
    logits = torch.randn(3, slots, vocab, generator=seeded(), dtype=torch.float64)
    target, lengths = torch.tensor([[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]), torch.tensor([2, 2, 0])
    losses = CTC(blank, lengths)(logits, target)
    assert (losses[:, 1:] == 0).all()
    logp = logits.log_softmax(-1)
    for row in range(3):
        wanted = target[row, : lengths[row]].tolist()
        paths = [p for p in itertools.product(range(vocab), repeat=slots) if collapsed(p, blank) == wanted]
        total = sum(float(logp[row, range(slots), p].sum().exp()) for p in paths)
        assert float(losses[row, 0]) == pytest.approx(-math.log(total), abs=1e-9)


def test_ctc_refuses_targets_that_do_not_fit() -> None:
    logits = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="row 1 needs 4 slots"):
        CTC(3, torch.tensor([3, 3]))(logits, torch.tensor([[0, 1, 2], [0, 0, 1]]))


@torch.no_grad()
def test_ctc_counts_the_slots_that_are_asked() -> None:
    """A row of two slots costs the same alone and beside a row of four."""
    logits = torch.randn(2, 4, 5, generator=seeded(), dtype=torch.float64)
    at, target = torch.arange(4).expand(2, 4), torch.tensor([[0, 0, 0, 0], [1, 2, 3, 0]])
    weight = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    together = Question(at, target, weight, at, loss=CTC(4, torch.tensor([1, 3])))
    alone = Question(at[:1, :2], target[:1, :2], weight[:1, :2], at[:1, :2], loss=CTC(4, torch.tensor([1])))
    assert torch.allclose(
        together.loss(logits, target)[0, 0], alone.loss(logits[:1, :2], target[:1, :2])[0, 0], **EXACT
    )
    with pytest.raises(ValueError, match="row 0 needs 3 slots"):
        Question(at, target, weight, at, loss=CTC(4, torch.tensor([2, 3]))).loss(logits, target)


def test_ctc_trains_a_model_by_its_own_head() -> None:
    """The mask's logit is -inf, and no gradient is not a number; it is that of the loss without the mask's column."""
    model = tiny(MDM)
    token = torch.full((1, 4), 6)
    layout = one_block(token, token == 6, torch.arange(4)[None])
    at, target = torch.arange(4)[None], torch.tensor([[1, 2, 0, 0]])
    question = Question(at, target, torch.full((1, 4), 0.25), at, loss=CTC(5, torch.tensor([2])))
    packed_losses(model, Packed(layout, (question,))).sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and all(bool(g.isfinite().all()) for g in grads) and any(bool((g != 0).any()) for g in grads)
    logits = model(layout).detach()[..., :6].requires_grad_()
    question.loss(logits, target).sum().backward()
    whole = torch.nn.functional.pad(logits.detach(), (0, 1), value=-torch.inf).requires_grad_()
    question.loss(whole, target).sum().backward()
    assert whole.grad is not None and logits.grad is not None
    assert torch.allclose(whole.grad[..., :6], logits.grad, **EXACT) and not whole.grad[..., 6].any()
    with pytest.raises(ValueError, match="blank=6 has no probability"):
        packed_losses(
            model, Packed(layout, (Question(at, target, torch.ones(1, 4), at, loss=CTC(6, torch.tensor([2]))),))
        )


# Layouts with values


@each_attention
@each_port
@torch.no_grad()
def test_entries_with_values_may_be_permuted_and_dropped(attention: Attention, port: Port) -> None:
    """To 1e-9: the order of the list means nothing, and entries that nobody sees can be left out."""
    model, layout = tiny(attention, port=port), valued(port)
    whole = model.states(layout)
    shuffle = torch.stack([torch.randperm(6, generator=seeded(s)) for s in (1, 2)])
    moved = model.states(layout.select(shuffle))
    assert torch.allclose(moved, whole.gather(1, shuffle[..., None].expand(-1, -1, 16)), **EXACT)
    gone = layout.without(layout.unsaid & (layout.order > 0))
    kept = gone.select_where(gone.document == 0)
    at = (gone.document == 0).int().argsort(dim=1, descending=True, stable=True)[:, : kept.shape[1]]
    rest = model.states(gone).gather(1, at[..., None].expand(-1, -1, 16))
    real = kept.document == 0
    assert torch.allclose(model.states(kept)[real], rest[real], **EXACT)


@each_port
@torch.no_grad()
def test_masks_hide_values(port: Port) -> None:
    """A value moves those that may look at its entry, and nobody else."""
    model, layout = tiny(SCDM, port=port), valued(port)
    assert layout.value is not None
    where = (layout.token == 0) & (layout.position == 2)
    other = replace(layout, value=torch.where(where[..., None], values_of(port, 2, 6, seed=9), layout.value))
    moved = (model.states(other) - model.states(layout)).abs().amax(-1)
    sees = (layout.mask(SCDM)[:, 0] & where[:, None]).any(2)
    # Through others, in two layers: whoever sees one that sees it.
    twice = (layout.mask(SCDM)[:, 0] & sees[:, None]).any(2) | sees
    assert (moved[~twice] < 1e-12).all() and bool((moved[sees & where.any(1, keepdim=True)] > 1e-9).all())


@each_port
@torch.no_grad()
def test_only_placeholders_show_their_value(port: Port) -> None:
    model, layout = tiny(MDM, port=port), valued(port)
    assert layout.value is not None
    hidden = torch.where((layout.token == 0)[..., None], layout.value, values_of(port, 2, 6, seed=5))
    assert torch.equal(model.embed(replace(layout, value=hidden)), model.embed(layout))


@each_port
@torch.no_grad()
def test_questions_of_different_ports_in_one_pass_are_answered_as_alone(port: Port) -> None:
    model, layout = tiny(CACHED_JOINT, port=port), valued(port)
    asked = layout.unsaid
    at = asked.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :3]
    slot, weight = torch.zeros_like(at), torch.full(at.shape, 1 / 6, dtype=torch.float64)
    loss = SquaredError() if isinstance(port, Vectors) else CrossEntropy()
    questions = (
        Question(at, torch.ones_like(at), weight, slot),
        Question(at, values_of(port, 2, 3, seed=4), weight, slot, "values", loss),
    )
    together = packed_losses(model, Packed(layout, questions))
    alone = torch.cat([packed_losses(model, Packed(layout, (q,))) for q in questions], 1)
    assert together.shape == (2, 6) and torch.allclose(together, alone, **EXACT)
    assert Packed(layout, questions).reduce(together) == pytest.approx(float(together.sum()) / 6)


@each_port
@torch.no_grad()
def test_packed_values_are_one_prefix_at_a_time(port: Port) -> None:
    """Blocks at every threshold beside clean values: each is answered as in a pass of its own (1e-9)."""
    given = torch.tensor([[True, False, False, False, False]])
    value = values_of(port, 1, 5)
    packed = MultiToken(window=2).pack(Absorbing(), torch.zeros_like(given).long(), given, 6, seeded(), value)
    model = tiny(CACHED_JOINT, port=port)
    (q,) = packed.questions
    assert model.values is not None
    answers: Any = model.values.predict(entries_of(model.states(packed.layout), q.at), q.target)
    for column in range(q.at.shape[1]):
        position = int(packed.layout.position[0, q.at[0, column]])
        start = int(packed.layout.horizon[0, q.at[0, column]]) - 1
        tokens = torch.tensor([[0] * (1 + start) + [6] * (4 - start)])
        unsaid, when = tokens == 6, torch.arange(5)[None]
        slot = torch.where(unsaid, when - start - 1, 0)
        layout = one_block(tokens, unsaid, torch.where(unsaid, (slot - 1) % 5, when))
        layout = replace(layout, value=value * ~unsaid[..., None]).select_where(~unsaid | (slot < 2))
        alone = entries_of(model.states(layout), torch.tensor([[position]]))
        theirs: Any = model.reader.predict(alone, q.target[:, [column]])
        mine, other = (a.value if isinstance(a, Seen) else a for a in (answers, theirs))
        assert torch.allclose(mine[:, column], other[:, 0], **EXACT)


@each_port
def test_no_value_that_is_asked_is_shown(port: Port) -> None:
    x0, given = torch.zeros(3, 7, dtype=torch.int64), torch.zeros(3, 7, dtype=torch.bool)
    value = values_of(port, 3, 7)
    packed = MaskedDiffusion().pack(Absorbing(), x0, given, 1, seeded(), value)
    assert packed.layout.value is not None
    masked = packed.layout.token == 1
    assert bool(masked.any()) and (packed.layout.value[masked] == 0).all()
    assert torch.equal(packed.layout.value[~masked], value[~masked])
    (q,) = packed.questions
    asked = value.gather(1, packed.layout.position.gather(1, q.at)[..., None].expand(-1, -1, value.shape[2]))
    assert q.port == "values" and torch.equal(q.target[q.real], asked[q.real])


def test_vectors_are_noised_at_their_own_times() -> None:
    """z = alpha x0 + sigma eps at every token's time; what is given is clean."""
    x0, given = torch.zeros(4, 7, dtype=torch.int64), torch.rand(4, 7, generator=seeded()) < 0.3
    value, process = values_of(VECTORS, 4, 7), Gaussian()
    packed = Denoising(times=Independent()).pack(process, x0, given, 1, seeded(1), value)
    (q,) = packed.questions
    assert isinstance(q.loss, SquaredError) and q.loss.eps is not None and q.loss.t is not None
    assert packed.layout.value is not None and packed.layout.time is not None
    assert torch.equal(packed.layout.value[given], value[given]) and (packed.layout.time[given] == 0).all()
    z = process.mix(Views(q.target, q.loss.eps), q.loss.t)
    shown = packed.layout.value.gather(1, q.at[..., None].expand(-1, -1, 3))
    assert torch.allclose(shown[q.real], z[q.real], **EXACT)
    assert torch.allclose(q.loss.t, packed.layout.time.gather(1, q.at).double())
    assert float(q.weight.sum()) == pytest.approx(1, abs=1e-6) and int(q.real.sum()) == int((~given).sum())


def test_values_that_are_not_shown_reach_no_gradient() -> None:
    model, layout = tiny(MDM, port=VECTORS), valued(VECTORS)
    assert layout.value is not None
    hidden = torch.where((layout.token == 0)[..., None], layout.value, torch.nan)
    model.embed(replace(layout, value=hidden)).sum().backward()
    assert model.values is not None
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.values.parameters())


def test_a_checkpoint_keeps_its_own_port(tmp_path: Path) -> None:
    tiny(MDM, port=VECTORS).save_pretrained(tmp_path)
    assert Denoiser.from_pretrained(tmp_path, port=VECTORS).port == VECTORS
    with pytest.raises(ValueError, match="leave port out"):
        Denoiser.from_pretrained(tmp_path, port=Vectors(4, placeholder=0))


@each_port
def test_a_port_is_saved_with_the_weights(port: Port, tmp_path: Path) -> None:
    model, layout = tiny(MDM, port=port), valued(port)
    model.save_pretrained(tmp_path)
    back = Denoiser.from_pretrained(tmp_path).double()
    assert back.port == port
    assert torch.equal(back.embed(layout), model.embed(layout))
    at = torch.tensor([[3, 4], [1, 2]])
    mine, other = (m.predict_values(layout, at) for m in (model, back))
    pairs = zip(*[(a.value,) if isinstance(a, Seen) else (a.first,) for a in (mine, other)], strict=True)
    assert all(torch.allclose(a, b, **EXACT) for a, b in pairs)


# Bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tiny(MDM, port=Vectors(3)), "no placeholder id.*give placeholder="),
        (lambda: tiny(MDM, port=Vectors(3, placeholder=6)), "give one of the other ids"),
        (lambda: tiny(MDM, port=Vectors(3, placeholder=9)), "give one of the other ids"),
        (lambda: Vectors(0), "width=0"),
        (lambda: Vectors(2, view="score"), "one of eps, x0, v, u"),  # pyright: ignore[reportArgumentType]
        (lambda: Codes(2, 1), "2 levels or more"),
        (lambda: tiny(MDM, port=VECTORS).embed(replace(valued(VECTORS), value=None)), "give Layout.value"),
        (lambda: tiny(MDM).embed(valued(VECTORS)), r"make it with port=us.Vectors"),
        (lambda: tiny(MDM, port=Vectors(2, placeholder=0)).embed(valued(VECTORS)), "of width 2"),
        (lambda: tiny(MDM, port=CODES).embed(valued(Vectors(2, placeholder=0))), "int64 codes"),
        (lambda: replace(valued(VECTORS), value=torch.zeros(2, 5, 3)), "give .batch, entries, width."),
        (lambda: tiny(MDM).predict_values(valued(VECTORS), torch.zeros(2, 1).long()), "no port of values"),
        (lambda: Question(*[torch.zeros(1, 1)] * 4, port="foo"), "give 'ids'"),  # pyright: ignore[reportArgumentType]
        (lambda: valued(VECTORS).join(valued(CODES)), "of width 3 and 2 do not join"),
        (lambda: SquaredError()(Seen(torch.zeros(1, 1, 2), "x0"), torch.zeros(1, 1, 1)), "make them equal"),
        (lambda: Gaussian().sample(torch.zeros(1, 2, 3), torch.zeros(1, 2), Reals(2)), "give floats"),
        (lambda: MaskedDiffusion().pack(Hybrid(), *ragged_clean(), 6, seeded(), torch.zeros(4, 7, 2)), "redraws ids"),
        (lambda: Denoising().pack(Gaussian(), *ragged_clean(), 6, seeded()), "noises vectors"),
        (
            lambda: NextTokenPrediction().pack(Absorbing(), *_placeholders(), 1, seeded(), torch.zeros(1, 3, 2)),
            "about ids",
        ),
    ],
)
def test_bad_input(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def _placeholders() -> tuple[Tensor, Tensor]:
    return torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[True, False, False]])


def test_the_head_of_codes_is_small_data() -> None:
    """Equal ports make equal shapes: what is recorded is enough to load the weights."""
    shapes = [{n: w.shape for n, w in CODES.build(16).state_dict().items()} for _ in range(2)]
    assert shapes[0] == shapes[1] and isinstance(CODES.build(16), CodeWeights)


@torch.no_grad()
def test_blocks_keep_clean_values_out_of_masks() -> None:
    """`blocks` shows values of context alone; its masks are of the mask id and hold none."""
    given = torch.tensor([[True, False, False, False]])
    clean = left_to_right(torch.zeros(1, 4, dtype=torch.int64), given)
    layout = blocks(clean, every_start(clean), torch.tensor([[0, 1]]), 6)
    assert set(layout.token[layout.unsaid].tolist()) == {6} and layout.value is None
    assert ask_masks(layout, clean.x0).one.port == "ids"
