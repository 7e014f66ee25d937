"""A network that says "not a number", or infinity, is an error: no decoder takes it for a token.

Laws: whatever the decoder and the mask's id, the error names the pass and the row; what was said before it stands, and
what a pass says of filling does not matter; where looking would mean waiting for a device, the error comes at the end.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import Ignorant, seeded, tiny

import unspoken as us
from unspoken.decoders import checks, slots
from unspoken.model.cache import Cache
from unspoken.noise.space import unknown

V = 6


class Broken(Ignorant):
    """Zero logits, but in one pass what a row is told at one of the entries asked; the mask is any id."""

    def __init__(self, attention: us.Attention, mask: int, at: int, row: int, says: float, filling: bool = False):
        super().__init__(V, attention)
        self.mask, self.at, self.row, self.says, self.filling = mask, at, row, says, filling

    @property
    def mask_id(self) -> int:
        return self.mask

    def __call__(self, layout: us.Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        logits = super().__call__(layout, at, cache)
        logits[..., V], logits[..., self.mask] = 0.0, -math.inf
        if len(self.seen) == self.at + 1:
            logits[self.row, -1 if self.filling else 0, 2] = self.says
        return logits


def tokens_with(mask: int, free: tuple[int, ...] = (4, 4, 4)) -> Tensor:
    """`[rows, 5]`: a prompt of 3s, and `free` masks."""
    return torch.where(torch.arange(5) < 5 - torch.tensor(free)[:, None], 3, mask)


def ids_of(model: us.Model, tokens: Tensor) -> Any:
    return us.correct(model, torch.where(tokens == model.mask_id, 1, tokens), tokens != model.mask_id, temperature=1.0)


OPTIONS: list[dict[str, Any]] = [
    *({"order": order} for order in ("confidence", "margin", "entropy", "promising")),
    {"order": "left_to_right", "temperature": 1.0},
    {"order": "uniform", "cache": False},
    {"commit": 2, "threshold": 0.9},
    {"order": "promising", "commit": 2, "entropy_bound": 0.1},
    {"min_confidence": 0.9, "latents": 1},
    {"latent_policy": "uncertain", "latents": 1, "temperature": 0.5},
    {"commit": us.Commit(2, rule=lambda logp, real: real)},
    {"rebatch": 0.1},
    {"stale": True, "latents": 1},
]
DECODERS: dict[str, tuple[us.Attention, Callable[[us.Model, Tensor], Any]]] = {
    **{
        f"slots {number}": (us.CACHED_JOINT, lambda model, tokens, options=options: us.decode(model, tokens, **options))
        for number, options in enumerate(OPTIONS)
    },
    "next tokens": (us.CACHED_JOINT, us.next_tokens),
    "speculation": (us.CACHED_JOINT, lambda model, tokens: us.speculate(model, tokens, latents=1)),
    "blocks": (us.CACHED_JOINT, lambda model, tokens: us.block_by_block(model, tokens, size=2)),
    "walk": (us.MDM, lambda model, tokens: us.denoise(model, us.Absorbing(), tokens, steps=4)),
    "remasking": (us.MDM, lambda model, tokens: us.denoise(model, us.Absorbing(), tokens, steps=4, remask=0.5)),
    "second thoughts": (us.MDM, ids_of),
}


@pytest.mark.parametrize("says", [math.nan, math.inf])
@pytest.mark.parametrize("mask", [0, 2, V])  # 2: the mask's own logit is no number
@pytest.mark.parametrize("name", DECODERS)
def test_the_pass_and_the_row_are_named(name: str, mask: int, says: float) -> None:
    rule, decoder = DECODERS[name]
    model, tokens = Broken(rule, mask, 1, 2, says), tokens_with(mask)
    steps = iter(decoder(model, tokens))
    next(steps)
    with pytest.raises(ValueError, match="pass 1: what the network says in row 2 is nan or infinite"):
        list(steps)


@pytest.mark.parametrize("name", DECODERS)
def test_rows_are_the_batch_s(name: str) -> None:
    """From the first pass on, and in every row."""
    rule, decoder = DECODERS[name]
    with pytest.raises(ValueError, match="pass 0: what the network says in row 0 is nan or infinite"):
        list(decoder(Broken(rule, V, 0, 0, math.nan), tokens_with(V)))
    if name.startswith("slots"):  # rows that are done have left the passes
        model = Broken(rule, V, 1, 1, math.nan)
        with pytest.raises(ValueError, match="pass 1: what the network says in row 2 is nan"):
            list(decoder(model, tokens_with(V, (4, 0, 4))))


def test_what_is_said_of_filling_does_not_matter() -> None:
    """Two rows of 4 and one free token: the second's other candidates are filling."""
    model, tokens = Broken(us.SCDM, V, 0, 1, math.nan, filling=True), tokens_with(V, (4, 1))
    steps = list(us.decode(model, tokens))
    assert not steps[0].real[1, -1] and bool((steps[-1].tokens != V).all())


@pytest.mark.parametrize("order", ["confidence", "promising", "uniform"])
def test_where_looking_would_mean_waiting_it_is_done_at_the_end(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoding whose counts are known ahead never asks its device: all passes are made, then it raises."""
    monkeypatch.setattr(slots, "Numbers", lambda device: checks.Numbers(torch.device("meta")))
    model, tokens = Broken(us.SCDM, V, 1, 2, math.nan), tokens_with(V)
    steps = us.decode(model, tokens, order=order)
    for _ in range(4):
        next(steps)
    with pytest.raises(ValueError, match="pass 1: what the network says in row 2 is nan"):
        next(steps)
    waiting = us.decode(Broken(us.SCDM, V, 1, 2, math.nan), tokens, order=order, commit=2, threshold=0.9)
    next(waiting)
    with pytest.raises(ValueError, match="pass 1: "):
        next(waiting)
    assert len(list(us.decode(Broken(us.SCDM, V, 9, 2, math.nan), tokens, order=order))) == 4


@pytest.mark.parametrize(
    "port", [us.Codes(2, 3, placeholder=5), us.Vectors(2, placeholder=5)], ids=["codes", "vectors"]
)
def test_values_that_are_no_numbers(port: Any) -> None:
    model = tiny(us.MDM, port=port)
    head: Any = model.reader.head
    head.weight.data.fill_(math.nan)
    value = torch.zeros(2, 3, 2, dtype=torch.int64 if isinstance(port, us.Codes) else torch.float64)
    value[:, 1:] = unknown(value)
    way = us.Slots() if isinstance(port, us.Codes) else us.Walk(us.Gaussian(), passes=2)
    with pytest.raises(ValueError, match="pass 0: what the network says in row 0 and 1 more is nan"):
        list(us.decode(model, value, decoder=way))


def test_a_mask_that_is_minus_infinite_is_right() -> None:
    for rule, decoder in DECODERS.values():
        assert len(list(decoder(Broken(rule, 0, 99, 0, math.nan), tokens_with(0)))) > 0


# --- numbers that float32 does not hold


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_temperatures_past_float32_have_their_limits(dtype: torch.dtype) -> None:
    """Tiny ones say the likeliest token; huge ones draw evenly: 6,000 draws of 6 ids, within 6 standard errors."""
    logits = torch.tensor([0.0, 1.0, 3.0, 2.0, -4.0, 0.5, -math.inf], dtype=dtype)

    class Fixed(Ignorant):
        def __call__(self, layout: us.Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
            return logits.expand(*super().__call__(layout, at, cache).shape)

    def second(tokens: Tensor, temperature: float) -> Tensor:
        model, given = Fixed(V, us.MDM), torch.zeros_like(tokens, dtype=torch.bool)
        return next(us.correct(model, tokens, given, temperature=temperature, commit=2, generator=seeded())).z

    tokens = torch.full((3000, 2), V)
    for temperature in (5e-324, 1e-300, 1e-46, 1e-39, 1e-38):
        assert (us.last(us.decode(Fixed(V), tokens[:9], temperature=temperature), tokens) == 2).all()
        assert (second(tokens[:9] * 0, temperature) == 2).all()
    for temperature in (1e37, 1e39, 1e300):
        said = us.last(us.decode(Fixed(V), tokens, temperature=temperature, generator=seeded(1)), tokens)
        share = torch.bincount(said.flatten(), minlength=V + 1).double() / said.numel()
        assert share[V] == 0 and bool(((share[:V] - 1 / V).abs() < 6 * (5 / 36 / 6000) ** 0.5).all())
        drawn = torch.bincount(second(tokens * 0, temperature).flatten(), minlength=V + 1).double() / 6000
        assert bool(((drawn[:V] - 1 / V).abs() < 6 * (5 / 36 / 6000) ** 0.5).all())
