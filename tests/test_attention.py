"""The heart's rule: hand-written tables, and one predicate behind both masks."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask
from toy import seeded, tiny

from unspoken.layout.attention import ATTENTIONS, MDM, Attention
from unspoken.layout.entries import FOREVER, PADDING, Layout, draw_ranks, one_block, random_order
from unspoken.model.prediction import predictor
from unspoken.training.objective import Denoising

# Three context tokens (two of the prompt, one committed at step 1), then three latents of ranks 0, 1, 2.
# A row is a query, a column a key.
TABLES = {
    "mdm": "111111 111111 111111 111111 111111 111111",
    "scdm": "111000 111000 111000 111100 111110 111111",
    "sidm": "111000 111000 111000 111100 111010 111001",
    "joint": "111000 111000 111000 111111 111111 111111",
    "any-order": "110000 110000 111000 111100 111110 111111",
    "cached-joint": "110000 110000 111000 111111 111111 111111",
    "cached-alone": "110000 110000 111000 111100 111010 111001",
}


def ints(*values: int) -> torch.Tensor:
    return torch.tensor([values])


def table(text: str) -> torch.Tensor:
    return torch.tensor([[c == "1" for c in row] for row in text.split()])


def six_tokens() -> Layout:
    unsaid = torch.tensor([[False, False, False, True, True, True]])
    return one_block(ints(0, 1, 2, 9, 9, 9), unsaid, ints(0, 0, 1, 0, 1, 2))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_table(name: str) -> None:
    assert torch.equal(six_tokens().mask(ATTENTIONS[name])[0, 0], table(TABLES[name]))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_name_and_cache(name: str) -> None:
    rule = ATTENTIONS[name]
    assert rule.name == name
    assert rule.cacheable == (name in ("any-order", "cached-joint", "cached-alone"))


def test_latents_of_equal_order_do_not_see_each_other_when_ordered() -> None:
    unsaid = torch.tensor([[True, True, True]])
    layout = one_block(ints(9, 9, 9), unsaid, ints(0, 1, 1))
    assert torch.equal(layout.mask(Attention("causal", "ordered"))[0, 0], table("100 110 101"))


def test_blocks_keep_to_themselves_and_to_their_horizon() -> None:
    # Two context tokens (orders 0, 1); block 0 branches off after the first, block 1 after both.
    layout = Layout(
        token=ints(0, 1, 9, 9, 9, 9),
        position=ints(0, 1, 1, 2, 2, 3),
        order=ints(0, 1, 0, 1, 0, 1),
        horizon=ints(1, 2, 1, 1, 2, 2),
        block=ints(-1, -1, 0, 0, 1, 1),
        document=ints(0, 0, 0, 0, 0, 0),
    )
    assert torch.equal(
        layout.mask(Attention("causal", "joint"))[0, 0], table("100000 110000 101100 101100 110011 110011")
    )


def test_documents_and_padding_are_invisible_to_others() -> None:
    layout = Layout(
        token=ints(0, 1, 2, 9),
        position=ints(0, 0, 1, 1),
        order=ints(0, 0, 0, 0),
        horizon=ints(1, 1, 1, FOREVER),
        block=ints(-1, -1, -1, 0),
        document=ints(0, 1, PADDING, 1),
    )
    assert torch.equal(layout.mask(MDM)[0, 0], table("1000 0101 0010 0101"))
    assert layout.said.tolist() == [[True, True, False, False]]
    assert layout.unsaid.tolist() == [[False, False, False, True]]


def test_every_entry_sees_itself() -> None:
    """A row of the mask without a True would turn a softmax into NaN."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.zeros(8, 10, dtype=torch.int64)
    unsaid = torch.rand(8, 10, generator=generator) < 0.5
    given = ~unsaid & (torch.rand(8, 10, generator=generator) < 0.3)
    layout = random_order(tokens, unsaid, given, generator).select_where(torch.rand(8, 10, generator=generator) < 0.7)
    for rule in ATTENTIONS.values():
        assert layout.mask(rule)[:, 0].diagonal(dim1=1, dim2=2).all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_flex_mask_is_the_dense_mask(name: str) -> None:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.zeros(3, 12, dtype=torch.int64)
    unsaid = torch.rand(3, 12, generator=generator) < 0.5
    layout = random_order(tokens, unsaid, torch.zeros_like(unsaid), generator)
    layout = layout.select_where(torch.rand(3, 12, generator=generator) < 0.8)
    rule = ATTENTIONS[name]
    flex = create_mask(layout.block_mask(rule).mask_mod, 3, 1, *2 * [layout.shape[1]], device="cpu")
    assert torch.equal(flex, layout.mask(rule))


def test_random_order_ranks_latents_and_dates_context() -> None:
    generator = torch.Generator().manual_seed(3)
    unsaid = torch.rand(50, 9, generator=generator) < 0.5
    given = ~unsaid & (torch.rand(50, 9, generator=generator) < 0.4)
    layout = random_order(torch.zeros(50, 9, dtype=torch.int64), unsaid, given, generator)
    for row in range(50):
        order = layout.order[row]
        assert sorted(order[unsaid[row]].tolist()) == list(range(int(unsaid[row].sum())))
        committed = ~unsaid[row] & ~given[row]
        assert sorted(order[committed].tolist()) == list(range(1, 1 + int(committed.sum())))
        assert (order[given[row]] == 0).all()


def test_ranks_are_uniform() -> None:
    """Each of the 6 orders of 3 cells of 6,000 rows: chi-square with 5 degrees; false alarm 1 in 100,000."""
    among = torch.tensor([[True, False, True, True]]).expand(6000, 4)
    ranks = draw_ranks(among, torch.Generator().manual_seed(4))[:, [0, 2, 3]]
    codes = (ranks * torch.tensor([9, 3, 1])).sum(1)
    counts = codes.unique(return_counts=True)[1].double()
    assert len(counts) == 6
    chi2 = ((counts - 1000) ** 2 / 1000).sum()
    assert torch.special.gammaincc(torch.tensor(2.5, dtype=torch.float64), chi2 / 2) > 1e-5


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        (("forward", "joint"), "bidirectional"),
        (("causal", "some"), "ordered"),
        (("bidirectional", "ordered", True), "meet through the context"),
    ],
)
def test_bad_rules_are_refused(fields: tuple, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Attention(*fields)


def takes(rule: Attention) -> list[bool]:
    """Whether the objective trains under a rule, and a walk goes under it."""
    found = []
    for ask in (Denoising().check, lambda r: predictor(tiny(r), torch.zeros(1, 2).bool())):
        try:
            ask(rule)
            found.append(True)
        except ValueError:
            found.append(False)
    return found


@pytest.mark.parametrize("context", ["bidirectional", "causal"])
@pytest.mark.parametrize(("latents", "seen"), [("joint", True), ("joint", False), ("ordered", False), ("alone", False)])
def test_what_is_trained_through_noise_can_be_walked(context, latents, seen) -> None:
    """One predicate: both take just the rules under which everything sees everything."""
    rule = Attention(context, latents, seen)
    assert takes(rule) == [rule.full, rule.full]
    layout = random_order(ints(0, 6, 1, 6), ints(0, 1, 0, 1).bool(), ints(0, 0, 1, 0).bool(), seeded())
    assert rule.full == bool(layout.mask(rule).all())
