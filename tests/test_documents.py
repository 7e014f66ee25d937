"""Documents that share rows, and rows that are shorter than their batch (float64, 1e-9).

Laws: one document a row is what it was before there were documents; several in a row are asked, answered and weighed
as each alone; a document's answers do not change when the others are taken away; what stands where nothing is there
changes nothing, and is in no pass; so for likelihoods. Every objective obeys.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from toy import EXACT, seeded, tiny

import unspoken as us
from unspoken.layout.documents import Documents
from unspoken.layout.entries import PADDING
from unspoken.layout.groups import Groups, Related
from unspoken.layout.packing import Packed, ask_masks
from unspoken.layout.questions import CTC
from unspoken.noise import Gaussian
from unspoken.training.base import Batch, Objective
from unspoken.training.losses import packed_losses

MASK = 6
OBJECTIVES: dict[str, tuple[Objective, us.Attention]] = {
    "masked": (us.MaskedDiffusion(), us.SCDM),
    "masked, bidirectional": (us.MaskedDiffusion(), us.MDM),
    "bound": (us.MaskedDiffusion(bound=True), us.ANY_ORDER),
    "groups": (us.MaskedDiffusion(groups=Groups(0.2)), us.CACHED_JOINT),
    "near": (us.MaskedDiffusion(groups=Groups(0.2, members="near")), us.JOINT),
    "distilled": (us.MaskedDiffusion(groups=Groups(both=True, distil=0.5, weight=1.0)), us.JOINT),
    "carried": (us.MaskedDiffusion(carry=1), us.CACHED_JOINT),
    "next token": (us.NextTokenPrediction(), us.CACHED_JOINT),
    "all latents": (us.MultiToken(), us.CACHED_JOINT),
    "window": (us.MultiToken(window=2, decay=0.5, next_token=0.3), us.CACHED_JOINT),
    "some prefixes": (us.MultiToken(window=3, prefixes=2), us.ANY_ORDER),
    "any order": (us.MultiToken(window=2, order="random"), us.ANY_ORDER),
    "teacherless": (us.Teacherless(), us.CACHED_JOINT),
    "registers": (us.MuToR(2), us.CACHED_JOINT),
    "blocks": (us.BlockDiffusion(2), us.CACHED_JOINT),
    "blocks bound": (us.BlockDiffusion(3, bound=True), us.CACHED_JOINT),
    "denoising": (us.Denoising(), us.MDM),
    "denoising, blocks": (us.Denoising(us.BlockConstant(2)), us.MDM),
}
DETERMINED = ("next token", "all latents", "window", "teacherless")
every = pytest.mark.parametrize("name", OBJECTIVES)

LENGTHS = (5, 3, 7, 2, 4)  # of documents, longest 7; the last of each is not given
SHARED = torch.tensor(
    [
        [0, 0, 0, 0, 0, 3, 3, 3, PADDING, PADDING],
        [9, 9, 9, 9, 9, 9, 9, PADDING, 2, 2],
        [PADDING, 1, 1, 1, 1, PADDING, PADDING, PADDING, PADDING, PADDING],
    ]
)
ORDER = (0, 1, 3, 2, 4)  # of a row the documents go by their numbers


def documents() -> list[tuple[Tensor, Tensor]]:
    """Tokens of each document, and which are given: the first and some others."""
    generator = seeded(3)
    found = []
    for n in LENGTHS:
        given = torch.rand(n, generator=generator) < 0.3
        given[0], given[-1] = True, False
        found.append((torch.randint(MASK, (n,), generator=generator), given))
    return found


def shared(filling: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The documents in three rows: x0, given and which document each token is of. filling: what stands in padding."""
    x0, given = torch.full_like(SHARED, filling), torch.ones_like(SHARED, dtype=torch.bool)
    its = iter(documents())
    for row, numbers in zip(range(3), ((0, 3), (9, 2), (1,)), strict=True):
        for number in numbers:
            here = SHARED[row] == number
            x0[row, here], given[row, here] = next(its)
    return x0, given, SHARED


def one_a_row() -> tuple[Tensor, Tensor, Tensor]:
    """The documents in rows of their own, as wide as the longest, in the order in which shared rows have them."""
    rows, every = (len(LENGTHS), max(LENGTHS)), documents()
    x0, given, document = torch.zeros(rows).long(), torch.ones(rows).bool(), torch.full(rows, PADDING)
    for row, number in enumerate(ORDER):
        n = LENGTHS[number]
        (x0[row, :n], given[row, :n]), document[row, :n] = every[number], 0
    return x0, given, document


def pack(objective: Objective, x0: Tensor, given: Tensor, document: Tensor | None, seed: int = 5) -> Packed:
    return objective.pack(us.Absorbing(), x0, given, MASK, seeded(seed), document=document)


def losses(model: us.Denoiser, packed: Packed) -> list[Tensor]:
    """Of each question, those that are asked, row by row."""
    split = packed_losses(model, packed).split([q.at.shape[1] for q in packed.asked], 1)
    return [its[q.real] for its, q in zip(split, packed.asked, strict=True)]


@every
@torch.no_grad()
def test_one_document_a_row_is_what_it_was(name: str) -> None:
    objective, rule = OBJECTIVES[name]
    x0, given, _ = one_a_row()
    given[:, 4:] &= torch.arange(5)[:, None] > 2  # rows say different numbers of tokens
    model = tiny(rule, carry=objective.carries)
    a, b = (pack(objective, x0, given, document) for document in (None, torch.zeros_like(x0)))
    for p, q in zip(losses(model, a), losses(model, b), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(a.weight[a.weight > 0], b.weight[b.weight > 0])
    there = [p.layout.document != PADDING for p in (a, b)]
    for field in ("token", "position", "order", "horizon", "block", "document"):
        assert torch.equal(*(getattr(p.layout, field)[keep] for p, keep in zip((a, b), there, strict=True)))


@every
@torch.no_grad()
def test_documents_in_a_row_are_asked_and_answered_as_in_rows_of_their_own(name: str) -> None:
    objective, rule = OBJECTIVES[name]
    model = tiny(rule, carry=objective.carries, positions=7)
    rows, own = pack(objective, *shared()), pack(objective, *one_a_row())
    assert rows.layout.shape[0] == 3 and own.layout.shape[0] == 5
    for p, q, mine, its in zip(rows.asked, own.asked, losses(model, rows), losses(model, own), strict=True):
        assert len(mine) and torch.equal(p.weight[p.real], q.weight[q.real])
        torch.testing.assert_close(mine, its, **EXACT)


@pytest.mark.parametrize("name", DETERMINED)
@torch.no_grad()
def test_and_as_a_document_alone_without_padding(name: str) -> None:
    objective, rule = OBJECTIVES[name]
    model, every = tiny(rule), documents()
    alone = [pack(objective, every[number][0][None], every[number][1][None], None) for number in ORDER]
    rows = pack(objective, *shared())
    for i, found in enumerate(losses(model, rows)):
        torch.testing.assert_close(found, torch.cat([losses(model, p)[i] for p in alone]), **EXACT)


@every
@torch.no_grad()
def test_a_document_does_not_see_the_others_nor_what_is_not_there(name: str) -> None:
    """Each kept alone in the pass; every entry that stays is a token of its document, at its place in it."""
    objective, rule = OBJECTIVES[name]
    if objective.carries:
        return  # a second pass reads the first: both are cut in the test above
    model = tiny(rule)
    packed, (x0, _, document) = pack(objective, *shared()), shared()
    every = packed_losses(model, packed)
    its = Documents.of(document, x0)
    clean = {int(n): x0[r, document[r] == n] for r, n in zip(its.row, its.name, strict=True)}
    for number, tokens in clean.items():
        here = packed.layout.document == number
        assert bool((packed.layout.position[here] < len(tokens)).all())
        said = here & packed.layout.said
        assert torch.equal(packed.layout.token[said], tokens[packed.layout.position[said]])
        part = packed_losses(model, Packed(packed.layout.without(~here), packed.questions))
        at = torch.cat([q.at for q in packed.questions], 1)
        asked = (packed.weight > 0) & here.gather(1, at)
        if "distilled" not in name:  # whose teacher is another question's
            torch.testing.assert_close(part[asked], every[asked], **EXACT)
    assert set(packed.layout.document.unique().tolist()) <= {PADDING, *clean}


@every
@torch.no_grad()
def test_what_stands_in_padding_changes_nothing(name: str) -> None:
    objective, rule = OBJECTIVES[name]
    model = tiny(rule, carry=objective.carries)
    x0, given, document = shared(filling=4)
    given = given & (document != PADDING)  # nor whether it is marked as given
    found = [losses(model, pack(objective, *rows)) for rows in (shared(), (x0, given, document))]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every
def test_weights_sum_to_one_and_padding_has_none(name: str) -> None:
    objective, _ = OBJECTIVES[name]
    x0, given, document = shared()
    packed = pack(objective, x0, given, document)
    for part in packed.passes:
        asked = torch.cat([part.layout.document.gather(1, q.at)[q.real] for q in part.questions])
        assert len(asked) and bool((asked != PADDING).all())
    if "bound" not in name and "denoising" not in name:
        assert float(packed.weight.sum()) == pytest.approx(1, abs=1e-6)


@every
@torch.no_grad()
def test_rows_of_no_document_cost_nothing(name: str) -> None:
    objective, rule = OBJECTIVES[name]
    model = tiny(rule, carry=objective.carries)
    x0, given, document = shared()
    more = [torch.cat([its, its[:1]]) for its in (x0, given, document)]
    more[2][3] = PADDING
    found = [losses(model, pack(objective, a, b, c)) for a, b, c in ((x0, given, document), more)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    nothing = pack(objective, x0, given, torch.full_like(document, PADDING))
    assert float(nothing.reduce(packed_losses(model, nothing))) == 0 and nothing.layout.shape[0] == 3


@torch.no_grad()
def test_values_have_documents_too() -> None:
    x0, given, document = shared()
    own = one_a_row()
    its = Documents.of(document, x0)
    for objective, process, values in (
        (us.Denoising(weight="flat"), Gaussian(), torch.randn(3, 10, 2, generator=seeded(1))),
        (us.MaskedDiffusion(), us.Absorbing(), torch.randint(4, (3, 10, 2), generator=seeded(1))),
    ):
        ids, rows = torch.zeros_like(x0), []
        for i, g, d, value in ((ids, given, document, values), (own[0] * 0, own[1], own[2], its.split(values))):
            rows.append(objective.pack(process, i, g, 1, seeded(2), value, document=d))
        a, b = (p.one for p in rows)
        assert torch.equal(a.target[a.real], b.target[b.real]) and torch.equal(a.weight[a.real], b.weight[b.real])
        shown = [p.layout.value[p.layout.document != PADDING] for p in rows if p.layout.value is not None]
        assert torch.equal(*shown) and len(shown) == 2


@pytest.mark.parametrize("rule", [us.SCDM, us.MDM, us.CACHED_JOINT, us.SIDM], ids=lambda rule: rule.name)
@torch.no_grad()
def test_likelihoods_are_sums_over_documents(rule: us.Attention) -> None:
    model, (x0, given, document), own = tiny(rule), shared(), one_a_row()
    its = Documents.of(document, x0)
    measures: tuple[Any, ...] = (
        lambda x, g, d=None: us.nelbo(model, us.Absorbing(), x, g, seeded(1), draws=3, document=d),
        lambda x, g, d=None: us.nll_by_latents(model, x, g, [0, 1, 9], seeded(1), draws=3, document=d),
    )
    for measure in measures:
        each = measure(*own)
        torch.testing.assert_close(measure(x0, given, document), its.add(each), **EXACT)
        assert torch.equal(measure(own[0], own[1]), measure(own[0], own[1], torch.zeros_like(own[0])))
        other = own[0] + (own[2] == PADDING)
        assert torch.equal(each, measure(other, own[1], own[2]))


@torch.no_grad()
def test_short_rows_have_the_likelihood_of_rows_that_are_short() -> None:
    """Beside all latents a token costs what it costs without padding: exactly, in a pass with a fixed draw."""
    model, own = tiny(us.SIDM), one_a_row()
    # One token that is not given: what is drawn is the same for every width.
    x0, document = own[0], own[2]
    given = torch.arange(7) != ((document != PADDING).sum(1) - 1)[:, None]
    padded = us.nll_by_latents(model, x0, given, [0], seeded(1), draws=1, document=document)
    for row, n in enumerate((document != PADDING).sum(1).tolist()):
        short = us.nll_by_latents(model, x0[row : row + 1, :n], given[row : row + 1, :n], [0], seeded(1), draws=1)
        torch.testing.assert_close(padded[row : row + 1], short, **EXACT)


def test_split_and_add_are_the_rows_again() -> None:
    x0, _, document = shared()
    its = Documents.of(document, x0)
    assert its.name.tolist() == [0, 3, 2, 9, 1] and its.row.tolist() == [0, 0, 1, 1, 2]
    for row, number, tokens, there in zip(its.row, its.name, its.split(x0), its.present, strict=True):
        assert torch.equal(tokens[there], x0[row, document[row] == number])
    assert its.add(its.present.sum(1)).tolist() == (document != PADDING).sum(1).tolist()


class Aligned(us.MaskedDiffusion):
    """Asks by a loss that has a tensor for each row."""

    def _pack(self, batch: Batch) -> Packed:
        packed = super()._pack(batch)
        loss = CTC(0, torch.ones(len(batch.x0), dtype=torch.int64))
        q = ask_masks(packed.layout, batch.x0).one
        return Packed(packed.layout, (type(q)(q.at, q.target, q.weight, q.slot, loss=loss),))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (SHARED.int(), "document is torch.int32"),
        (SHARED[:, :4], "document is torch.int64 of shape"),
        (SHARED - 1, "document holds -2 to 8"),
        (SHARED + 2**31, "give -1 for none"),
    ],
    ids=["type", "shape", "below", "above"],
)
def test_documents_that_are_none_are_refused(document: Tensor, said: str) -> None:
    x0, given, _ = shared()
    with pytest.raises(ValueError, match=said):
        pack(us.MaskedDiffusion(), x0, given, document)


def test_what_can_not_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="CTC has a tensor of shape"):
        pack(Aligned(), *shared())
    table = Related(tuple((0.0,) * 10 for _ in range(10)))
    with pytest.raises(ValueError, match="Related is a table of 10 positions, and rows have 7"):
        pack(us.MaskedDiffusion(groups=Groups(0.0, members=table)), *shared())
    x0, given, document = shared()
    given[0, :5] = False  # a document, not its row, has no prompt
    with pytest.raises(ValueError, match="give every row a prompt"):
        pack(us.NextTokenPrediction(), x0, given, document)
