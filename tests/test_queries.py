"""Query-CTC: its loss is the sum over all alignments, its decoder collapses a path, and pictures are read as a set."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import EXACT, seeded

import unspoken as us
from unspoken.layout.packing import left_to_right
from unspoken.layout.queries import queries
from unspoken.layout.questions import check_fit, slots_needed
from unspoken.systems import narvl
from unspoken.tasks.base import Examples

VOCAB, MASK, BLANK = 9, 8, 7
SHOWN, SAID, WIDTH = 3, 6, 2
PORT = us.Vectors(WIDTH, placeholder=0, head="none")


def data(n: int = 4, seed: int = 0) -> Examples:
    """Three vectors, then answers of 0 to 3 tokens, filled up with the blank."""
    generator = seeded(seed)
    x0 = torch.randint(1, BLANK, (n, SHOWN + SAID), generator=generator)
    x0[:, :SHOWN] = 0
    length = torch.randint(0, 4, (n, 1), generator=generator)
    place = torch.arange(SHOWN + SAID)
    x0 = torch.where((place >= SHOWN) & (place >= SHOWN + length), BLANK, x0)
    value = torch.full((*x0.shape, WIDTH), torch.nan, dtype=torch.float64)
    value[:, :SHOWN] = torch.randn(n, SHOWN, WIDTH, generator=generator, dtype=torch.float64)
    return Examples(x0, (place < SHOWN).expand_as(x0), value)


def model(attention: us.Attention = us.CACHED_JOINT, seed: int = 0) -> us.Denoiser:
    torch.manual_seed(seed)
    config = us.Trunk(layers=2, width=16, heads=2, init=0.3).config(VOCAB, 32)
    return us.Denoiser.from_config(config, attention=attention, mask_id=MASK, positions=16, port=PORT).double()


def packed(objective: us.QueryCTC, its: Examples, seed: int = 1) -> us.Packed:
    return objective.pack(us.Absorbing(), its.x0, its.given, MASK, seeded(seed), its.value)


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


# The loss


def test_ctc_is_brute_force_for_every_target() -> None:
    """Five queries, four tokens, the last of them the blank: all 1,024 paths, and all that they collapse to."""
    q, v, blank = 5, 4, 3
    logits = torch.randn(1, q, v, generator=seeded(), dtype=torch.float64)
    logp = logits[0].log_softmax(-1)
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(v), repeat=q):
        said = collapsed(path, blank)
        total[said] = total.get(said, 0.0) + math.exp(sum(float(logp[i, token]) for i, token in enumerate(path)))
    targets = [y for n in range(q + 1) for y in itertools.product(range(blank), repeat=n)]
    fits = [y for y in targets if len(y) + sum(a == b for a, b in itertools.pairwise(y)) <= q]
    assert set(total) == set(fits) and len(fits) == 148
    target = torch.tensor([[*y, *[0] * (q - len(y))] for y in fits])
    lengths = torch.tensor([len(y) for y in fits])
    losses = us.CTC(blank, lengths)(logits.expand(len(fits), -1, -1), target)[:, 0]
    assert torch.allclose(
        losses.exp().reciprocal(), torch.tensor([total[y] for y in fits], dtype=torch.float64), **EXACT
    )
    assert float((-losses).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_the_gradient_is_softmax_less_occupancy() -> None:
    """Occupancy: with what probability a path that collapses to the target says a token at a query."""
    q, v, blank, y = 4, 4, 3, (1, 2)
    logits = torch.randn(1, q, v, generator=seeded(), dtype=torch.float64, requires_grad=True)
    loss = us.CTC(blank, torch.tensor([2]))(logits, torch.tensor([[*y, 0, 0]])).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    p = logits.detach()[0].softmax(-1)
    paths = [path for path in itertools.product(range(v), repeat=q) if collapsed(path, blank) == y]
    chances = [math.prod(float(p[i, token]) for i, token in enumerate(path)) for path in paths]
    weight = torch.tensor(chances, dtype=torch.float64)
    occupancy = torch.zeros(q, v, dtype=torch.float64)
    for share, path in zip(weight / weight.sum(), paths, strict=True):
        occupancy[range(q), path] += share
    assert torch.allclose(gradient[0], p - occupancy, **EXACT)
    assert torch.allclose(gradient.sum(-1), torch.zeros(1, q, dtype=torch.float64), **EXACT)


def test_targets_that_do_not_fit_are_counted_and_refused_when_a_batch_is_made() -> None:
    target, lengths = torch.tensor([[1, 1, 1, 0], [1, 2, 1, 0], [2, 2, 2, 0]]), torch.tensor([3, 3, 3])
    assert slots_needed(target, lengths).tolist() == [5, 3, 5]
    with pytest.raises(ValueError, match=r"row 0 needs 5 slots .* the block has 4 \(and so do 1 more of 3\)"):
        check_fit(target, lengths, torch.tensor([4, 4, 4]))
    its = data()
    x0 = its.x0.clone()
    x0[2, SHOWN:] = 1  # six ones in six queries
    with pytest.raises(ValueError, match="row 2 needs 11 slots"):
        packed(us.QueryCTC(BLANK), replace(its, x0=x0))


@torch.no_grad()
def test_as_many_queries_as_tokens_and_no_repeats_is_position_wise() -> None:
    its, net = data(), model()
    x0 = its.x0.clone()
    x0[:, SHOWN:] = torch.stack([torch.randperm(SAID, generator=seeded(row)) + 1 for row in range(len(x0))])
    its = replace(its, x0=x0)
    free = us.packed_losses(net, packed(us.QueryCTC(BLANK), its))
    alone = us.Teacherless().pack(us.Absorbing(), its.x0, its.given, MASK, None, its.value)
    wise = us.packed_losses(net, alone)
    assert torch.allclose(free[:, 0], wise.sum(1), **EXACT) and not free[:, 1:].any()


@torch.no_grad()
def test_an_answer_counts_once_whatever_its_length() -> None:
    """The loss of a batch is the mean over rows of what each costs alone; an empty answer costs the blanks."""
    its, net = data(6), model()
    whole = packed(us.QueryCTC(BLANK), its)
    assert float(whole.weight.sum()) == pytest.approx(1)
    one = [packed(us.QueryCTC(BLANK), its.rows(slice(row, row + 1))) for row in range(6)]
    losses = [float(part.reduce(us.packed_losses(net, part))) for part in one]
    assert float(whole.reduce(us.packed_losses(net, whole))) == pytest.approx(
        sum(losses) / 6, rel=1e-6
    )  # weights are float32
    x0 = torch.where(its.given, its.x0, BLANK)
    empty = packed(us.QueryCTC(BLANK), replace(its, x0=x0))
    logp = net(empty.layout, empty.one.at).log_softmax(-1)[..., BLANK].sum(1)
    assert torch.allclose(us.packed_losses(net, empty)[:, 0], -logp, **EXACT)


@torch.no_grad()
def test_patches_are_a_set_and_queries_are_not() -> None:
    """Permuting the patches with their positions changes nothing; permuting the queries does."""
    its, net = data(), model()
    pack = packed(us.QueryCTC(BLANK), its)
    entries = pack.layout.shape[1]
    order = torch.tensor([2, 0, 1, *range(SHOWN, entries)]).expand(len(its), -1)
    moved = replace(pack, layout=pack.layout.select(order))
    assert torch.allclose(us.packed_losses(net, moved), us.packed_losses(net, pack), **EXACT)
    turned = replace(pack.one, at=pack.one.at.flip(1))
    other = us.packed_losses(net, replace(pack, questions=(turned,)))
    assert not torch.allclose(other[:, 0], us.packed_losses(net, pack)[:, 0])


# Collapsing


def test_a_path_collapses_to_what_it_says() -> None:
    paths = torch.tensor(list(itertools.product(range(3), repeat=5)))
    said = us.collapse(paths, 2)
    for path, got in zip(paths.tolist(), said.tolist(), strict=True):
        want = collapsed(tuple(path), 2)
        assert got == [*want, *[2] * (5 - len(want))]
    # An answer with a blank between all its tokens collapses to itself, and again.
    answer = torch.tensor([1, 1, 0, 1])
    spread = torch.stack([answer, torch.full_like(answer, 2)], 1).flatten()
    assert us.collapse(spread, 2).tolist() == [1, 1, 0, 1, 2, 2, 2, 2]
    assert us.collapse(paths.view(3, 81, 5), 2).equal(said.view(3, 81, 5))


# Decoding


@torch.no_grad()
def test_one_pass_says_the_likeliest_path_collapsed() -> None:
    its, net = data(8), model()
    prompt = its.prompt(MASK)
    decoder = us.OnePass(BLANK)
    (step,) = us.decode(net, prompt, decoder=decoder)
    assert step.entries == SHOWN + SAID and bool(step.chosen.all())
    pack = packed(us.QueryCTC(BLANK), its)
    logp = net(pack.layout, pack.one.at).log_softmax(-1)
    path = logp.argmax(-1)
    assert torch.equal(step.likeliest, path)
    said = us.collapse(path, BLANK)
    assert torch.equal(step.tokens[:, SHOWN:], said) and torch.equal(step.tokens[:, :SHOWN], its.x0[:, :SHOWN])
    # A path is one of those that collapse to what it says.
    lengths = (said != BLANK).sum(1)
    losses = us.CTC(BLANK, lengths)(logp, torch.where(said == BLANK, 0, said))[:, 0]
    assert bool((logp.amax(-1).sum(1) <= -losses + 1e-9).all())
    alone = torch.cat([us.last(us.decode(net, row[None], decoder=decoder), row[None]) for row in prompt])
    assert torch.equal(alone, step.tokens)
    drawn = us.last(us.decode(net, prompt, decoder=decoder, temperature=2.0, generator=seeded(1)), prompt)
    assert not torch.equal(drawn, step.tokens)


@torch.no_grad()
def test_rows_with_fewer_queries_say_what_they_say_alone() -> None:
    its, net = data(3), model()
    prompt = its.prompt(MASK)
    prompt[0, -2:, 0] = 3.0  # given
    said = us.last(us.decode(net, prompt, decoder=us.OnePass(BLANK)), prompt)
    assert said[0, -2:].tolist() == [3, 3]
    for row in range(3):
        alone = us.last(us.decode(net, prompt[row : row + 1], decoder=us.OnePass(BLANK)), prompt)
        assert torch.equal(alone[0], said[row])
    nothing = its.x0.double()[..., None]
    whole = torch.cat([nothing, its.value if its.value is not None else nothing], -1)
    assert list(us.decode(net, whole, decoder=us.OnePass(BLANK))) == []


@torch.no_grad()
@pytest.mark.parametrize("together", [1, 2, 4])
def test_queries_see_their_neighbours_alone(together: int) -> None:
    """What a query says depends on the queries of its group, and on no other; a group of one is cached-alone."""
    its, net = data(), model()
    clean = left_to_right(its.x0, its.given)
    pack = packed(us.QueryCTC(BLANK, together), its)
    logits = net(pack.layout, pack.one.at)
    for first in range(0, SAID, together):
        gone = pack.layout.unsaid & ~torch.isin(
            pack.layout.position - SHOWN, torch.arange(first, min(first + together, SAID))
        )
        part = net(pack.layout.without(gone), pack.one.at[:, first : first + together])
        assert torch.allclose(part, logits[:, first : first + together], **EXACT)
    if together == 1:
        net.attention = us.CACHED_ALONE
        layout, at = queries(replace(clean, value=None), MASK)
        layout = replace(layout, value=pack.layout.value)
        assert torch.allclose(net(layout, at), logits, **EXACT)


def test_any_number_of_queries_is_drawn_for_each_row() -> None:
    pack = packed(us.QueryCTC(BLANK, together=-1), data(200))
    most = pack.layout.block.amax(1) + 1  # groups of a row
    assert set(most.tolist()) == {1, 2, 3, 6}  # groups of 6, of 3 to 5, of 2, of 1
    assert us.QueryCTC(BLANK, -1).decoder(us.Absorbing())["together"] == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: us.QueryCTC(-1), "blank"),
        (lambda: us.QueryCTC(BLANK, -2), "0 for all, -1 for any"),
        (lambda: us.QueryCTC(BLANK).check(us.SCDM), "ordered latents"),
        (lambda: us.QueryCTC(BLANK, 2).check(us.MDM), "cached-joint or joint"),
        (lambda: us.OnePass(BLANK, together=-1), "together"),
        (lambda: us.collapse(torch.zeros(3), -1), "blank"),
        (lambda: us.decode(model(), data().prompt(MASK), decoder=us.OnePass(MASK)), "other than the mask"),
        (lambda: us.decode(model(), data().prompt(MASK), decoder=us.OnePass(99)), "blank=99"),
        (lambda: narvl.queries(us.tasks.Sudoku()), "shows no picture"),
        (lambda: us.Train(us.tasks.Sudoku(2, 2), attention=us.MDM, objective=us.QueryCTC(4)), "beside the mask"),
        (
            lambda: replace(narvl.queries(us.tasks.Strips()), objective=us.QueryCTC(1)),
            "fills up its answers, 13",
        ),
        (
            lambda: us.QueryCTC(BLANK).pack(us.Uniform(), data().x0, data().given, MASK),
            "take the objective Denoising",
        ),
        (
            lambda: us.QueryCTC(BLANK).pack(
                us.Absorbing(), data().x0, data().given, MASK, document=torch.zeros_like(data().x0)
            ),
            "one document each",
        ),
    ],
)
def test_what_can_not_be_is_said(make: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        make()


# End to end

SHORT: dict[str, Any] = {"steps": 6, "batch": 8, "warmup": 1, "save": 3, "validate": 3, "validation_examples": 8}


@pytest.mark.parametrize("system", [narvl.queries, narvl.position_wise, narvl.left_to_right])
def test_a_system_trains_saves_and_answers(system: Any, tmp_path: Path) -> None:
    task = us.tasks.Strips(spellings=2)
    net = us.train(system(task, **SHORT), tmp_path / "run")
    prompt = task.sample("test", 3).prompt(task.mask_id)
    steps = list(us.decode(us.load(tmp_path / "run"), prompt))
    assert len(steps) == (task.queries if system is narvl.left_to_right else 1)
    assert task.score(prompt, steps[-1].answer).shape == (3,)
    assert torch.equal(steps[-1].answer, us.last(us.decode(net, prompt), prompt))


def test_a_run_goes_on_after_a_stop_as_if_nothing_had_been(tmp_path: Path) -> None:
    train = narvl.queries(us.tasks.Strips(), together=-1, **SHORT)
    whole = us.train(train, tmp_path / "whole").state_dict()
    for update in us.training(train, tmp_path / "run"):
        if update.step == 4:
            break
    again = us.train(train, tmp_path / "run").state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@torch.no_grad()
def test_a_row_stops_at_its_end() -> None:
    """Up to the first end all is what it would be without; after it all is the end."""
    its, net = data(8), model(seed=3)
    prompt = its.prompt(MASK)
    whole = us.last(us.decode(net, prompt, decoder=us.NextToken()), prompt)
    end = int(whole[:, SHOWN:].flatten().mode().values)
    steps = list(us.decode(net, prompt, decoder=narvl.UntilEnd(us.NextToken(), end)))
    said = steps[-1].answer[:, SHOWN:]
    ended = (whole[:, SHOWN:] == end).long().cummax(1).values > 0
    assert bool(ended.any()) and torch.equal(said, torch.where(ended, end, whole[:, SHOWN:]))
    going = (~ended).sum(1) + 1
    rows = torch.stack([torch.isin(torch.arange(8), step.rows) for step in steps]).sum(0)
    assert torch.equal(rows, going.clamp_max(SAID))


def test_a_teacher_is_learned_from(tmp_path: Path) -> None:
    """The file holds its answers, right or not; a run on it draws from nothing else, and is judged as before."""
    task = us.tasks.Strips(spellings=2, validation=20, test=20)
    answers = task.sample("train", 30, seeded()).x0  # those that `taught` asks, too

    class Oracle:
        """Says the stored answers, every third with a word too many."""

        def steps(self, model: us.Model, tokens: torch.Tensor, **options: Any) -> Any:
            said = answers.clone()
            said[::3, -1] = 1
            unsaid = torch.ones_like(said, dtype=torch.bool)
            read = (said, torch.ones(said.shape))
            yield us.Step.of_all(0, said, said, unsaid, read, mask_id=task.mask_id, entries=1)

    share = narvl.taught(model(), task, tmp_path / "taught.txt", 30, decoder=Oracle(), seed=0)
    assert share == pytest.approx(2 / 3)
    train = narvl.distilled(narvl.queries(task, **SHORT), tmp_path / "taught.txt")
    assert train.task.size("train") == 30 and train.task.size("test") == 20
    drawn = {tuple(row) for row in train.task.sample("train", 400, seeded(1)).x0.tolist()}
    answers[::3, -1] = 1
    assert drawn == {tuple(row) for row in answers.tolist()}
    assert torch.equal(train.task.sample("test", 20).x0, task.sample("test", 20).x0)
    us.train(replace(train, steps=2), tmp_path / "run")


def test_a_teacher_that_stutters_is_not_learned_from(tmp_path: Path) -> None:
    task = us.tasks.Strips()

    class Stutterer:
        def steps(self, model: us.Model, tokens: torch.Tensor, **options: Any) -> Any:
            said = tokens[..., 0].long()
            said[:, task.asked :] = 1
            read = (said, torch.ones(said.shape))
            yield us.Step.of_all(0, said, said, said > 0, read, mask_id=task.mask_id, entries=1)

    with pytest.raises(ValueError, match="none of 5 answers fits into 16 queries"):
        narvl.taught(model(), task, tmp_path / "taught.txt", 5, decoder=Stutterer())
    assert not (tmp_path / "taught.txt").exists()
