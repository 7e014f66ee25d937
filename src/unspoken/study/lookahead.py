"""The claim that latent tokens give autoregressive models lookahead, as comparisons that can come out false."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from unspoken.measure.intervals import interval, share_interval
from unspoken.study.report import Check, Claim, claim, ends

Key = tuple[str, str, str]  # task, method, window
Right = dict[Key, Tensor]  # `[seeds, examples]` solved

NEAR, HIGH, MARGIN = 0.1, 0.9, 0.05  # of chance; what lookahead must pass; a clear margin


def lookahead(right: Right, chance: float, window: str) -> Claim:
    """arXiv 2602.03769: with supervised latents, and not with unsupervised ones, AR models look ahead.

    chance: 1 / degree of path-star. window: of AR + MTP on path-star, chosen on validation.
    """
    return claim("lookahead", [*_on_path_star(right, chance, window), *_on_sudoku(right)])


def _on_path_star(right: Right, chance: float, window: str) -> list[Check]:
    next_token, pause = right["path-star", "next token", ""], right["path-star", "pause", "all"]
    best = right["path-star", "AR + MTP", window]
    others = [f"{w}: {r.mean():.3f}" for (task, m, w), r in right.items() if (task, m) == ("path-star", "AR + MTP")]
    return [
        Check(
            chance - NEAR < share_interval(next_token)[0] and share_interval(next_token)[1] < chance + NEAR,
            f"path-star: next-token AR {_share(next_token)} is near 1/degree = {chance:.2f}",
        ),
        Check(
            share_interval(best)[0] > HIGH,
            f"AR + MTP with the window chosen on validation ({window}) {_share(best)} passes {HIGH} "
            f"(by window {', '.join(others)})",
        ),
        Check(share_interval(pause)[1] < HIGH, f"unsupervised latents {_share(pause)} do not"),
    ]


def _on_sudoku(right: Right) -> list[Check]:
    baselines = [right["sudoku", "next token", ""], right["sudoku", "mask slot", "1"]]
    better = max(baselines, key=lambda r: float(r.mean()))
    windows = [r for (task, method, _), r in right.items() if task == "sudoku" and method == "AR + MTP"]
    gain, growth = interval(windows[-1] - better), interval(windows[-1] - windows[0])
    steps = " ".join(f"{r.mean():.3f}" for r in windows)
    return [
        Check(
            gain[0] > MARGIN,
            f"Sudoku: AR + all latents {_share(windows[-1])} beats the better AR {_share(better)} by {ends(gain, '+')}",
        ),
        Check(growth[0] > 0, f"from the smallest window to all it gains {ends(growth, '+')}"),
        Check(
            not any(interval(b - a)[1] < 0 for a, b in pairwise(windows)),
            f"no wider window is worse beyond noise ({steps})",
        ),
    ]


def _share(right: Tensor) -> str:
    return f"{right.mean():.3f} {ends(share_interval(right))}"
