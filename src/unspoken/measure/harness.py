"""A model of lm-evaluation-harness.

python -m unspoken.measure.harness run --model unspoken --model_args pretrained=FOLDER --tasks lambada_openai

Importing this file registers the model; `lm_eval` itself has no way to find it. Run so, the command also knows the
tasks that ship, on an excerpt of a novel: `--tasks unspoken_excerpt`. Needs the extra `harness`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from unspoken import checks
from unspoken.decoders.sampling import check_sampling
from unspoken.decoders.texts import generate
from unspoken.extras import need
from unspoken.layout.attention import ATTENTIONS
from unspoken.measure.scoring import Likelihood, Score, scores
from unspoken.model.denoiser import Denoiser
from unspoken.model.tokens import ids_of, prompt_ids, tokenizer_of
from unspoken.training.loading import load

need("lm_eval", "harness")
from lm_eval.api.model import LM  # noqa: E402  # pyright: ignore[reportMissingImports]
from lm_eval.api.registry import register_model  # noqa: E402  # pyright: ignore[reportMissingImports]

TASKS = Path(__file__).parent / "harness_tasks"  # the tasks that ship
LENGTH = 2048  # of a window, where the model does not say how far it knows
GIVEN = {"batch_size", "max_batch_size"}  # by the harness to every model: a request is scored at a time
UNDERSTOOD = {"until", "max_gen_toks", "do_sample", "temperature", "top_p"}


@register_model("unspoken")
class Harness(LM):  # pyright: ignore[reportUntypedBaseClass]
    """See the file. `scored` keeps the `Score` of every continuation, with its standard error, in the order asked.

    pretrained: a run folder or a `save_pretrained` folder, or a `Denoiser`. likelihood, draws, seed: see
        `scoring.scores`. max_gen_toks: where a task does not say it. attention: of a folder that is not ours, by its
        name (`cached-joint` reads a causal model as it was trained).
    """

    def __init__(
        self,
        pretrained: str | Denoiser,
        likelihood: Likelihood | None = None,
        draws: int = 32,
        seed: int = 0,
        max_gen_toks: int = 256,
        device: str | None = None,
        attention: str = "",
        **more: Any,
    ):
        super().__init__()
        if unknown := more.keys() - GIVEN:
            raise ValueError(f"model_args {', '.join(sorted(unknown))}: no such option of the model unspoken")
        self.model = pretrained if isinstance(pretrained, Denoiser) else _loaded(pretrained, attention, device)
        self.words = tokenizer_of(self.model, "lm-evaluation-harness")
        self.options: dict[str, Any] = {"likelihood": likelihood, "draws": int(draws), "seed": int(seed)}
        self.max_gen_toks, self.scored = int(max_gen_toks), list[Score]()
        if self.prefix[0] is None:
            raise ValueError("the tokenizer has neither BOS nor EOS, and a text without a context begins after one")

    @property
    def prefix(self) -> list[int]:
        """What stands before a text without a context: BOS, or EOS where there is none."""
        words = self.words
        return [words.eos_token_id if words.bos_token_id is None else words.bos_token_id]

    @property
    def tokenizer_name(self) -> str:
        """Names cached requests."""
        return str(getattr(self.words, "name_or_path", "unspoken")).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The tokenizer's, empty where it has none."""
        return self.words.chat_template or ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text."""
        return self.words.apply_chat_template(chat_history, tokenize=False, add_generation_prompt=add_generation_prompt)

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The tokens of both, as they are when the two stand together; spaces between them go to the continuation."""
        if not context:
            return self.prefix, self._bare(continuation)
        bare = context.rstrip()
        if not bare:
            return self.prefix, self._bare(context + continuation)
        before, whole = self._ids(bare), self._ids(context + continuation)
        return whole[: len(before)], whole[len(before) :]

    def _ids(self, text: str) -> list[int]:
        """Of a text with what the tokenizer puts before it."""
        return prompt_ids(self.words, text, self.model.mask_id)

    def _bare(self, text: str) -> list[int]:
        """Of a text alone."""
        return ids_of(self.words, text, self.model.mask_id, add_special_tokens=False)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of every (context, continuation): its log-likelihood in nats, and whether it is the greedy one."""
        room = (self.model.known_positions or LENGTH) - 1
        pairs = [self.pair(*request.args) for request in requests]
        found = self._scores([(before[-max(1, room - len(after) + 1) :], after) for before, after in pairs])
        return [(score.total, score.greedy) for score in found]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Of every text: the log-likelihood of all its tokens, in windows that begin with the token before them."""
        width, totals = (self.model.known_positions or LENGTH) - 1, []
        for request in requests:
            ids = self._bare(request.args[0])
            firsts = range(0, len(ids), width)
            windows = [(ids[at - 1 : at] if at else self.prefix, ids[at : at + width]) for at in firsts]
            totals.append(sum(score.total for score in self._scores(windows)))
        return totals

    def _scores(self, pairs: list[tuple[list[int], list[int]]]) -> list[Score]:
        found = scores(self.model, pairs, **self.options)
        self.scored += found
        return found

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """What `us.generate` says after every context, up to the first of its stop strings."""
        asked = [request.args for request in requests]
        for context, options in asked:
            self._check(context, options)
        return [self._said(context, options, number) for number, (context, options) in enumerate(asked)]

    def _check(self, context: str, asked: dict[str, Any]) -> None:
        """ValueError for a request that can not be answered, before any is."""
        if unknown := asked.keys() - UNDERSTOOD:
            raise ValueError(f"generation with {', '.join(sorted(unknown))}: known are {', '.join(sorted(UNDERSTOOD))}")
        n, new = len(self._ids(context)), asked.get("max_gen_toks", self.max_gen_toks)
        checks.count("max_gen_toks", new, 1)
        if asked.get("do_sample") and asked.get("temperature", 1.0) > 0:
            check_sampling(asked.get("temperature", 1.0), 0, asked.get("top_p", 1.0))
        if n == 0 or n + new > (self.model.known_positions or n + new):
            raise ValueError(
                f"a context of {n} tokens and max_gen_toks={new}: give contexts of a token or more, and "
                f"no more together than the {self.model.known_positions} positions that the model knows"
            )

    def _said(self, context: str, asked: dict[str, Any], number: int) -> str:
        """Requests draw by seeds of their own: a task may ask the same several times."""
        until = asked.get("until") or []
        options: dict[str, Any] = {}
        if asked.get("do_sample") and asked.get("temperature", 1.0) > 0:
            options = {"temperature": asked.get("temperature", 1.0)}
            options |= {"top_p": asked["top_p"]} if "top_p" in asked else {}
        return generate(
            self.model,
            context,
            stop_strings=[until] if isinstance(until, str) else list(until),
            max_new_tokens=asked.get("max_gen_toks", self.max_gen_toks),
            seed=self.options["seed"] + number,
            fill=False,
            **options,
        )


def _loaded(folder: str, attention: str, device: str | None) -> Denoiser:
    """A folder of ours, or with an attention any. device: the harness says cuda:0 unless told otherwise."""
    if attention and attention not in ATTENTIONS:
        raise ValueError(f"attention={attention}: give one of {', '.join(ATTENTIONS)}")
    there = device is None or torch.cuda.is_available() or not device.startswith("cuda")
    return load(folder, device if there else "cpu", ATTENTIONS.get(attention))


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate  # pyright: ignore[reportMissingImports]

    if sys.argv[1:2] == ["run"] and not any(word.startswith("--include_path") for word in sys.argv):
        sys.argv += ["--include_path", str(TASKS)]
    cli_evaluate()
