"""Texts on the command line: `complete` goes on with a prompt, `chat` answers line by line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from unspoken.decoders.gaps import FILL
from unspoken.decoders.generate import Streamer
from unspoken.decoders.texts import generate
from unspoken.model.denoiser import Denoiser
from unspoken.model.tokens import Tokenizer, tokenizer_of
from unspoken.training.loading import load


@dataclass(frozen=True)
class _Said:
    """What both commands take.

    Attributes:
        run: A run folder, or the folder of a saved model, with a tokenizer.
        max_new_tokens: Said at most.
        latents: Unsaid tokens beside those that are said in a pass; by default those of the model's own decoder.
        temperature: 0 says the likeliest token; above 0 the token is drawn.
        top_p: Tokens are drawn from the most probable that together have this probability; 1 for all.
        seed: Of every random choice.
    """

    run: tyro.conf.Positional[Path]
    max_new_tokens: int = 64
    latents: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def _options(self) -> dict[str, Any]:
        """What is not as the model's decoder has it."""
        asked = {"latents": self.latents, "temperature": self.temperature or None}
        asked["top_p"] = None if self.top_p == 1 else self.top_p
        return {name: value for name, value in asked.items() if value is not None}

    def _say(self, model: Denoiser, prompt: Any, streamer: Streamer) -> str:
        options = self._options()
        return generate(model, prompt, max_new_tokens=self.max_new_tokens, seed=self.seed, streamer=streamer, **options)


@dataclass(frozen=True)
class CompleteRun(_Said):
    """Go on with a prompt, or fill the gaps of one: "Once <fill 12> lived a king".

    Attributes:
        prompt: The text to go on with.
    """

    prompt: str = tyro.MISSING

    def __call__(self, console: Console) -> None:
        model, tokenizer = _loaded(self.run)
        if FILL.search(self.prompt):
            console.out(generate(model, self.prompt, seed=self.seed, **self._options()), highlight=False)
            return
        self._say(model, self.prompt, _stream(tokenizer, console, self.prompt))


@dataclass(frozen=True)
class ChatRun(_Said):
    """Talk to a model by its tokenizer's chat template: a line of input is a message; an empty line ends the talk."""

    def __call__(self, console: Console) -> None:
        model, tokenizer = _loaded(self.run)
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"the tokenizer in {self.run} has no chat template; use unspoken complete {self.run} --prompt"
            )
        talk: list[dict[str, str]] = []
        for line in sys.stdin:
            if not line.strip():
                return
            talk.append({"role": "user", "content": line.rstrip("\n")})
            talk.append({"role": "assistant", "content": self._say(model, talk, _stream(tokenizer, console))})


def _loaded(run: Path) -> tuple[Denoiser, Tokenizer]:
    model = load(run)
    return model, tokenizer_of(model, f"a text from {run}")


def _stream(tokenizer: Tokenizer, console: Console, prompt: str = "") -> Streamer:
    """Prints the prompt as it was written, once it was checked, and what is said, word by word."""
    from transformers import TextStreamer

    class Printed(TextStreamer):
        def put(self, value: Any) -> None:
            if self.next_tokens_are_prompt:
                console.out(prompt, end="", highlight=False)
            super().put(value)

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            console.out(text, end="\n" if stream_end else "", highlight=False)
            console.file.flush()

    asked: Any = tokenizer
    return Printed(asked, skip_prompt=True, skip_special_tokens=True)
