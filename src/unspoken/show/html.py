"""One self-contained HTML page a decoding: every step a board, a slider to walk them, confidences on hover."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from unspoken.decoders.step import Step
from unspoken.show.cells import cells
from unspoken.tasks import Task

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>%TITLE%</title>
<style>
body { font: 16px system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }
#board { font: 22px ui-monospace, monospace; line-height: 1.5; white-space: pre; margin: 1rem 0 }
#board span { display: inline-block; min-width: 1.4em; text-align: center; border-radius: 4px }
.given { font-weight: 700 } .said { color: #1a7f37 } .now { background: #1a7f37; color: #fff; font-weight: 700 }
.latent { color: #9a6700; background: #fff3d0 } .candidate { color: #0969da; background: #ddf4ff } .out { color: #bbb }
.key span { padding: 0 .4em; margin-right: .6em; border-radius: 4px } input { width: 24rem }
</style>
<h1>%TITLE%</h1>
<p class="key"><span class="given">given</span><span class="said">said before</span><span class="now">said now</span>
<span class="candidate">candidate not taken</span><span class="latent">latent: its best guess</span>
<span class="out">left out of the pass</span></p>
<p><input id="at" type="range" min="0" max="%LAST%" value="0" aria-label="step"> <output id="said"></output></p>
<div id="board"></div>
<script>
const steps = %STEPS%;
const at = document.getElementById("at"), board = document.getElementById("board");
function draw() {
  const step = steps[at.value];
  document.getElementById("said").textContent = step.text;
  board.replaceChildren(...step.cells.flatMap(([symbol, kind, sure, gap]) => {
    const cell = document.createElement("span");
    cell.className = kind; cell.textContent = symbol;
    if (sure !== null) cell.title = `probability ${sure}`;
    return [cell, gap];
  }));
}
at.oninput = draw; draw();
</script></html>
"""


def write_page(steps: Iterable[Step], prompt: Tensor, task: Task, path: Path, title: str = "unspoken") -> Path:
    """Writes the page of the first row of a decoding (with `predict_latents=True` the latents show their guesses)."""
    boards = [_step(step, prompt, task) for step in steps]
    if not boards:
        raise ValueError("nothing was decoded: every token of the prompt is given already")
    page = PAGE.replace("%TITLE%", html.escape(title)).replace("%LAST%", str(len(boards) - 1))
    # "</" would end the script element wherever it stood.
    path.write_text(page.replace("%STEPS%", json.dumps(boards).replace("</", "<\\/")))
    return path


def _step(step: Step, prompt: Tensor, task: Task) -> dict:
    """One step for the page: a line of text and [symbol, kind, probability or null, gap] for every token."""
    sure = [None if c == 0 else round(float(c), 4) for c in step.confidence[0]]
    shown = [[s, k, sure[i], task.gap(i)] for i, (s, k) in enumerate(cells(step, prompt, task))]
    return {"text": str(step), "cells": shown}
