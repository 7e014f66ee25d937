"""A Hugging Face tokenizer as a task uses it: text that is never read as a special token, chats, and bytes of tokens.

A user's text may hold the very letters of a special token, the mask's included. There a seam is put between the first
letter and the rest, a letter that the text has not, and what is on its two sides is tokenised apart: so the text comes
back letter by letter, and no special token is made of it. Chat templates are rendered from texts with seams.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from unspoken.messages import first_line, quoted
from unspoken.noise.space import MASK
from unspoken.tasks.text.vocabulary import letters

Part = tuple[list[int], bool]  # token ids, and whether they are given

_PRIVATE = range(0xE000, 0xF900)  # letters that Unicode gives no meaning: one of them is the seam
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # a byte, as tokenizers with a fallback to bytes write it


@lru_cache(maxsize=4)
def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or of a model on the Hub; ValueError where there is none."""
    from transformers import AutoTokenizer  # slow to import

    if not name:
        raise ValueError("no tokenizer given; write tokenizer= a folder with tokenizer.json, or a model's name")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # of a folder that holds none, of no connection, of code that is not there
        expected = "a folder with tokenizer.json, or a model's name on the Hub, expected"
        raise ValueError(f"tokenizer={name} is not to be read ({first_line(error)}); {expected}") from None
    if tokenizer.eos_token_id is None:
        raise ValueError(f"tokenizer={name} has no eos_token, which says that a text is over; set one and save")
    return tokenizer


@lru_cache(maxsize=4)
def coding(name: str, mask: str) -> Coding:
    """The tokenizer of that name, with a token of it as the mask, or one more where `mask` is empty.

    One more is called `MASK`; a tokenizer that has such a token is one that was given it.
    """
    tokenizer = load_tokenizer(name)
    vocabulary = tokenizer.get_vocab()
    if not mask and MASK not in vocabulary:
        return Coding(tokenizer, len(tokenizer))
    if (mask := mask or MASK) not in vocabulary:
        raise ValueError(f"mask={quoted(mask)} is no token of {quoted(name)}; write one, or '' for one more")
    return Coding(tokenizer, vocabulary[mask], mask)


@dataclass(frozen=True, eq=False)
class Coding:
    """A tokenizer of transformers, and the mask.

    mask_id: past the tokenizer's last where it is none of its tokens. mask: its letters, empty then.
    """

    tokenizer: Any
    mask_id: int
    mask: str = ""

    @cached_property
    def special(self) -> dict[str, int]:
        """The tokens that no text may be read as, by their letters: the special ones, and the mask."""
        added = self.tokenizer.added_tokens_decoder.items()
        found = {token.content: number for number, token in added if token.special}
        found |= dict(zip(self.tokenizer.all_special_tokens, self.tokenizer.all_special_ids, strict=True))
        return found | ({self.mask: self.mask_id} if self.mask else {})

    @cached_property
    def any_special(self) -> re.Pattern[str]:
        """Finds the letters of a special token, in a group."""
        words = sorted(filter(None, self.special), key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, words)) + ")")

    @property
    def eos_id(self) -> int:
        """Of the token that says that a text is over."""
        return self.tokenizer.eos_token_id

    @property
    def pad_id(self) -> int:
        """What stands where a row has no token."""
        pad = self.tokenizer.pad_token_id
        return self.eos_id if pad is None or pad == self.mask_id else pad

    @cached_property
    def front(self) -> list[int]:
        """What the tokenizer puts before a text of its own accord."""
        plain, whole = self._plain("a"), list(self.tokenizer("a")["input_ids"])
        begins = (i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        return whole[: next(begins, 0)]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that tokens depend on."""
        import tokenizers

        its = self.tokenizer
        whole = its.backend_tokenizer.to_str() if its.is_fast else repr(sorted(its.get_vocab().items()))
        said = repr((tokenizers.__version__, whole, its.chat_template, self.special, self.front))
        return hashlib.sha256(said.encode()).hexdigest()

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of text that each token stands for: none for a special one."""
        names = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        by_bytes = self.tokenizer.is_fast and '"ByteLevel"' in self._decoder
        byte_of = {letter: byte for byte, letter in enumerate(letters())}
        silent = {*self.special.values(), self.mask_id}
        added = {number: token.content for number, token in self.tokenizer.added_tokens_decoder.items()}
        found = []
        for number, name in enumerate(names):
            if number in silent or name is None:
                found.append(b"")
            elif number in added:
                found.append(added[number].encode())
            elif by_bytes:
                found.append(bytes(byte_of[letter] for letter in name if letter in byte_of))
            else:
                byte = _BYTE.fullmatch(name)
                found.append(bytes.fromhex(byte[1]) if byte else name.replace("▁", " ").encode())
        return tuple(found)

    @property
    def _decoder(self) -> str:
        """The part of the tokenizer that makes text of tokens, as JSON."""
        its = self.tokenizer.backend_tokenizer.decoder
        return "" if its is None else its.__getstate__().decode()

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, none of them special; ValueError where that cannot be."""
        seam = _seam(text)
        tokens = self._sewn(self._open(text, seam), seam)
        wrong = set(tokens) & ({*self.special.values()} - {self.tokenizer.unk_token_id} | {self.mask_id})
        if wrong:  # a special token of one letter
            word = self.tokenizer.convert_ids_to_tokens(min(wrong))
            raise ValueError(f"a text is read as the special token {quoted(word)}; take its letters out of the text")
        return tokens

    def chat(self, messages: Sequence[dict[str, Any]], every: bool) -> list[Part]:
        """A conversation as the template writes it, in parts that are given and parts that are asked.

        Asked is what follows the header of the last answer, or of every one, up to the end of the turn, without white
        space after it. ValueError where the template does not write a conversation as a beginning of a longer one.
        """
        self.check_template()
        seam = _seam(*(str(m["content"]) for m in messages))
        known = [{**m, "content": self._open(m["content"], seam)} for m in messages]
        answers = [k for k, m in enumerate(messages) if m["role"] == "assistant"]
        parts, done = list[Part](), ""
        for k in answers if every else answers[-1:]:
            header, whole = self._rendered(known[:k], True), self._rendered(known[: k + 1], False)
            if not (header.startswith(done) and whole.startswith(header)):
                raise ValueError(
                    "the chat template writes a conversation otherwise once it goes on; train its last answers alone "
                    "(turns='last'), or take another template"
                )
            said = whole[len(header) :].rstrip()
            parts += [(self._sewn(header[len(done) :], seam), True), (self._sewn(said, seam), False)]
            done = header + said
        return parts

    def check_template(self) -> None:
        """ValueError where there is no chat template."""
        if not self.tokenizer.chat_template:
            raise ValueError(
                "the tokenizer has no chat template, and messages are given; give prompt and response, or set "
                "tokenizer.chat_template and save it"
            )

    def _rendered(self, messages: list[dict[str, Any]], more: bool) -> str:
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=more)
        except Exception as error:  # a template raises what it pleases
            raise ValueError(f"the chat template does not write these messages ({first_line(error)})") from None

    def _open(self, text: str, seam: str) -> str:
        """The text, with a seam after the first letter of what would be read as a special token."""
        return self.any_special.sub(lambda found: found[0][0] + seam + found[0][1:], text)

    def _sewn(self, text: str, seam: str) -> list[int]:
        """The tokens of a text with seams, piece by piece."""
        return [token for piece in text.split(seam) if piece for token in self._plain(piece)]

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _seam(*texts: str) -> str:
    """A letter that is in none of the texts."""
    used = set().union(*texts)
    seam = next((chr(code) for code in _PRIVATE if chr(code) not in used), None)
    if seam is None:
        raise ValueError("a text holds every private letter of Unicode (U+E000 to U+F8FF); take one of them out of it")
    return seam
