"""What a token is: a byte, or a piece of byte-level BPE. Either way every text, every byte, can be said."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unspoken.tasks.store import cache_dir, kept

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Vocabulary:
    """pieces: the bytes that each token stands for. cut: bytes into tokens."""

    pieces: tuple[bytes, ...]
    cut: Callable[[bytes], Tokens]

    @property
    def width(self) -> NDArray[np.int64]:
        """`[pieces]`: bytes that each token stands for."""
        return np.array([len(piece) for piece in self.pieces])


def _each_byte(text: bytes) -> Tokens:
    return np.frombuffer(text, np.uint8).astype(np.int32)


BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)), _each_byte)  # byte b is token b


def piece_vocabulary(texts: list[bytes], pieces: int) -> Vocabulary:
    """The 256 bytes and the commonest merges of the texts (UTF-8), learned at first use and kept in the cache."""
    from tokenizers import Tokenizer  # slow to import, and the bytes do without

    learned = kept(_file(texts, pieces), lambda: _learn(texts, pieces).encode())
    tokenizer = Tokenizer.from_str(learned.decode())
    byte_of = {letter: byte for byte, letter in enumerate(letters())}
    words = sorted((token, word) for word, token in tokenizer.get_vocab().items())
    spelled = tuple(bytes(byte_of[letter] for letter in word) for _, word in words)
    own = {piece[0]: token for token, piece in enumerate(spelled) if len(piece) == 1}

    def cut(text: bytes) -> Tokens:
        tokens: list[int] = []
        # A byte that is no UTF-8 where it stands is a token of its own: tokenizers take strings only.
        for part in re.split("([\udc80-\udcff])", text.decode("utf-8", "surrogateescape")):
            stray = part and "\udc80" <= part <= "\udcff"
            tokens += [own[ord(part) - 0xDC00]] if stray else tokenizer.encode(part).ids
        return np.array(tokens, dtype=np.int32)

    return Vocabulary(spelled, cut)


def _learn(texts: list[bytes], pieces: int) -> str:
    """A tokenizer of `pieces` tokens as JSON."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, min_frequency=2, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([text.decode() for text in texts], trainer)
    if (found := tokenizer.get_vocab_size()) != pieces:
        raise ValueError(f"pieces={pieces} given, but the training text has only {found}; write pieces={found} or less")
    return tokenizer.to_str()


def _file(texts: list[bytes], pieces: int) -> Path:
    import tokenizers

    key = hashlib.sha256(f"{pieces} {tokenizers.__version__} {[len(text) for text in texts]}".encode())
    for text in texts:
        key.update(text)
    return cache_dir() / "text" / f"bpe-{key.hexdigest()[:16]}.json"


def letters() -> list[str]:
    """The printable letter that byte-level BPE writes for each byte: itself where it has one, else from 256 on."""
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in itself else next(others)) for byte in range(256)]
