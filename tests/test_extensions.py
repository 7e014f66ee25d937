"""What a stranger writes, with `unspoken` and torch alone: a commit rule, a latent policy, an order, a decoder,

a noise process, a task with vectors."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import seeded, tiny

import unspoken as us

MASK = 6
TOKENS = torch.tensor([[0, MASK, MASK, 2, MASK, MASK, MASK], [1, 4, MASK, MASK, MASK, 5, MASK]])


def cached(attention: us.Attention = us.CACHED_JOINT) -> us.Denoiser:
    return tiny(attention, seed=1, positions=7)


# --- a commit rule: one function


def every_other(logp: Tensor, real: Tensor) -> Tensor:
    """The first of the best, the third, ...: no prefix of them."""
    return (torch.arange(real.shape[1]) % 2 == 0).expand(real.shape)


def test_a_commit_rule_is_a_function() -> None:
    """It is asked of the best candidates, the best first; what it says is said, and the rest stay masks."""
    asked = []

    def quite_sure(logp: Tensor, real: Tensor) -> Tensor:
        asked.append((logp, real))
        return logp.amax(-1) > LEAST

    steps = list(us.decode(cached(), TOKENS, commit=us.Commit(most=4, rule=quite_sure)))
    assert len(asked) == len(steps) and (steps[-1].tokens != MASK).all()
    sizes = set()
    for step, (logp, real) in zip(steps, asked, strict=True):
        assert logp.shape[:2] == real.shape and real.dtype == torch.bool
        best = logp.amax(-1)
        assert (best.diff(dim=1) <= 0)[real[:, 1:]].all()
        expected = (real & (best > LEAST)).sum(1).clamp_min(1)
        assert torch.equal(step.committed.sum(1)[step.rows], expected)
        sizes |= set(expected.tolist())
    assert len(sizes) > 1


LEAST = -1.2  # the log-probability above which a token is sure enough


@pytest.mark.parametrize("attention", [us.CACHED_JOINT, us.ANY_ORDER], ids=lambda a: a.name)
def test_a_rule_that_leaves_gaps_is_exact_beside_a_cache(attention: us.Attention) -> None:
    """Tokens said together are dated one after the other, whichever of the best they were: cached = recomputed."""
    model, rule = cached(attention), us.Commit(3, rule=every_other)
    steps, anew = (list(us.decode(model, TOKENS, commit=rule, latents=1, cache=c)) for c in (True, False))
    assert [int(step.committed.sum(1).max()) for step in steps] == [2, 2, 1]
    for step, other in zip(steps, anew, strict=True):
        assert torch.equal(step.tokens, other.tokens)
        assert torch.allclose(step.confidence, other.confidence, rtol=0, atol=1e-9)


def test_the_best_is_said_whatever_the_rule_says_and_bounds_hold_beside_it() -> None:
    none, every = (us.Commit(3, rule=lambda logp, real, s=s: torch.full_like(real, s)) for s in (False, True))
    model = cached()
    for rule, commit in ((none, 1), (every, 3)):
        found, known = (list(us.decode(model, TOKENS, commit=c)) for c in (rule, commit))
        assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(found, known, strict=True))
    bound = us.Commit(3, threshold=1.0, rule=every.rule)
    assert len(list(us.decode(model, TOKENS, commit=bound))) == 5


@pytest.mark.parametrize("found", [torch.ones(2, 4), torch.ones(4, dtype=torch.bool), True], ids=str)
def test_a_rule_that_gives_something_else_is_told(found: Any) -> None:
    with pytest.raises(ValueError, match=r"the commit rule gave .*; let it return bool \(2, 4\), like `real`"):
        list(us.decode(cached(), TOKENS, commit=us.Commit(4, rule=lambda logp, real: found)))


# --- a latent policy and an order: one function each


def test_a_latent_policy_is_a_function() -> None:
    """The latents are the leftmost of the rest, and tokens are said from the right."""
    leftmost = us.LatentPolicy("leftmost", lambda around: torch.arange(7.0).expand(around.rest.shape))
    order = us.Order("right to left", lambda ahead: -torch.arange(7.0).expand(ahead.unsaid.shape))
    now = TOKENS
    for step in us.decode(cached(), TOKENS, order=order, latents=1, latent_policy=leftmost):
        for row in step.rows.tolist():
            unsaid = (now[row] == MASK).nonzero()[:, 0].tolist()
            assert step.committed[row].nonzero()[:, 0].tolist() == unsaid[-1:]
            assert step.latents[row].nonzero()[:, 0].tolist() == unsaid[:-1][:1]
        now = step.tokens
    assert (now != MASK).all()


def test_an_order_scores_what_the_network_said() -> None:
    """Here the least sure is said first."""
    doubt = us.Order("doubt", lambda ahead: torch.zeros(ahead.unsaid.shape), lambda logp: -logp.amax(-1))
    for step in us.decode(cached(), TOKENS, order=doubt):
        least = torch.where(step.candidates, step.confidence, 9.0).argmin(1)
        assert all(step.committed[row, least[row]] for row in step.rows.tolist())


def test_a_policy_may_score_as_it_likes_but_not_with_nan() -> None:
    """Infinite scores are scores: nothing is left masked. What is no number is refused."""
    never = us.Order("never seen", lambda ahead: ahead.entropy, lambda logp: logp.amax(-1), needs_entropy=True)
    *_, last = us.decode(cached(), TOKENS, order=never, latents=1, latent_policy="oldest")
    assert (last.tokens != MASK).all()
    far = us.LatentPolicy("far", lambda around: torch.full(around.rest.shape, torch.inf))
    assert all(
        int(s.latents.sum()) > 0
        for s in list(us.decode(cached(), TOKENS, latents=2, candidates=1, latent_policy=far))[:-1]
    )
    broken = us.Order("broken", lambda ahead: torch.full(ahead.unsaid.shape, torch.nan))
    with pytest.raises(ValueError, match="'broken' scores a position with nan"):
        list(us.decode(cached(), TOKENS, order=broken))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"order": None}, "order=None; write one of uniform"),
        ({"order": lambda ahead: ahead.unsaid}, r"pass a us.Order"),
        ({"latent_policy": 7}, r"pass a us.LatentPolicy"),
        ({"decoder": us.Slots}, r"is a class; give a value: Slots\(\)"),
        ({"commit": us.Commit, "decoder": us.Slots}, "is a class"),
    ],
    ids=("none", "function", "number", "class", "class and change"),
)
def test_what_is_no_policy_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        us.decode(cached(), TOKENS, **options)


def test_a_rule_needs_something_to_choose_from() -> None:
    with pytest.raises(ValueError, match="give Commit"):
        us.Commit(rule=every_other)


def test_a_models_decoder_is_a_value_that_is_saved(tmp_path: Path) -> None:
    model = cached()
    model.decoder = us.Slots(latents=1, order="left_to_right")
    found = [list(us.decode(m, TOKENS)) for m in (model, _saved(model, tmp_path))]
    assert [s.entries for s in found[0]] == [s.entries for s in found[1]]
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(*found, strict=True))
    model.decoder = us.Slots(commit=us.Commit(2, rule=every_other))
    with pytest.raises(ValueError, match="is a function, and a record holds data alone"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def _saved(model: us.Denoiser, folder: Path) -> us.Denoiser:
    model.save_pretrained(folder)
    return us.Denoiser.from_pretrained(folder).double()


# --- a decoder: one class


@dataclass(frozen=True)
class Oracle:
    """All at once, and every token is the wish."""

    wish: int = 0

    def steps(
        self,
        model: us.Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[us.Step]:
        unsaid = tokens == model.mask_id
        position = torch.arange(tokens.shape[1]).expand_as(tokens)
        read = (torch.full_like(tokens, self.wish), torch.ones(tokens.shape))
        said = torch.where(unsaid, self.wish, tokens)
        yield us.Step.of_all(0, said, position, unsaid, read, mask_id=model.mask_id, entries=tokens.shape[1])


class Nameless:
    """No dataclass: it has no options."""

    def steps(self, model: us.Model, tokens: Tensor, **_: Any) -> Iterator[us.Step]:
        return Oracle(5).steps(model, tokens)


def test_a_decoder_is_a_class() -> None:
    model = cached()
    ways: list[tuple[us.Decoder, dict[str, Any], int]] = [
        (Oracle(3), {}, 3),
        (Oracle(3), {"wish": 4}, 4),
        (Nameless(), {}, 5),
    ]
    for decoder, changes, wish in ways:
        (step,) = us.decode(model, TOKENS, decoder=decoder, **changes)
        assert torch.equal(step.tokens, torch.where(TOKENS == MASK, wish, TOKENS))
        assert torch.equal(step.committed, TOKENS == MASK) and torch.equal(step.candidates, TOKENS == MASK)
        assert (step.guess[TOKENS == MASK] == wish).all()
    with pytest.raises(ValueError, match="latents is an option of Slots and Speculation; this model decodes by Oracle"):
        us.decode(model, TOKENS, decoder=Oracle(), latents=2)
    with pytest.raises(ValueError, match="wish is no option of a decoder; Nameless takes none"):
        us.decode(model, TOKENS, decoder=Nameless(), wish=1)


# --- a noise process: one class


@dataclass(frozen=True)
class Late(us.Discrete):
    """Masks that come late: a token stays with probability 1 - t^3."""

    schedule: Any = field(default_factory=us.Linear)
    absorbs = True

    def _alpha(self, tau: Tensor, rest: Tensor) -> Tensor:
        return 1 - tau**3

    def _noise(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        return tau**3, torch.zeros_like(tau)

    def _inflow(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        return 3 * tau**2 / (1 - tau**3).clamp_min(1e-12), torch.zeros_like(tau)


def test_a_noise_process_is_a_class(tmp_path: Path) -> None:
    """Its bound is that of masks at any timing (4,000 draws, 5 standard errors); it trains, goes on and is walked."""
    x0, model = TOKENS.clamp_max(5)[:1], tiny(us.MDM, seed=1, positions=7)
    given = TOKENS[:1] != MASK
    bounds = [
        us.nelbo_along(us.predictor(model, given), p, x0, given, MASK, draws=4_000, generator=seeded())
        for p in (Late(), us.Absorbing())
    ]
    error = torch.stack([b.std() / b.numel() ** 0.5 for b in bounds]).norm()
    assert abs(float(bounds[0].mean() - bounds[1].mean())) < 5 * float(error)
    board = us.presets.sudoku_4x4()
    config = replace(board, attention=us.MDM, process=Late(), objective=us.Denoising(), steps=2, save=1, batch=4)
    trained = [us.train(config, tmp_path / "run") for _ in range(2)]  # the second time it is there already
    prompt = board.task.sample("test", 1).prompt(board.task.mask_id)
    for own in trained:
        late: Any = Late()
        *_, last = us.decode(own, prompt, decoder=us.Walk(late, passes=3))
        assert (last.tokens != board.task.mask_id).all()
        with pytest.raises(ValueError, match=r"'Late'.*decoder="):
            us.decode(own, prompt)


# --- a task with vectors: one file


@dataclass(frozen=True)
class Lines:
    """Four numbers with equal steps; the first two are given."""

    length = 4
    vocab_size = 2
    mask_id = 1
    judged = True
    title = "lines"
    values = us.tasks.Values("Vectors", (1,))

    def size(self, split: str) -> int:
        return 50

    def sample(self, split: str, n: int, generator: torch.Generator | None = None) -> us.tasks.Examples:
        u = torch.rand(n, 2, 1, generator=generator or seeded(len(split)))
        value = u[:, :1] + torch.arange(4.0)[:, None] * u[:, 1:]
        return us.tasks.Examples(torch.zeros(n, 4).long(), (torch.arange(4) < 2).expand(n, -1), value)

    def read(self, path: str | Path) -> us.tasks.Examples:
        raise ValueError("no files")

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        steps = answer.diff(dim=1)
        return ((steps - steps[:, :1]).abs() < 0.5).flatten(1).all(1)

    def encode(self, text: str) -> Tensor:
        return torch.tensor([[float("nan") if w == "." else float(w)] for w in text.split()])

    def show(self, tokens: Tensor) -> str:
        return " ".join("." if x != x else f"{x:.2f}" for x in tokens[:, 0].tolist())

    def symbol(self, token: int) -> str:
        return ".o"[token == 0]

    def gap(self, position: int) -> str:
        return " "


def test_a_task_with_vectors_is_a_class(tmp_path: Path) -> None:
    task: Any = Lines()
    config = us.Train(
        task,
        attention=us.MDM,
        trunk=us.Trunk(1, 32, 2, times=True, init=0.1),
        process=us.Gaussian("linear"),
        objective=us.Denoising(times=us.Mixture(), weight="flat"),
        port=us.Vectors(1, placeholder=0),
        steps=150,
        batch=64,
        warmup=10,
        validate=150,
        save=150,
    )
    model = us.train(config, tmp_path / "run")
    prompt = task.sample("test", 50).prompt(1)
    *_, last = us.decode(model, prompt, passes=8)
    assert torch.equal(last.answer[:, :2], prompt[:, :2])
    # Untrained, none or few are right; chance that half of 50 are right at a tenth each: below 1e-10.
    assert float(task.score(prompt, last.answer).double().mean()) > 0.5
