"""What a trunk computes follows from the layout's fields alone (float64, 1e-9)."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from toy import tiny
from transformers import AutoModelForCausalLM, LlamaConfig

from unspoken.layout.attention import ANY_ORDER, ATTENTIONS, MDM, SCDM, SIDM
from unspoken.layout.entries import Layout, random_order
from unspoken.model.denoiser import Denoiser
from unspoken.model.trunks import cache_argument

EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-9}
SMALL: dict[str, Any] = {
    "vocab_size": 7,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2: dict[str, Any] = {"vocab_size": 7, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}


def some_layout(rows: int = 3, length: int = 10, seed: int = 0) -> Layout:
    """Half the tokens unsaid, a few given, in random order."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(6, (rows, length), generator=generator)
    unsaid = torch.rand(rows, length, generator=generator) < 0.5
    given = ~unsaid & (torch.rand(rows, length, generator=generator) < 0.4)
    return random_order(torch.where(unsaid, 6, tokens), unsaid, given, generator)


def shuffled(layout: Layout, seed: int = 1) -> Tensor:
    return torch.rand(layout.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)


def change(layout: Layout, where: Tensor) -> Layout:
    """Other tokens at the entries `where`: what does not look there must not notice."""
    return Layout(**{**vars(layout), "token": torch.where(where, (layout.token + 1) % 7, layout.token)})


def at(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


@pytest.mark.parametrize("rule", ATTENTIONS.values(), ids=ATTENTIONS)
@torch.no_grad()
def test_permuted_layout_gives_permuted_outputs(rule) -> None:
    model, layout = tiny(rule), some_layout()
    order = shuffled(layout)
    assert torch.allclose(model(layout.select(order)), at(model(layout), order), **EXACT)


FAMILIES = {
    "llama": (transformers.LlamaConfig, SMALL),
    "qwen2": (transformers.Qwen2Config, SMALL),
    "qwen3": (transformers.Qwen3Config, {**SMALL, "head_dim": 8}),
    "phi": (transformers.PhiConfig, SMALL),
    "gpt_neox": (transformers.GPTNeoXConfig, SMALL),
    "olmo2": (transformers.Olmo2Config, SMALL),
    "mistral": (transformers.MistralConfig, SMALL),
    "gpt2": (transformers.GPT2Config, GPT2),
}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_trunk_family_obeys_the_layout(family: str) -> None:
    make, fields = FAMILIES[family]
    torch.manual_seed(0)
    model = Denoiser.from_config(make(**fields), attention=SCDM, mask_id=6).double().eval()
    layout = some_layout()
    order = shuffled(layout)
    logits = model(layout)
    # Some families keep rotary tables in float32, hence the wider margin here.
    assert torch.allclose(model(layout.select(order)), at(logits, order), rtol=0, atol=1e-6)
    moved = (model(change(layout, layout.unsaid)) - logits)[..., :6].abs().amax(-1)
    assert moved[layout.said].max() < 1e-9
    assert moved[layout.unsaid].max() > 1e-4


@pytest.mark.parametrize("rule", ATTENTIONS.values(), ids=ATTENTIONS)
@torch.no_grad()
def test_a_cache_where_a_said_tokens_states_never_change(rule) -> None:
    """There is a cache just where neither a latent nor a token said later moves any context state."""
    model, layout = tiny(rule), some_layout()
    newest = layout.said & (layout.order == (layout.order * layout.said).amax(1, keepdim=True))
    moved = (model(change(layout, layout.unsaid | newest)) - model(layout))[..., :6].abs().amax(-1)
    still = bool(moved[layout.said & ~newest].max() < 1e-9)
    assert (model.new_cache() is not None) == still == rule.cacheable


@pytest.mark.parametrize("rule", ATTENTIONS.values(), ids=ATTENTIONS)
@torch.no_grad()
def test_context_sees_latents_only_where_the_rule_says_so(rule) -> None:
    model, layout = tiny(rule), some_layout()
    moved = (model(change(layout, layout.unsaid)) - model(layout))[..., :6].abs().amax(-1)
    context = moved[layout.said].max()
    assert context > 1e-3 if rule.context_sees_latents else context < 1e-9


@pytest.mark.parametrize("rule", ATTENTIONS.values(), ids=ATTENTIONS)
@pytest.mark.parametrize("rank", [0, 1, 2])
@torch.no_grad()
def test_what_a_latent_sees_of_others(rule, rank: int) -> None:
    """Change the latents above a rank, and those below it: who moves?"""
    model, layout = tiny(rule), some_layout()
    mine = layout.unsaid & (layout.order == rank)
    before = layout.unsaid & (layout.order < rank)
    after = layout.unsaid & (layout.order > rank)

    def moved(where: Tensor) -> float:
        difference = (model(change(layout, where)) - model(layout))[..., :6].abs().amax(-1)
        return float(difference[mine].max())

    assert moved(after) > 1e-3 if rule.latents == "joint" else moved(after) < 1e-9
    if rank:
        assert moved(before) < 1e-9 if rule.latents == "alone" else moved(before) > 1e-3


@pytest.mark.parametrize("rule", [SCDM, SIDM, ANY_ORDER], ids=lambda r: r.name)
@torch.no_grad()
def test_dropping_what_nobody_looks_at_changes_nothing(rule) -> None:
    model, layout = tiny(rule), some_layout()
    keep = layout.said | (layout.order <= 2)
    small = layout.select_where(keep)
    whole, part = model(layout), model(small)
    for row in range(layout.shape[0]):
        real = small.said[row] | small.unsaid[row]
        assert torch.allclose(part[row, real], whole[row, keep[row]], **EXACT)


@torch.no_grad()
def test_a_short_row_padded_is_the_row_alone() -> None:
    model, layout = tiny(MDM), some_layout()
    keep = torch.arange(10) < torch.tensor([[10], [7], [4]])
    whole = model(layout.select_where(keep))
    for row, n in enumerate([10, 7, 4]):
        alone = layout.select(torch.arange(n).expand(3, n))
        assert torch.allclose(whole[row, :n], model(alone)[row], **EXACT)


@torch.no_grad()
def test_the_head_runs_where_asked() -> None:
    model, layout = tiny(SCDM), some_layout()
    index = torch.tensor([[3, 1], [0, 9], [5, 5]])
    assert torch.equal(model(layout, index), at(model(layout), index))
    assert (model(layout)[..., 6] == -torch.inf).all()
    assert model(layout)[..., :6].isfinite().all()


@torch.no_grad()
def test_checkpoint_is_a_hugging_face_folder(tmp_path: Path) -> None:
    model, layout = tiny(SIDM), some_layout()
    model.save_pretrained(tmp_path)
    again = Denoiser.from_pretrained(tmp_path).double().eval()
    assert again.attention == SIDM and again.mask_id == 6
    assert torch.equal(again(layout), model(layout))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.config.model_type == "llama"
    other = Denoiser.from_pretrained(tmp_path, attention=MDM)
    assert other.attention == MDM


@torch.no_grad()
def test_a_foreign_model_gains_a_mask(tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"attention=us\.SCDM"):
        Denoiser.from_pretrained(tmp_path)
    model = Denoiser.from_pretrained(tmp_path, attention=SCDM)
    assert (model.mask_id, model.vocab_size) == (7, 8)
    assert model(some_layout()).shape == (3, 10, 8)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.BloomConfig(vocab_size=7, hidden_size=16, n_layer=1, n_head=2), "does not take a mask"),
        (transformers.MptConfig(vocab_size=7, d_model=16, n_layers=1, n_heads=2), "does not"),
    ],
    ids=["ALiBi", "ALiBi in MPT"],
)
def test_trunks_that_can_not_obey_are_refused(config, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Denoiser.from_config(config, attention=SCDM, mask_id=6)


def test_a_trunk_that_ignores_its_mask_is_refused() -> None:
    trunk = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL))
    trunk.base_model.register_forward_pre_hook(
        lambda _, args, options: (args, options | {"attention_mask": None}), with_kwargs=True
    )
    with pytest.raises(ValueError, match="does not obey explicit masks"):
        Denoiser(trunk, SCDM, mask_id=6)


def test_a_cache_under_either_of_its_names() -> None:
    """Transformers called it `past_key_values` until 5.23, `cache` since."""
    trunk = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL))
    assert cache_argument(trunk) in inspect.signature(trunk.base_model.forward).parameters

    class Old(torch.nn.Module):
        def forward(self, past_key_values=None): ...

    class Trunk(torch.nn.Module):
        base_model = Old()

    assert cache_argument(Trunk()) == "past_key_values"  # type: ignore[arg-type]


@torch.no_grad()
def test_a_model_of_two_positions_can_be_made() -> None:
    model = Denoiser.from_config(LlamaConfig(**{**SMALL, "max_position_embeddings": 2}), attention=SCDM, mask_id=6)
    assert model(some_layout(length=2)).shape == (3, 2, 7)


def test_a_recurrent_trunk_is_refused() -> None:
    config = transformers.MambaConfig(vocab_size=7, hidden_size=16, num_hidden_layers=1)
    with pytest.raises(ValueError, match="does not support an attention implementation"):
        Denoiser.from_config(config, attention=SCDM, mask_id=6)


def test_a_trunk_with_dropout_is_ready_to_use(tmp_path: Path) -> None:
    """GPT-2's config has dropout 0.1: nothing of it in a model just made or loaded."""
    torch.manual_seed(0)
    model = Denoiser.from_config(transformers.GPT2Config(**GPT2), attention=SCDM, mask_id=6)
    model.save_pretrained(tmp_path)
    layout = some_layout()
    for ready in (model, Denoiser.from_pretrained(tmp_path)):
        assert not any(m.training for m in ready.modules())
        assert torch.equal(ready(layout), model(layout))


@torch.no_grad()
def test_learned_positions_are_kept_and_needed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Denoiser.from_config(LlamaConfig(**SMALL), attention=SIDM, mask_id=6, positions=10)
    model.save_pretrained(tmp_path)
    layout = some_layout()
    assert torch.equal(Denoiser.from_pretrained(tmp_path)(layout), model(layout))
    (tmp_path / "unspoken.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks unspoken\.safetensors"):
        Denoiser.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="positions reach 11, the model knows 0 to 9"):
        model(some_layout(length=12))


@pytest.mark.parametrize("text", ["", "[]", '{"mask_id": 6}'])
def test_a_broken_record_is_refused(tmp_path: Path, text: str) -> None:
    tiny(SCDM).save_pretrained(tmp_path)
    (tmp_path / "unspoken.json").write_text(text)
    with pytest.raises(ValueError, match=r"no record of ours|as JSON|a JSON object"):
        Denoiser.from_pretrained(tmp_path)


def test_half_a_weights_file_is_refused(tmp_path: Path) -> None:
    tiny(SCDM).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole one"):
        Denoiser.from_pretrained(tmp_path)


def test_a_sequence_past_the_sliding_window_is_refused() -> None:
    model = Denoiser.from_config(transformers.MistralConfig(**SMALL, sliding_window=8), attention=SCDM, mask_id=6)
    with pytest.raises(ValueError, match="sliding window of 8"):
        model(some_layout())


def test_mask_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="outside the trunk's vocabulary of 7"):
        Denoiser.from_config(LlamaConfig(**SMALL), attention=SCDM, mask_id=7)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model in"):
        Denoiser.from_pretrained(tmp_path / "nothing", attention=SCDM)
    with pytest.raises(ValueError, match="there is no such folder"):
        Denoiser.from_pretrained("a/b/c", attention=SCDM)
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        Denoiser.from_pretrained(tmp_path, attention=SCDM)
    with pytest.raises(ValueError, match="there is no folder runs/nothing"):
        Denoiser.from_pretrained("runs/nothing")


def test_a_name_that_is_no_folder_and_not_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise OSError("no network " * 100)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", absent)
    with pytest.raises(ValueError, match="no folder here, nor on the Hugging Face Hub: no network") as caught:
        Denoiser.from_pretrained("runs/nothing", attention=SCDM)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "sdar", "auto_map": {"AutoModel": "modeling_sdar.SDARModel"}},
            "'sdar', with code of its own",
        ),
        ({"model_type": "vit"}, "'vit', which is no causal language model"),
        ({"model_type": "diffusion_gemma"}, "'diffusion_gemma', which can not be read: its encoder reads the prompt"),
        ({"model_type": "x" * 1000}, "does not know it"),
        ({"type": "Train"}, r"no model_type; a run folder.* is loaded by us\.load"),
        ([], "no JSON of a config"),
    ],
    ids=["own code", "other model", "encoder and decoder", "long name", "run folder", "list"],
)
@pytest.mark.parametrize("options", [{}, {"attention": SCDM}], ids=["bare", "attention"])
def test_a_folder_of_a_model_that_is_not_known(tmp_path: Path, config: Any, message: str, options: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as caught:
        Denoiser.from_pretrained(tmp_path, **options)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300


def saved(folder: Path, **fields: Any) -> dict[str, Tensor]:
    """The weights of a small Llama of someone else's, saved in a folder."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**SMALL | fields)).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


DAMAGE: dict[str, tuple[Any, str]] = {
    "no head": (lambda w: w.pop("lm_head.weight"), "lacks 1 weights, such as lm_head.weight"),
    "a projection": (lambda w: w.pop("model.layers.1.mlp.down_proj.weight"), r"lacks 1 .*layers\.1\.mlp\.down_proj"),
    "a layer": (lambda w: [w.pop(n) for n in list(w) if "layers.1." in n], r"lacks 9 .*layers\.1\.input_layernorm"),
    "a stranger": (
        lambda w: w.update({"model.other": torch.ones(2)}),
        r"does not ask for, 1 weights, such as model\.other",
    ),
    "a shape": (lambda w: w.update({"model.norm.weight": torch.ones(8)}), r"model\.norm\.weight"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_without_just_its_weights_is_refused(tmp_path: Path, damage: str) -> None:
    weights = saved(tmp_path)
    hurt, message = DAMAGE[damage]
    hurt(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        Denoiser.from_pretrained(tmp_path, attention=SCDM)


@pytest.mark.parametrize(("layers", "message"), [(3, "lacks 9 weights"), (1, "does not ask for, 9 weights")])
def test_a_config_of_other_layers_is_refused(tmp_path: Path, layers: int, message: str) -> None:
    saved(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": layers}))
    with pytest.raises(ValueError, match=message):
        Denoiser.from_pretrained(tmp_path, attention=SCDM)


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    assert "lm_head.weight" not in saved(tmp_path, tie_word_embeddings=True)
    Denoiser.from_pretrained(tmp_path, attention=SCDM)


@pytest.mark.parametrize("name", ["model.safetensors", "unspoken.safetensors"])
def test_a_changed_byte_of_our_weights_is_noticed(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    Denoiser.from_config(LlamaConfig(**SMALL), attention=SIDM, mask_id=6, positions=10).save_pretrained(tmp_path)
    weights = bytearray((tmp_path / name).read_bytes())
    weights[-1] ^= 1
    (tmp_path / name).write_bytes(weights)
    with pytest.raises(ValueError, match=f"{name} is not a whole one"):
        Denoiser.from_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}"):
        Denoiser.from_pretrained(tmp_path)


def test_our_folders_of_before_had_no_sums(tmp_path: Path) -> None:
    model, layout = tiny(SIDM, positions=10), some_layout()
    model.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "unspoken.json").read_text())
    assert record.pop("sha256").keys() == {"model.safetensors", "unspoken.safetensors"}
    (tmp_path / "unspoken.json").write_text(json.dumps(record))
    assert torch.equal(Denoiser.from_pretrained(tmp_path)(layout), model(layout))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_weights_that_are_no_numbers_are_named(where: str, number: float) -> None:
    trunk = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL))
    trunk.get_parameter(where).data[0, 0] = number
    with pytest.raises(ValueError, match=f"weight {where} holds NaN or infinite numbers"):
        Denoiser(trunk, SCDM, mask_id=6)


@torch.no_grad()
def test_two_models_of_one_config_share_nothing() -> None:
    """Neither the config that was given, nor a trunk of it, nor the first model notices the second."""
    config = LlamaConfig(**SMALL)
    trunks = [transformers.LlamaForCausalLM(config) for _ in range(2)]
    before = config.to_dict() | {"attention": config._attn_implementation}
    model = Denoiser.from_config(config, attention=SCDM, mask_id=6)
    layout = some_layout()
    logits = model(layout)
    Denoiser.from_config(config, attention=SCDM, mask_id=6, kernel="flex")
    Denoiser(trunks[0], SCDM, mask_id=6, kernel="flex")
    assert torch.equal(model(layout), logits)
    assert config.to_dict() | {"attention": config._attn_implementation} == before
    assert trunks[1].config is config
    held: list[Any] = [module.config for module in model.trunk.modules() if hasattr(module, "config")]
    assert len(held) > 3 and len({id(own) for own in held}) == 1
    assert held[0] is not config and held[0]._attn_implementation == "sdpa"


def test_flex_on_a_cpu_is_refused() -> None:
    model = Denoiser.from_config(LlamaConfig(**SMALL), attention=SCDM, mask_id=6, kernel="flex")
    for length in (8, 10):
        with pytest.raises(ValueError, match="needs a GPU"):
            model(some_layout(length=length))
    kernel: Any = "fused"
    with pytest.raises(ValueError, match="write one of sdpa, flex"):
        Denoiser.from_config(LlamaConfig(**SMALL), attention=SCDM, mask_id=6, kernel=kernel)


def hooked(change: Any) -> Any:
    """A Llama whose last states are changed."""
    trunk = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL))
    trunk.base_model.register_forward_hook(lambda _, args, out: out | {"last_hidden_state": change(out[0])})
    return trunk


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h * h.shape[0], "a row otherwise in a batch than alone"),
        (lambda h: h + 0.1 * h.mean(1, keepdim=True), "explicit masks"),
        (lambda h: h * (1 + 0.1 * torch.arange(h.shape[1])[:, None]), "explicit positions"),
        (lambda h: h * (1 + h.shape[1]), "that it does not see are not in the pass"),
    ],
    ids=["batch", "mask", "order", "presence"],
)
def test_each_law_is_probed(change: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Denoiser(hooked(change), SCDM, mask_id=6)


def test_a_trunk_in_half_precision_may_give_wider_logits() -> None:
    trunk = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).to(torch.bfloat16)
    trunk.register_forward_hook(lambda _, args, out: out | {"logits": out["logits"].float()})
    assert Denoiser(trunk, SCDM, mask_id=6).trunk.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("attention", v) for v in (7, [], {"context": "sideways"}, {"context": 1}, {"latents": None})],
        *[("mask_id", v) for v in ("6", 1.5, None, True)],
        *[("positions", v) for v in ("7", None)],
        *[("times", v) for v in (1, "no")],
        *[("loops", v) for v in ("2", 1.5, None)],
        *[("carry", v) for v in (1, "no", None)],
        *[("shift", v) for v in (1, "no", None)],
        *[("port", v) for v in (7, {"type": "Codes"}, {"type": "Door"})],
        *[("sha256", v) for v in ([], {"model.safetensors": 7})],
    ],
    ids=str,
)
def test_a_record_of_another_shape_is_refused_with_its_file(name, value, tmp_path):
    model = tiny(SCDM)
    model.save_pretrained(tmp_path)
    file = tmp_path / "unspoken.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=r"unspoken\.json|the record|port"):
        Denoiser.from_pretrained(tmp_path)
