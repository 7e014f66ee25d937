"""The tokenizer of a text model: loaded from the folder of its weights, and the only one that fits them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from unspoken.model.folder import quietly

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
PASSED = ("gguf_file", "revision", "token", "cache_dir", "subfolder", "local_files_only", "trust_remote_code")


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of `transformers` have it."""

    eos_token_id: Any
    bos_token_id: Any
    chat_template: Any
    all_special_tokens: Any
    vocab_size: int  # without what was added to it

    def __len__(self) -> int: ...
    def get_vocab(self) -> dict[str, int]: ...
    def __call__(self, text: Any, **options: Any) -> Any: ...
    def decode(self, token_ids: Any, **options: Any) -> Any: ...
    def convert_ids_to_tokens(self, ids: Any, **options: Any) -> Any: ...
    def convert_tokens_to_ids(self, tokens: Any) -> Any: ...
    def add_special_tokens(self, special_tokens_dict: Any, **options: Any) -> int: ...
    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...
    def save_pretrained(self, save_directory: str, **options: Any) -> Any: ...


def load_tokenizer(folder: str | Path, options: dict[str, Any]) -> Tokenizer | None:
    """The tokenizer of a model's folder, or of a name of the Hugging Face Hub; None where there is none.

    options: those that the trunk was loaded with. Raises ValueError where there is one that can not be read.
    """
    path = Path(folder)
    if path.exists() and not any((path / name).exists() for name in FILES) and "gguf_file" not in options:
        return None
    from transformers import AutoTokenizer

    try:
        with quietly():
            return AutoTokenizer.from_pretrained(folder, **{n: options[n] for n in PASSED if n in options})
    except Exception as error:  # of the many kinds of tokenizers each fails in its own way
        if not path.exists():
            return None  # a name of the Hub without one
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"the tokenizer in {folder} can not be read: {said}") from error


def tokenizer_of(model: Any, asked: str) -> Tokenizer:
    """A model's tokenizer. asked: what wants it. Raises ValueError where there is none."""
    known = getattr(model, "tokenizer", None)
    if known is None:
        raise ValueError(
            f"{asked} needs the model's tokenizer, and it has none; set one: model.tokenizer = "
            "transformers.AutoTokenizer.from_pretrained(...)"
        )
    return known


def prompt_ids(tokenizer: Tokenizer, text: str, mask_id: int) -> list[int]:
    """The tokens of a prompt: with the special tokens that the tokenizer adds, but no second BOS where one is there."""
    begin = getattr(tokenizer, "bos_token", None)
    return ids_of(tokenizer, text, mask_id, add_special_tokens=not (begin and text.startswith(begin)))


def ids_of(tokenizer: Tokenizer, text: str, mask_id: int, **options: Any) -> list[int]:
    """The tokens of a text, none of them the mask: its letters are tokenised apart, the first from the others.

    options: of the tokenizer, for the text's beginning.
    """
    known = tokenizer.convert_ids_to_tokens(mask_id) if mask_id < len(tokenizer) else None
    first, *rest = text.split(known) if known else [text]
    if not rest:
        return list(tokenizer(text, **options)["input_ids"])
    assert known is not None
    pieces = [first + known[0], *(known[1:] + each + known[0] for each in rest[:-1]), known[1:] + rest[-1]]
    begin = tokenizer(pieces[0], **options)["input_ids"]
    return [*begin, *(i for each in pieces[1:] for i in tokenizer(each, add_special_tokens=False)["input_ids"])]


ANCHORS = ".", "a", "\n"  # short texts that others stand after


def text_after(tokenizer: Tokenizer, new: Any, **options: Any) -> str:
    """The text of tokens that stand after others: with the space before the first word.

    By themselves, tokenizers of SentencePiece's kind take that space for the beginning of a text, and drop it.
    """
    new = [int(token) for token in new]
    for _, anchor in _anchors(tokenizer):
        begin, both = (tokenizer.decode(ids, **options) for ids in (anchor, [*anchor, *new]))
        if both.startswith(begin):
            return both[len(begin) :]
    return tokenizer.decode(new, **options)


def ids_after(tokenizer: Tokenizer, text: str, mask_id: int) -> list[int]:
    """The tokens of a text that stands after others: tokenizers of SentencePiece's kind put no space before it."""
    for anchor, begin in _anchors(tokenizer):
        both = ids_of(tokenizer, anchor + text, mask_id, add_special_tokens=False)
        if both[: len(begin)] == begin:
            return both[len(begin) :]
    return ids_of(tokenizer, text, mask_id, add_special_tokens=False)


def _anchors(tokenizer: Tokenizer) -> Iterator[tuple[str, list[int]]]:
    """The anchors and their tokens, of those that the tokenizer knows."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    for text in ANCHORS:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if ids and (unknown is None or unknown not in ids):
            yield text, ids
