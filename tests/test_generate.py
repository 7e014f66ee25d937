"""Generation: that of transformers without latents, a batch as its rows, ends, stop strings, gaps, streams."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import made
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from words import spaced, tokenizer

import unspoken as us
from unspoken.decoders.endings import Endings
from unspoken.decoders.policies import entropy_of
from unspoken.decoders.sampling import nucleus
from unspoken.model.tokens import ids_after, ids_of, prompt_ids, text_after


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> us.Denoiser:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    words = tokenizer()
    trunk = made("llama", vocab_size=len(words)).double()
    for weight in trunk.parameters():  # so that what comes next depends on what was
        weight.data *= 4
    trunk.save_pretrained(folder)
    words.save_pretrained(folder)
    return us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT, dtype=torch.float64)


def ragged(n: int, most: int = 9) -> tuple[Tensor, Tensor]:
    """Prompts of 1 to `most` tokens, padded on the left."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 280, (n, most), generator=generator)
    lengths = torch.randint(1, most + 1, (n, 1), generator=generator)
    mask = (torch.arange(most) >= most - lengths).long()
    return ids * mask, mask


@pytest.mark.parametrize("cache", [True, False])
def test_without_latents_it_is_transformers(model: us.Denoiser, cache: bool) -> None:
    ids, mask = ragged(50)
    theirs: Any = model.trunk
    with torch.no_grad():
        greedy: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "suppress_tokens": [model.mask_id]}
        expected = theirs.generate(ids, attention_mask=mask, **greedy, eos_token_id=0, pad_token_id=0)
    found = model.generate(ids, mask, max_new_tokens=8, decoder=us.NextToken(cache=cache), eos_token_id=0)
    assert torch.equal(found, expected)
    assert len({tuple(row) for row in expected[:, 9:].tolist()}) > 25, "the rows differ"


DECODERS = {
    "next": us.NextToken(),
    "slots": us.Slots(latents=2, order="left_to_right", latent_policy="next"),
    "speculation": us.Speculation(latents=2),
    "any order": us.Slots(latents=3),
}


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
def test_a_batch_is_its_rows(model: us.Denoiser, decoder: Any) -> None:
    ids, mask = ragged(5)
    ends = tuple(range(1, 40))  # so that some rows end early
    if decoder is DECODERS["any order"]:
        decoder = replace(decoder, candidates=64, latents=None)  # else they are drawn, and a batch draws otherwise
        ends = tuple(range(1, 250))
    whole = model.generate(ids, mask, max_new_tokens=7, decoder=decoder, eos_token_id=ends, pad_token_id=0)
    early = 0
    for row in range(5):
        there = mask[row].bool()
        alone = model.generate(
            ids[row][there][None], max_new_tokens=7, decoder=decoder, eos_token_id=ends, pad_token_id=0
        )
        new = alone[0, int(there.sum()) :]
        early += len(new) < 7
        padded = torch.cat([new, torch.zeros(whole.shape[1] - 9 - len(new), dtype=torch.int64)])
        assert torch.equal(whole[row, 9:], padded)
        assert not torch.isin(new[:-1], torch.tensor(ends)).any(), "nothing comes after an end"
    assert early, "some row ends early"


def test_speculation_says_what_the_slots_say_also_where_rows_end(model: us.Denoiser) -> None:
    ids, mask = ragged(8)
    options: dict[str, Any] = {"max_new_tokens": 9, "eos_token_id": tuple(range(1, 60)), "pad_token_id": 0}
    plain = model.generate(ids, mask, decoder=DECODERS["slots"], **options)
    assert torch.equal(plain, model.generate(ids, mask, decoder=us.Speculation(latents=2), **options))


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)
def test_a_row_that_has_ended_is_in_no_pass(model: us.Denoiser, decoder: Any) -> None:
    """All tokens end a text, so each row says one, in one pass."""
    ids, _ = ragged(3)
    canvas = torch.cat([ids, torch.full((3, 6), model.mask_id)], 1)
    endings = Endings(ends=tuple(range(1, model.mask_id)), never=(0,))
    steps = list(us.decode(model, canvas, decoder=decoder, endings=endings))
    if decoder is not DECODERS["any order"]:
        assert len(steps) == 1
    assert [int((row != model.mask_id).sum()) for row in steps[-1].tokens] == [10, 10, 10]


def test_an_end_waits_for_its_turn(model: us.Denoiser) -> None:
    """In any order, an end that is the likeliest token everywhere is said first where all before it is said."""
    canvas = torch.tensor([[5, 6] + [model.mask_id] * 6])
    end = int(next(us.decode(model, canvas, decoder=us.Slots())).likeliest[0, 0])
    for step in us.decode(model, canvas, decoder=us.Slots(), endings=Endings(ends=(end,))):
        said = step.tokens[0]
        if bool((said == end).any()):
            assert bool((said[: int((said == end).nonzero()[0])] != model.mask_id).all())


def test_what_is_never_said_is_not(model: us.Denoiser) -> None:
    canvas = torch.tensor([[5, 6] + [model.mask_id] * 6])
    for decoder in (us.NextToken(), us.Slots(), us.Speculation()):
        *_, free = us.decode(model, canvas, decoder=decoder)
        never = tuple(free.tokens[0, 2:].tolist())
        *_, barred = us.decode(model, canvas, decoder=decoder, endings=Endings(never=never))
        assert not set(never) & set(barred.tokens[0, 2:].tolist())


def test_blocks_are_said_one_after_the_other(model: us.Denoiser) -> None:
    seen: list[int] = []

    class Watched(us.Slots):
        def steps(self, model: Any, tokens: Tensor, **options: Any) -> Any:
            for step in super().steps(model, tokens, **options):
                seen.append(int(step.position[0].max()))
                yield step

    ids = torch.tensor([[5, 6]])
    found = model.generate(ids, max_new_tokens=6, decoder=Watched(), block=3, eos_token_id=())
    assert found.shape == (1, 8) and not bool((found == model.mask_id).any())
    assert max(seen[:3]) <= 4 and min(seen[3:]) >= 5


def test_a_block_decoder_goes_on_and_what_follows_the_end_is_cut_off(model: us.Denoiser) -> None:
    """`Blocks` knows no ends: the result is as if it did."""
    ids = torch.tensor([[5, 6]])
    whole = model.generate(ids, max_new_tokens=6, decoder=us.Blocks(size=2), eos_token_id=())
    end = int(whole[0, 4])
    at = whole[0, 2:].tolist().index(end)
    cut = model.generate(ids, max_new_tokens=6, decoder=us.Blocks(size=2), eos_token_id=end)
    assert torch.equal(cut, whole[:, : 2 + at + 1])


def test_a_far_end_makes_no_position_certain() -> None:
    """Where an end was barred that was nearly sure, little else is left: by entropy too it is said late."""
    logp = torch.tensor([[0.98, 0.01, 0.01], [0.1, 0.6, 0.3]], dtype=torch.float64).log()
    barred = Endings(ends=(0,)).in_turn(logp[None], torch.tensor([[False, False]]))[0]
    assert torch.allclose(barred[:, 1:], logp[:, 1:]) and bool(barred[:, 0].isneginf().all())
    first, second = entropy_of(barred).tolist()
    assert first > second
    assert torch.allclose(entropy_of(logp), torch.distributions.Categorical(logits=logp).entropy())


def test_a_stream_ends_with_the_text(model: us.Denoiser) -> None:
    """Tokens that the same pass said after the end are not shown."""
    got: list[int] = []

    class Stream:
        def put(self, value: Tensor) -> None:
            got.extend(value.flatten().tolist())

        def end(self) -> None: ...

    ids = torch.tensor([[5, 6]])
    several = us.Slots(commit=3, order="left_to_right", latent_policy="next")
    whole = model.generate(ids, max_new_tokens=6, decoder=several, eos_token_id=())
    end = int(whole[0, 2])
    found = model.generate(ids, max_new_tokens=6, decoder=several, eos_token_id=end, streamer=Stream())
    assert got == found[0].tolist() == [5, 6, end]


def test_the_letters_of_a_gap_in_a_chat_are_letters(model: us.Denoiser) -> None:
    chat = [{"role": "u", "content": "what is <fill 3>?"}]
    text = "<u>what is <fill 3>?<a>"
    options: dict[str, Any] = {"max_new_tokens": 4, "eos_token_id": ()}
    assert us.generate(model, chat, **options) == us.generate(model, text, fill=False, **options)


def test_stops_may_be_special_tokens_and_padding_is_no_text(model: us.Denoiser) -> None:
    words: Any = model.tokenizer
    whole = model.generate(torch.tensor([words("the cat")["input_ids"]]), max_new_tokens=8, eos_token_id=())
    new = whole[0, -8:].tolist()
    end = new[3]
    text = us.generate(model, "the cat", max_new_tokens=8, eos_token_id=end)
    assert text == words.decode(new[: new.index(end) + 1], skip_special_tokens=True)
    both = us.generate(model, ["the cat", "once upon a time"], max_new_tokens=8, eos_token_id=end, pad_token_id=end)
    assert both[0] == text, "what fills a short row up is no text of it"
    if 0 in new:
        assert us.generate(model, "the cat", max_new_tokens=8, eos_token_id=(), stop_strings="<end>") == words.decode(
            new[: new.index(0)]
        )


def test_gaps_are_filled_from_slots_and_hold_no_ends(model: us.Denoiser) -> None:
    text = "a <fill 3> b"
    assert us.generate(model, text) == us.generate(model, text, decoder=us.Slots())
    tokens = torch.tensor([[5] + [model.mask_id] * 5 + [6]])
    *_, free = us.decode(model, tokens, decoder=us.Slots())
    never = tuple(set(free.tokens[0, 1:6].tolist()))
    *_, other = us.decode(model, tokens, decoder=us.Slots(), endings=Endings(never=never))
    assert not set(never) & set(other.tokens[0, 1:6].tolist())


def test_gaps_are_not_read_at_the_end_of_the_prompt(model: us.Denoiser) -> None:
    for ask in (us.generate, us.read):
        with pytest.raises(ValueError, match="lies after the gap"):
            ask(model, "a <fill 3> b", decoder=us.NextToken())


def test_a_prompt_that_begins_with_bos_gets_no_second(model: us.Denoiser) -> None:
    """As chat templates write it; `adding` is a tokenizer that puts BOS before a text."""
    adding: Any = tokenizer()
    adding.add_special_tokens({"bos_token": "<end>"})
    adding.backend_tokenizer.post_processor = TemplateProcessing("<end> $A", special_tokens=[("<end>", 0)])
    plain, whole = (prompt_ids(adding, text, model.mask_id) for text in ("the cat", "<end>the cat"))
    assert plain == whole and plain.count(0) == 1


def test_texts(model: us.Denoiser) -> None:
    prompts = ["the cat", "once upon a"]
    both = us.generate(model, prompts, max_new_tokens=5, eos_token_id=())
    assert both == [us.generate(model, prompt, max_new_tokens=5, eos_token_id=()) for prompt in prompts]
    whole = us.generate(model, "the cat", max_new_tokens=12, eos_token_id=())
    stop = whole[2:4]
    cut = us.generate(model, "the cat", max_new_tokens=12, eos_token_id=(), stop_strings=stop)
    assert cut == whole[: whole.find(stop)]
    words = model.tokenizer
    assert words is not None
    ids = torch.tensor([words("the cat")["input_ids"]])
    expected = words.decode(model.generate(ids, max_new_tokens=5, eos_token_id=())[0, ids.shape[1] :])
    assert both[0] == expected


def test_a_stopped_row_is_in_no_further_pass(model: us.Denoiser) -> None:
    calls: list[int] = []

    def stopped(new: Tensor) -> list[bool]:
        calls.append(len(new))
        return [len(new) >= 3]

    found = model.generate(torch.tensor([[5, 6]]), max_new_tokens=30, eos_token_id=(), stopped=stopped)
    assert found.shape == (1, 5) and calls == [1, 2, 3, 3]


def test_chats_are_written_by_the_template(model: us.Denoiser) -> None:
    chat = [{"role": "u", "content": "the cat"}]
    options: dict[str, Any] = {"max_new_tokens": 4, "eos_token_id": ()}
    assert us.generate(model, chat, **options) == us.generate(model, "<u>the cat<a>", **options)
    assert us.generate(model, [chat, chat], **options) == [us.generate(model, chat, **options)] * 2


def test_gaps_are_filled_and_the_rest_is_kept_to_the_byte(model: us.Denoiser) -> None:
    text = us.generate(model, "Ünce  <fill 3> liv\u00e9d\n a <fill 1>\t", decoder=us.Slots())
    assert text.startswith("Ünce  ") and " liv\u00e9d\n a " in text and text.endswith("\t")
    words = model.tokenizer
    assert words is not None
    assert us.generate(model, "a <fill 2>", decoder=us.Slots()).startswith("a ")
    with pytest.raises(ValueError, match="such prompts alone"):
        us.generate(model, ["a <fill 2>", "b"])


@pytest.mark.parametrize("words", [tokenizer(), spaced()], ids=["bytes", "spaces"])
def test_a_text_after_another_keeps_its_first_space(words: Any) -> None:
    """Read after another text and written again, the two together are the whole; also where tokenizers add a space."""
    whole = "the cat sat on the mat. a dog ran far away"
    for at in (0, 3, 4, 7, 8, len(whole)):
        before, after = whole[:at], whole[at:]
        ids = ids_after(words, after, len(words))
        assert text_after(words, ids) == after
        both = [*ids_of(words, before, len(words), add_special_tokens=False), *ids] if before else []
        assert not both or words.decode(both) == whole
    assert words.decode(words(" dog", add_special_tokens=False)["input_ids"]).lstrip() == "dog"


def test_words_after_others_are_kept_where_the_anchors_are_unknown() -> None:
    """A tokenizer that knows a few words alone."""
    plain = Tokenizer(models.WordLevel({"<unk>": 0, "A": 1, "C": 2, "G": 3}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words: Any = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="<unk>")
    assert ids_after(words, "C G", 9) == [2, 3]
    assert [text_after(words, [2, 3], skip_special_tokens=skip).strip() for skip in (True, False)] == ["C G"] * 2


def test_a_mask_written_in_a_text_is_text(model: us.Denoiser) -> None:
    words = model.tokenizer
    assert words is not None
    assert words("<|mask|>")["input_ids"] == [model.mask_id]
    text = "<|mask|> □<|mask|><|mask|>"
    ids = ids_of(words, text, model.mask_id)
    assert model.mask_id not in ids and words.decode(ids) == text
    assert us.generate(model, text, max_new_tokens=2) == us.generate(model, [text], max_new_tokens=2)[0]
    assert us.generate(model, "<|mask|> <fill 2>", decoder=us.Slots()).startswith("<|mask|> ")


def test_streams_are_the_text_in_order(model: us.Denoiser) -> None:
    for decoder in (us.NextToken(), us.Slots(latents=None)):
        got: list[list[int]] = []
        ended: list[bool] = []

        class Stream:
            def put(self, value: Tensor, got: list[list[int]] = got) -> None:
                got.append(value.flatten().tolist())

            def end(self, ended: list[bool] = ended) -> None:
                ended.append(True)

        ids = torch.tensor([[5, 6]])
        found = model.generate(ids, max_new_tokens=6, decoder=decoder, streamer=Stream(), eos_token_id=())
        assert got[0] == [5, 6] and [*itertools.chain(*got)] == found[0].tolist() and ended == [True]


def test_continuations_differ_by_draws_and_come_back_by_seed(model: us.Denoiser) -> None:
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "num_return_sequences": 4, "eos_token_id": ()}
    found = us.generate(model, "the cat", seed=1, **options)
    assert len(found) == 4 and len(set(found)) > 1
    assert found == us.generate(model, "the cat", seed=1, **options)
    assert found != us.generate(model, "the cat", seed=2, **options)
    sure = us.generate(model, "the cat", max_new_tokens=6, temperature=1.0, top_k=1, eos_token_id=())
    assert sure == us.generate(model, "the cat", max_new_tokens=6, eos_token_id=())


def test_the_nucleus() -> None:
    p = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64)
    assert (nucleus(p, 0, 0.7) > 0).tolist() == [True, False, True, False]
    assert (nucleus(p, 0, 0.71) > 0).tolist() == [True, False, True, True]
    assert (nucleus(p, 2, 1.0) > 0).tolist() == [True, False, True, False]
    assert (nucleus(p, 0, 1e-9) > 0).tolist() == [True, False, False, False]
    assert torch.equal(nucleus(p, 0, 1.0), p)
    assert (nucleus(p, 3, 0.5) > 0).tolist() == [True, False, True, False]  # of .9, half is .45


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 10**6}, "knows"),
        ({"num_return_sequences": 0}, "num_return_sequences"),
        ({"top_p": 0.5}, "temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p"),
        ({"threshold": 0.5, "decoder": us.NextToken()}, "threshold is an option of"),
        ({"attention_mask": torch.zeros(1, 2)}, "empty prompt"),
        ({"attention_mask": torch.ones(1, 3)}, "give one shape"),
    ],
)
def test_bad_calls_are_refused(model: us.Denoiser, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked: dict[str, Any] = {"max_new_tokens": 4} | options
        model.generate(torch.tensor([[5, 6]]), **asked)


def test_bad_prompts_are_refused(model: us.Denoiser) -> None:
    generate: Any = us.generate
    for prompt, message in (
        ("", "an empty prompt"),
        ([], "no prompts"),
        ([3], "a prompt is int"),
        ("<fill 0>", "no gap"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(model, prompt)
    with pytest.raises(ValueError, match="ends every text"):
        us.generate(model, "a", stop_strings="")
    with pytest.raises(ValueError, match="holds the mask"):
        model.generate(torch.tensor([[5, model.mask_id]]))
    bare = us.Denoiser(made("llama"), us.CACHED_JOINT, 12)
    with pytest.raises(ValueError, match="needs the model's tokenizer"):
        us.generate(bare, "a")
