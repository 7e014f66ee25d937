"""Checkpoints of other diffusion models, tiny and random, in their own formats: LLaDA's and Dream's.

Laws: the logits are those of a pass that is written out here from the checkpoint's own names, under no mask; our
decoders run; what is saved is an ordinary folder of ours; a variant that would compute something else is refused.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu
from toy import seeded

import unspoken as us
from unspoken.layout.entries import random_order

VOCAB, MASK, WIDTH, HEADS, KEYS, INNER, LAYERS, LENGTH = 11, 9, 16, 4, 2, 24, 2, 7
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-4}  # in float32; wrong names move logits by more than 1

LLADA: dict[str, Any] = {
    "model_type": "llada",
    "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM", "AutoConfig": "configuration_llada.LLaDAConfig"},
    "activation_type": "silu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_type": "llama",
    "d_model": WIDTH,
    "embedding_size": VOCAB,
    "eos_token_id": 10,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": MASK,
    "max_sequence_length": 64,
    "mlp_hidden_size": INNER,
    "mlp_ratio": 4,
    "multi_query_attention": None,
    "n_heads": HEADS,
    "n_kv_heads": KEYS,
    "n_layers": LAYERS,
    "pad_token_id": 10,
    "rms_norm_eps": 1e-5,
    "rope": True,
    "rope_theta": 5e5,
    "scale_logits": False,
    "vocab_size": VOCAB - 1,
    "weight_tying": False,
}
DREAM: dict[str, Any] = {
    "model_type": "Dream",
    "auto_map": {"AutoModel": "modeling_dream.DreamModel", "AutoConfig": "configuration_dream.DreamConfig"},
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 10,
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "mask_token_id": MASK,
    "max_position_embeddings": 64,
    "max_window_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": KEYS,
    "pad_token_id": 10,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 5e5,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": VOCAB,
}
SHAPES = {
    "embed": (VOCAB, WIDTH),
    "norm": (WIDTH,),
    "head": (VOCAB, WIDTH),
    "q": (WIDTH, WIDTH),
    "k": (WIDTH // 2, WIDTH),
    "v": (WIDTH // 2, WIDTH),
    "o": (WIDTH, WIDTH),
    "gate": (INNER, WIDTH),
    "up": (INNER, WIDTH),
    "down": (WIDTH, INNER),
    "first": (WIDTH,),
    "second": (WIDTH,),
}
LLADA_NAMES = {
    "embed": "model.transformer.wte",
    "norm": "model.transformer.ln_f",
    "head": "model.transformer.ff_out",
    "q": "model.transformer.blocks.{}.q_proj",
    "k": "model.transformer.blocks.{}.k_proj",
    "v": "model.transformer.blocks.{}.v_proj",
    "o": "model.transformer.blocks.{}.attn_out",
    "gate": "model.transformer.blocks.{}.ff_proj",
    "up": "model.transformer.blocks.{}.up_proj",
    "down": "model.transformer.blocks.{}.ff_out",
    "first": "model.transformer.blocks.{}.attn_norm",
    "second": "model.transformer.blocks.{}.ff_norm",
}
DREAM_NAMES = {
    "embed": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "q": "model.layers.{}.self_attn.q_proj",
    "k": "model.layers.{}.self_attn.k_proj",
    "v": "model.layers.{}.self_attn.v_proj",
    "o": "model.layers.{}.self_attn.o_proj",
    "gate": "model.layers.{}.mlp.gate_proj",
    "up": "model.layers.{}.mlp.up_proj",
    "down": "model.layers.{}.mlp.down_proj",
    "first": "model.layers.{}.input_layernorm",
    "second": "model.layers.{}.post_attention_layernorm",
}
FORMATS = {"llada": (LLADA, LLADA_NAMES, ()), "dream": (DREAM, DREAM_NAMES, ("q", "k", "v"))}


def weights_of(kind: str) -> dict[str, Tensor]:
    """Random ones under the checkpoint's names; Dream's queries, keys and values have biases."""
    _, names, biased = FORMATS[kind]
    generator, made = seeded(), dict[str, Tensor]()
    for part, name in names.items():
        for layer in range(LAYERS if "{}" in name else 1):
            shape = SHAPES[part]
            drawn = torch.randn(shape, generator=generator)
            made[name.format(layer) + ".weight"] = 1 + 0.3 * drawn if len(shape) == 1 else 0.5 * drawn
            if part in biased:
                made[name.format(layer) + ".bias"] = torch.randn(shape[:1], generator=generator)
    return made


def written(folder: Path, kind: str, files: int = 1, **changes: Any) -> Path:
    """A checkpoint of that format; None as a change leaves a key out."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in (FORMATS[kind][0] | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    weights = list(weights_of(kind).items())
    for part in range(files):
        save_file(dict(weights[part::files]), folder / f"model-{part + 1:05}-of-{files:05}.safetensors")
    return folder


def reference(kind: str, tokens: Tensor) -> Tensor:
    """`[batch, seq, vocab]`: logits of the checkpoint, every position seeing every other."""
    weights, names = weights_of(kind), FORMATS[kind][1]

    def by(part: str, x: Tensor, layer: int = 0) -> Tensor:
        name = names[part].format(layer)
        return linear(x, weights[name + ".weight"], weights.get(name + ".bias"))

    def norm(part: str, x: Tensor, layer: int = 0) -> Tensor:
        return rms_norm(x, (WIDTH,), weights[names[part].format(layer) + ".weight"], eps=1e-5)

    def heads(x: Tensor, turned: bool) -> Tensor:
        x = x.unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2)
        if turned:
            x = turn(x)
        return x.repeat_interleave(HEADS // x.shape[1], dim=1)

    def turn(x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        angle = torch.arange(x.shape[2])[:, None] * 5e5 ** (-torch.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    x = weights[names["embed"] + ".weight"][tokens]
    for layer in range(LAYERS):
        h = norm("first", x, layer)
        q, k, v = (heads(by(part, h, layer), part != "v") for part in "qkv")
        x = x + by("o", scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), layer)
        h = norm("second", x, layer)
        x = x + by("down", silu(by("gate", h, layer)) * by("up", h, layer), layer)
    return by("head", norm("norm", x))


def prompts() -> Tensor:
    """`[3, LENGTH]`: the first token given, of the others some."""
    x0 = torch.randint(MASK, (3, LENGTH), generator=seeded(1))
    unsaid = (torch.rand(x0.shape, generator=seeded(2)) < 0.6) & (torch.arange(LENGTH) > 0)
    return torch.where(unsaid, MASK, x0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a format, its weights in two files."""
    root = tmp_path_factory.mktemp("others")
    return lambda kind: root / kind if (root / kind).exists() else written(root / kind, kind, files=2)


@pytest.mark.parametrize("kind", FORMATS)
@torch.no_grad()
def test_the_logits_are_those_of_the_pass_by_hand(kind: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = us.Denoiser.from_pretrained(checkpoint(kind))
    assert (model.attention, model.mask_id, model.vocab_size) == (us.MDM, MASK, VOCAB)
    assert model.shift == (kind == "dream")
    tokens = prompts()
    unsaid = tokens == MASK
    layout = random_order(tokens, unsaid, ~unsaid, seeded())
    logits = reference(kind, tokens)
    if model.shift:
        logits = torch.cat([logits[:, :1], logits[:, :-1]], 1)
    ours = model(layout)
    assert torch.allclose(ours[unsaid][:, :MASK], logits[unsaid][:, :MASK], **CLOSE)
    assert float(logits.std()) > 1

    model.save_pretrained(tmp_path)
    again = us.Denoiser.from_pretrained(tmp_path)
    assert again.shift == model.shift and again.attention == us.MDM and again.mask_id == MASK
    assert torch.equal(again(layout), ours)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == ("qwen2" if kind == "dream" else "llama") and "auto_map" not in config
    assert "model.embed_tokens.weight" in load_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind", FORMATS)
@torch.no_grad()
def test_our_decoders_decode_them(kind: str, checkpoint: Callable[[str], Path]) -> None:
    """The first token said is the most confident one of the pass by hand."""
    model, tokens = us.Denoiser.from_pretrained(checkpoint(kind)), prompts()
    logits = reference(kind, tokens)
    logits[..., MASK] = -torch.inf
    if model.shift:
        logits = torch.cat([logits[:, :1], logits[:, :-1]], 1)
    p = torch.where(tokens == MASK, logits.softmax(-1).amax(-1), 0)
    steps = list(us.decode(model, tokens, candidates=LENGTH))
    assert torch.equal(steps[0].said[:, 0], p.argmax(1))
    for decoder in (us.Slots(order="left_to_right", commit=2), us.Walk(passes=3)):
        out = us.last(us.decode(model, tokens, decoder=decoder), tokens)
        assert (out != MASK).all() and torch.equal(out[tokens != MASK], tokens[tokens != MASK])


@torch.no_grad()
def test_what_the_caller_says_goes_first(checkpoint: Callable[[str], Path]) -> None:
    model = us.Denoiser.from_pretrained(checkpoint("dream"), attention=us.CACHED_JOINT, mask_id=3, shift=False)
    assert (model.attention, model.mask_id, model.shift) == (us.CACHED_JOINT, 3, False)
    half = us.Denoiser.from_pretrained(checkpoint("llada"), dtype=torch.bfloat16)
    assert half.trunk.dtype == torch.bfloat16


def test_a_tied_llada_has_one_table(tmp_path: Path) -> None:
    written(tmp_path, "llada", weight_tying=True)
    weights = weights_of("llada")
    del weights["model.transformer.ff_out.weight"]
    save_file(weights, tmp_path / "model-00001-of-00001.safetensors")
    trunk = us.Denoiser.from_pretrained(tmp_path).trunk
    head = trunk.get_output_embeddings()
    assert head is not None and head.weight is trunk.get_input_embeddings().weight


UNKNOWN: dict[str, tuple[str, dict[str, Any], str]] = {
    "alibi": ("llada", {"alibi": True}, "with alibi=True, and Llama, as which it is read, has none"),
    "layer norm": ("llada", {"layer_norm_type": "default"}, "has layer_norm_type='rms'"),
    "unsaid norm": ("llada", {"layer_norm_type": ...}, "with layer_norm_type=None"),
    "block": ("llada", {"block_type": "sequential"}, "with block_type='sequential'"),
    "bias": ("llada", {"include_bias": True}, "with include_bias=True"),
    "activation": ("llada", {"activation_type": "gelu"}, "has activation_type='silu'"),
    "scaled": ("llada", {"scale_logits": True}, "with scale_logits=True"),
    "no mask": ("llada", {"mask_token_id": ...}, "has no number for mask_token_id"),
    "a word": ("dream", {"hidden_size": "16"}, "has no number for hidden_size"),
    "keys": ("llada", {"n_kv_heads": "two"}, "makes no LlamaConfig"),
    "experts": (
        "llada",
        {"d_model": ..., "n_heads": ...},
        "no number for d_model, n_heads: it is damaged or another variant",
    ),
    "mask outside": ("llada", {"mask_token_id": 126336}, "mask_id=126336 is outside the trunk's vocabulary of 11"),
    "blocks": ("dream", {"block_size": 32}, "with block_size=32, and Qwen2"),
    "window": ("dream", {"use_sliding_window": True}, "with use_sliding_window=True"),
    "layers": ("dream", {"num_hidden_layers": 3}, r"lacks 12 weights, such as model\.layers\.2"),
    "fewer layers": ("llada", {"n_layers": 1}, "has, and its config does not ask for, 9 weights"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_variant_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    kind, changes, message = UNKNOWN[name]
    with pytest.raises(ValueError, match=message):
        us.Denoiser.from_pretrained(written(tmp_path, kind, **changes))


def test_damaged_and_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "llada")
    file = folder / "model-00001-of-00001.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match="not a whole one"):
        us.Denoiser.from_pretrained(folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"no weights in \*\.safetensors"):
        us.Denoiser.from_pretrained(folder)
