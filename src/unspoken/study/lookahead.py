"""The claim that latent tokens give autoregressive models lookahead, as comparisons that can come out false."""

from __future__ import annotations

from torch import Tensor

from unspoken.measure.intervals import Estimate
from unspoken.study.report import Check, Claim, claim, no_step

Key = tuple[str, str, str]  # task, method, window
Right = dict[Key, Tensor]  # `[seeds, examples]` solved

NEAR, HIGH, MARGIN = 0.1, 0.9, 0.05  # of chance; what lookahead must pass; a clear margin


def lookahead(right: Right, chance: float, window: str) -> Claim:
    """arXiv 2602.03769: with supervised latents, and not with unsupervised ones, AR models look ahead.

    chance: 1 / degree of path-star. window: of AR + MTP on path-star, chosen on validation.
    """
    return claim("lookahead", [*_on_path_star(right, chance, window), *_on_sudoku(right)])


def _windows(right: Right, task: str) -> dict[str, Tensor]:
    return {window: its for (name, method, window), its in right.items() if (name, method) == (task, "AR + MTP")}


def _on_path_star(right: Right, chance: float, window: str) -> list[Check]:
    next_token = Estimate.of(right["path-star", "next token", ""], share=True)
    pause = Estimate.of(right["path-star", "pause", "all"], share=True)
    windows = _windows(right, "path-star")
    best, others = Estimate.of(windows[window], share=True), [f"{w}: {r.mean():.3f}" for w, r in windows.items()]
    return [
        Check(
            chance - NEAR < next_token.low and next_token.high < chance + NEAR,
            f"path-star: next-token AR {next_token} is near 1/degree = {chance:.2f}",
        ),
        Check(
            best.low > HIGH,
            f"AR + MTP with the window chosen on validation ({window}) {best} passes {HIGH} "
            f"(by window {', '.join(others)})",
        ),
        Check(pause.high < HIGH, f"unsupervised latents {pause} do not"),
    ]


def _on_sudoku(right: Right) -> list[Check]:
    baselines = [right["sudoku", "next token", ""], right["sudoku", "mask slot", "1"]]
    better = max(baselines, key=lambda r: float(r.mean()))
    windows = list(_windows(right, "sudoku").values())
    gain, growth = Estimate.of(windows[-1] - better), Estimate.of(windows[-1] - windows[0])
    every, slot = Estimate.of(windows[-1], share=True), Estimate.of(better, share=True)
    return [
        Check(
            gain.low > MARGIN,
            f"Sudoku: AR + all latents {every} beats the better AR {slot} by {gain.signed}",
        ),
        Check(growth.low > 0, f"from the smallest window to all it gains {growth.signed}"),
        no_step(windows, "falls", "no wider window is worse beyond noise"),
    ]
