"""What is asked of every number, tensor and object that a user hands in: one function for each kind of argument.

Each is told the argument's name, and raises before any work. Numbers are looked at as float32, in which they are used:
one that Python holds and float32 does not would become 0 or infinity there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from unspoken.messages import quoted

MOST = 2**31 - 1  # a count past this is a mistake: no tensor is as long
TINY, HUGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
BELOW_1 = 1 - 2**-24  # the last number that float32 does not round to 1


def count(name: str, value: Any, least: int = 0, most: int = MOST) -> None:
    """Raises ValueError unless `value` is a whole number (an `int`) from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        where = f"of {least} or more" if most == MOST else f"from {least} to {most}"
        raise ValueError(f"{name}={quoted(value)}; give whole numbers {where}")


def counts(name: str, values: Any, least: int = 0) -> None:
    """Raises ValueError unless `values` is a sequence of such numbers: a list or a tuple, not text or a tensor."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise ValueError(f"{name}={quoted(values)}; give a list of whole numbers of {least} or more")
    for value in values:
        count(name, value, least)


def number(name: str, value: Any, least: float, most: float, give: str) -> None:
    """Raises ValueError unless `value` is a real number from `least` to `most` that float32 holds.

    give: what to give, for the message. Infinity is refused unless an end is infinite, "not a number" always.
    """
    if not _real(value) or not least <= value <= most:
        raise ValueError(f"{name}={quoted(value)}; give {give}")
    if value and abs(value) != math.inf and not TINY <= abs(value) <= HUGE:
        raise ValueError(f"{name}={quoted(value)}, which float32 does not hold ({TINY:.1e} to {HUGE:.1e}); give {give}")


def _real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def plain(value: Any) -> None:
    """Raises ValueError for a field of a dataclass that is annotated as a number, a truth or text, and is none.

    Whole numbers fit into 64 bits: a number that is not whole may be counted up to for ever. Ranges are the
    dataclass's own matter.
    """
    for field in fields(value):
        its = getattr(value, field.name)
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        if kind == "bool" and type(its) is not bool:
            raise ValueError(f"{field.name}={quoted(its)}; give True or False")
        if kind == "int" and (type(its) is not int or abs(its) >= 2**63):
            raise ValueError(f"{field.name}={quoted(its)}; give a whole number below 2**63")
        if kind == "float" and not _real(its):
            raise ValueError(f"{field.name}={quoted(its)}; give a number")
        if kind == "str" and not isinstance(its, str):
            raise ValueError(f"{field.name}={quoted(its)}; give text")


def temperature(value: Any) -> None:
    """Raises ValueError unless `value` is a temperature of draws. Its limits are known: `prediction.tempered`."""
    if not (_real(value) and 0 <= value < math.inf):
        raise ValueError(f"temperature={quoted(value)}; give 0 for the likeliest token, or more to sample")


def kind(name: str, value: Any, kinds: type | tuple[type, ...], give: str) -> None:
    """Raises TypeError unless `value` is of one of the kinds."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name}={quoted(value)}; give {give}")


def function(name: str, value: Any, give: str) -> None:
    """Raises TypeError unless `value` can be called."""
    if not callable(value):
        raise TypeError(f"{name}={quoted(value)}; give a function: {give}")


def has(name: str, value: Any, needed: Sequence[str], give: str) -> None:
    """Raises TypeError unless `value` is an object, not a class, with all these attributes."""
    if isinstance(value, type) or not all(hasattr(value, attribute) for attribute in needed):
        raise TypeError(f"{name}={quoted(value)}; give {give}")


def seeded(generator: Any) -> None:
    """Raises TypeError unless it is a source of random numbers, or None."""
    kind("generator", generator, (torch.Generator, type(None)), "a torch.Generator, or None")


def tensor(name: str, value: Any, dtype: torch.dtype, shape: Sequence[int | str]) -> None:
    """Raises TypeError unless `value` is a tensor, ValueError unless of that type and shape; nothing is broadcast.

    shape: a word stands for any length.
    """
    wanted = f"{str(dtype).removeprefix('torch.')} [{', '.join(map(str, shape))}]"
    kind(name, value, Tensor, f"a tensor, {wanted}")
    fits = len(shape) == value.dim() and all(
        isinstance(n, str) or n == m for n, m in zip(shape, value.shape, strict=True)
    )
    if not fits or value.dtype != dtype:
        raise ValueError(f"{name} is {value.dtype} of shape {tuple(value.shape)}; give {wanted}")


def ranks(rank: Any, given: Tensor) -> None:
    """Raises unless `rank` is None, or says for every token when its turn is."""
    if rank is not None:
        tensor("rank", rank, torch.int64, given.shape)
        if bool((rank < 0).any()):
            raise ValueError("rank holds a number below 0; the first token's is 0")


def clean(x0: Any, given: Any, mask_id: int, vocab: int) -> None:
    """Raises unless these are clean tokens, ids below `vocab` and no mask, and which of them are given, one for one."""
    tensor("x0", x0, torch.int64, ("batch", "seq"))
    tensor("given", given, torch.bool, x0.shape)
    if not x0.numel():
        return
    low, high = int(x0.min()), int(x0.max())
    if low < 0 or high >= vocab:
        raise ValueError(f"x0 holds ids from {low} to {high}; give ids from 0 to {vocab - 1}")
    if bool((x0 == mask_id).any()):
        raise ValueError(f"x0 holds the mask id {mask_id}; give clean tokens, and say in `given` which are known")
