"""Every decoder family keeps the laws, or is refused for a reason that is true (float64)."""

import re
from typing import Any

import families
import laws
import pytest
import torch
import transformers
from families import EXACT, PAGE, Found, found
from laws import measured, some_layout
from small import FAMILIES, MASK, made

from unspoken.layout.attention import ANY_ORDER, SCDM
from unspoken.model import reach
from unspoken.model.denoiser import Denoiser

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers says of its families

FEW = ["llama", "qwen3", "gpt2", "gemma3_text", "mixtral", "deepseek_v3", "smollm3", "opt"]
REFUSED = {
    "bart": "explicit positions",
    "lfm2": "explicit masks",
    "bloom": "does not take a mask",
    "mamba": "does not support an attention",
}


def check(family: str) -> Found:
    """That a family is lawful, or not for the reason that is given."""
    seen = found(family)
    if seen.verdict in ("accepted", "without a cache"):
        assert seen.worst <= EXACT, seen
    elif seen.verdict == "refused":
        assert seen.worst > 1e-4, seen
    return seen


@pytest.mark.parametrize("family", FEW)
def test_common_families_keep_the_laws(family: str) -> None:
    assert check(family).verdict == "accepted"


@pytest.mark.parametrize("family", REFUSED)
def test_a_refusal_says_what_is_so(family: str) -> None:
    seen = check(family)
    assert seen.verdict == "refused" and REFUSED[family] in seen.reason


def test_sparse_attention_needs_a_cache_of_its_own() -> None:
    assert check("deepseek_v32").verdict == "without a cache"


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_the_laws_or_is_refused_for_a_reason(family: str) -> None:
    check(family)


@pytest.mark.slow
def test_the_page_of_families_is_what_was_found() -> None:
    """Written anew by `python tests/families.py --write`."""
    if f"transformers {transformers.__version__}:" not in PAGE.read_text():
        pytest.skip("the page was written with another version of transformers")
    assert PAGE.read_text() == families.page([found(family) for family in FAMILIES])


def test_the_page_names_every_family() -> None:
    text = PAGE.read_text()
    if f"transformers {transformers.__version__}:" not in text:
        pytest.skip("the page was written with another version of transformers")
    assert set(re.findall(r"`([\w-]+)`", text.split("## Accepted", 1)[1])) >= set(FAMILIES)


LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "original_max_position_embeddings": 8,
    "short_factor": [1.0] * 4,
    "long_factor": [8.0, 4.0, 3.0, 2.0],
}
PHI3 = {"rope_parameters": LONGROPE, "original_max_position_embeddings": 8, "sliding_window": None}
# Families with a number in their config at which their arithmetic switches, and what is said past it.
EDGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "longrope": ("phi3", PHI3, "past the 8 of its longrope"),
    "longrope of llama": ("llama", {"rope_parameters": LONGROPE}, "past the 8 of its longrope"),
    "sparse indexer": ("deepseek_v32", {}, "attends to 8 at most"),
    "kept keys": ("doge", {}, "attends to 8 at most"),
    "scaling by place": ("llama4_text", {"attention_chunk_size": None}, "from 8 on the trunk scales"),
}


@pytest.mark.parametrize("name", EDGES)
@torch.no_grad()
def test_past_an_edge_a_pass_is_refused_and_the_laws_would_break(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides: below the number all laws hold; past it they do not, and the pass says why it is not made."""
    family, more, said = EDGES[name]
    attention = SCDM if family == "deepseek_v32" else ANY_ORDER
    model = Denoiser(made(family, **more), attention, MASK)
    assert max(measured(model).values()) <= EXACT
    monkeypatch.setattr(laws, "limits", lambda config: ([], []))
    with pytest.raises(ValueError, match=said):
        model.states(some_layout(model))
    monkeypatch.setattr(reach, "limits", lambda config: ([], []))
    broken = measured(model)
    assert "runs" not in broken and max(v for v in broken.values() if v < float("inf")) > 1e-3


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3", "longrope"])
def test_scaled_rotary_tables_keep_the_laws(kind: str) -> None:
    rope = LONGROPE | {"rope_type": kind, "original_max_position_embeddings": 32 if kind != "longrope" else 8}
    if kind != "longrope":
        rope = {name: value for name, value in rope.items() if "_factor" not in name} | {"factor": 2.0}
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    assert found("llama", rope_parameters=rope).worst <= EXACT
    assert found("llama", rope_parameters=rope).verdict == "accepted"


def test_a_trunk_is_probed_past_its_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no rule names the edge, the probe finds it when the model is made."""
    trunk = made("phi3", **PHI3)
    monkeypatch.setattr("unspoken.model.probe.limits", lambda config: ([], []))
    monkeypatch.setattr(reach, "limits", lambda config: ([], []))
    with pytest.raises(ValueError, match="when others that it does not see are not in the pass"):
        Denoiser(trunk, ANY_ORDER, MASK)
