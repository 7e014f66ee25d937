"""What becomes of every family of decoders of the installed transformers, and whether its refusal is true.

`python tests/families.py [--write]` walks them all and prints `docs/families.md`, or writes it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from laws import measured
from small import FAMILIES, MASK, float64, made
from transformers import PreTrainedModel

from unspoken.layout.attention import ANY_ORDER, SCDM
from unspoken.model import denoiser as denoisers
from unspoken.model.denoiser import Denoiser

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
EXACT = 1e-6  # some families keep rotary tables and routers in float32


# What a refusal says, and the laws of which one at least must be measured to be broken.
REASONS = {
    "does not obey explicit masks": ("masks", "dropped", "packed"),
    "does not obey explicit positions": ("order_of_the_list",),
    "when others that it does not see": ("dropped",),
    "in a batch than alone": ("batch",),
    "does not compute with a cache": ("cached",),
    "computes its logits from more": ("head",),
    "does not take a mask, positions and embeddings": ("runs",),
    "does not support an attention implementation": ("support",),
    "has no output embedding": ("runs",),
    "has no part that computes": ("runs",),
    "does not read tokens by one table": ("runs",),
}


@contextmanager
def unchecked() -> Iterator[None]:
    """Denoisers of trunks that would be refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoisers, "check_trunk", lambda model: None)
        yield


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is to say of a family: `accepted`, `without a cache`, `refused` or `not made`.

    worst: the largest break of a law of an accepted one, the largest of those that the reason names of a refused one.
    """

    family: str
    verdict: str
    reason: str = ""
    worst: float = 0.0


def found(family: str, **more: Any) -> Found:
    """Makes a family's model, and measures the laws or the reason of its refusal."""
    with float64(), torch.random.fork_rng():
        return _found(family, more)


def _found(family: str, more: dict[str, Any]) -> Found:
    try:
        trunk = made(family, **more)
    except Exception as error:
        return Found(family, "not made", _short(error))
    try:
        return Found(family, "accepted", "", max(measured(Denoiser(trunk, ANY_ORDER, MASK)).values()))
    except ValueError as error:
        reason = _short(error)
    if "with a cache" in reason:
        worst = max(measured(Denoiser(trunk, SCDM, MASK)).values())
        return Found(family, "without a cache", reason, worst)
    return Found(family, "refused", reason, _broken(trunk, reason))


def _broken(trunk: PreTrainedModel, reason: str) -> float:
    """By how much the laws are broken that a reason names."""
    laws = next(laws for text, laws in REASONS.items() if text in reason)
    if laws == ("support",):
        parts = [part for part in trunk.modules() if isinstance(part, PreTrainedModel)]
        return 0.0 if all(part._supports_sdpa for part in parts) else float("inf")
    with unchecked():
        try:
            model = Denoiser(trunk, ANY_ORDER, MASK)
        except ValueError:
            return float("inf") if laws == ("runs",) else 0.0
    values = measured(model)
    if laws == ("runs",):
        return max(values.values())
    return max(0.0, *(values.get(law, 0.0) for law in laws if values.get(law) != float("inf")))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def page(all_found: list[Found]) -> str:
    """The page of families: what became of each, those of one verdict and reason in a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for each in all_found:
        said = next((text for text in SAID if text in each.reason), "") if each.verdict != "not made" else each.reason
        rows.setdefault((each.verdict, said), []).append(f"`{each.family}`")
    accepted, cacheless, refused, missing = (sum(each.verdict == verdict for each in all_found) for verdict in VERDICTS)
    text = HEADER.format(
        version=transformers.__version__,
        number=len(all_found),
        accepted=accepted,
        cacheless=cacheless,
        refused=refused,
        missing=missing,
    )
    for verdict, title in VERDICTS.items():
        groups = sorted((said, names) for (which, said), names in rows.items() if which == verdict)
        text += f"\n## {title}\n\n"
        if verdict == "accepted":
            text += "\n".join(", ".join(names) for _, names in groups) + "\n"
        else:
            text += "| reason | families |\n| --- | --- |\n"
            text += "".join(f"| {_cell(SAID.get(said, said))} | {', '.join(names)} |\n" for said, names in groups)
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


VERDICTS = {
    "accepted": "Accepted",
    "without a cache": "Accepted where the attention has no cache",
    "refused": "Refused",
    "not made": "Not tried",
}
# The reasons, as the page says them.
SAID = {
    "does not obey explicit masks": "does not obey explicit masks: recurrent states, convolutions, a mask of its own",
    "does not obey explicit positions": "takes the order of the list for the positions",
    "when others that it does not see": "what it computes of a token depends on tokens that this one does not see",
    "in a batch than alone": "computes a row otherwise in a batch than alone",
    "does not compute with a cache": "needs a cache of its own kind: take `us.MDM`, `us.SCDM` or `us.SIDM`",
    "computes its logits from more": "computes its logits from more than the last states of their own entry",
    "does not take a mask, positions and embeddings": "cannot be called with a mask, positions and embeddings",
    "does not support an attention implementation": "has no attention by `scaled_dot_product_attention`",
    "has no output embedding": "has no output embedding",
    "has no part that computes": "has no part that computes its last states alone",
    "does not read tokens by one table": "does not read tokens by one table of embeddings",
}
HEADER = """# Families of decoders

Written by `python tests/families.py --write` with transformers {version}: every one of its {number} families of causal
language models, made small with random weights. {accepted} are accepted, {cacheless} more without a cache; {refused}
are refused with the reason; {missing} could not be made small without a download.

An accepted family keeps these laws in float64, to one part in a million of its largest state (some compute their rotary
tables and routers in float32): a token does not notice others that it does not see; the order of the list means
nothing; entries that nobody sees can be dropped; a row in a batch is the row alone; documents packed into one pass are
the documents alone; decoding with a cache is decoding without; the logits are those of the trunk itself. Where it
changes its arithmetic at a number of its config (a sliding window, longrope, sparse attention), a pass that reaches
past that number is refused. The reason of every refusal was measured as well.

A family is accepted here with the defaults of its config.
"""


def main(write: bool) -> None:
    text = page([found(family) for family in FAMILIES])
    if write:
        PAGE.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main("--write" in sys.argv[1:])
