"""The signs that people write a board with: digits from 1 on, or letters from A on, and a sign for a blank.

On boards wider than 9 the digits go on with A, B, ...; and some people count from 0 there (0 to F on 16x16), for whom 0
is a digit, and for others it is a blank. Where both can be meant nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from string import ascii_uppercase

DIGITS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BLANKS = ".0-*_X"


def signs_of(side: int) -> frozenset[str]:
    """All that may stand in a cell of a board, upper case."""
    return frozenset(DIGITS[:side] + _letters(side) + blanks_of(side))


def blanks_of(side: int) -> str:
    """The signs of a blank. X is one where it is no digit."""
    return _BLANKS.replace("X", "") if "X" in DIGITS[:side] + _letters(side) else _BLANKS


def plain(side: int, texts: Iterable[str]) -> dict[int, str]:
    """For `str.translate`: what the signs of these boards, of one file, are in `DIGITS` and `.` for a blank.

    ValueError where 0 may be a digit as well as a blank, as there is another sign for a blank too.
    """
    return _table(side, frozenset().union(*texts))


@lru_cache(maxsize=1024)  # a file is read board by board, and most use the same signs
def _table(side: int, seen: frozenset[str]) -> dict[int, str]:
    used = {sign.upper() for sign in seen}
    digits, blanks = DIGITS[:side], blanks_of(side)
    others = sorted(used & set(blanks) - {"0"})
    if "0" in used and others and (side > 9 or digits[-1] not in used):
        raise ValueError(
            f"0 and {others[0]} are both used: 0 may be a blank or, where one counts from 0, a digit; write blanks as "
            f". alone, and the digits of a {side}x{side} board as {shown(side)}"
        )
    if not used & set("123456789") and used & set(_letters(side)) - set(digits):
        digits = _letters(side)
    table = dict.fromkeys(blanks, ".") | dict(zip(digits, DIGITS, strict=False))
    return {ord(case): to for sign, to in table.items() for case in (sign, sign.lower())}


def shown(side: int) -> str:
    """The digits of a board, in a few characters."""
    return f"1-{DIGITS[side - 1]}" if side <= 9 else f"1-9 and A{'' if side == 10 else '-' + DIGITS[side - 1]}"


def _letters(side: int) -> str:
    """A, B, ...: the digits of people who write letters alone; none where there are too few."""
    return ascii_uppercase[:side] if side <= len(ascii_uppercase) else ""
