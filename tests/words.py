"""A small tokenizer, learned from a few sentences: byte-level pairs, so that it knows every text."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel, Metaspace
from transformers import PreTrainedTokenizerFast

SENTENCES = ["the cat sat on the mat", "a dog ran far away", "once upon a time there was a king"]
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
SIZE = 290  # token ids


def tokenizer() -> PreTrainedTokenizerFast:
    """Of `SIZE` ids; 0 ends a text."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=["<end>"], initial_alphabet=alphabet)
    plain.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", pad_token="<end>", chat_template=CHAT)


def spaced() -> PreTrainedTokenizerFast:
    """As SentencePiece has it: a word begins with its space, which every text gets and which is not shown there."""
    plain = Tokenizer(models.BPE(unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    plain.decoder = Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=80, special_tokens=["<unk>", "<end>"])
    plain.train_from_iterator([*SENTENCES, "abcdefghijklmnopqrstuvwxyz .,"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
