"""Laws of LaDiR: what a block sees, how it is drawn, what its stages leave as it was (L1 to L8 of the literature).

A model of small random weights in float64 is as good as a trained one for all of these; the stages are trained a few
steps each, to see that they go on, refuse, and freeze what they should.
"""

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import curve, stop_after
from torch import Tensor
from toy import EXACT, TRUNK, seeded

import unspoken as us
from unspoken.decoders import thoughts
from unspoken.decoders.step import last
from unspoken.decoders.thoughts import ThoughtWalk, repulsion
from unspoken.layout.attention import CACHED_ALONE, CACHED_JOINT, MDM
from unspoken.layout.entries import entries_of, one_block
from unspoken.layout.questions import KL
from unspoken.layout.reads import Before, shown
from unspoken.layout.thoughts import Reasoning, to_words
from unspoken.model.codec import vectors_of, words_of
from unspoken.model.denoiser import Denoiser
from unspoken.model.ports import Categorical
from unspoken.noise.gaussian import Gaussian, Normal, Views
from unspoken.noise.thoughts import Thoughts
from unspoken.presets.tasks import TRAIN
from unspoken.systems import ladir
from unspoken.tasks import Arithmetic, Permutations, Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loop import train, training
from unspoken.training.losses import packed_losses
from unspoken.training.models import new_denoiser
from unspoken.training.objective import Autoencoding, ThoughtDiffusion
from unspoken.training.run import Run
from unspoken.training.stages import Made

TASK = Permutations(validation=8, test=8)
FORM = TASK.thoughts
VECTORS, WIDTH = 2, 4
SHORT: dict[str, Any] = {"steps": 6, "batch": 8, "warmup": 1, "save": 3, "validate": 3, "log": 1}
TIMED = replace(TRUNK, times=True)
FLOW = Gaussian(path="linear")


def encoder(**changes: Any) -> Train:
    return ladir.encoder(TASK, vectors=VECTORS, width=WIDTH, trunk=TRUNK, **SHORT | changes)


def reasoner(folder: Path, **its: Any) -> Train:
    return ladir.reasoner(TASK, Made(str(folder)), vectors=VECTORS, width=WIDTH, trunk=TIMED, train=SHORT, **its)


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> tuple[Path, Path, Path]:
    """The run folders of all three stages."""
    root = tmp_path_factory.mktemp("ladir")
    a, b, c = root / "encoder", root / "reasoner", root / "rolled"
    train(encoder(), a)
    train(reasoner(a), b)
    train(ladir.rolled(reasoner(a), Made(str(b)), rollout=2, **SHORT), c)
    return a, b, c


@pytest.fixture
def model(stages) -> Denoiser:
    return us.load(stages[1], "cpu").double()


def prompts(n: int = 4) -> Tensor:
    return TASK.sample("test", n).prompt(TASK.mask_id)


def noised(model: Denoiser, seed: int = 0) -> tuple[us.Layout, Tensor, Tensor]:
    """A pass with one clean block and one noisy copy of each block; the values of both."""
    seats, n = Reasoning(FORM, VECTORS), 3
    z = torch.randn(n, 2 * FORM.blocks, VECTORS, WIDTH, generator=seeded(seed), dtype=torch.float64)
    there, t = torch.ones(n, dtype=torch.bool), torch.full((n,), 0.6, dtype=torch.float64)
    layout = seats.ask(prompts(n)[:, : FORM.question])
    for b in range(FORM.blocks):
        layout = layout.join(seats.block(b, z[:, b], 0 * t, there))
    layout = layout.join(seats.say(torch.full((n, FORM.answer), FORM.done)))
    for b in range(FORM.blocks):
        layout = layout.join(seats.block(b, z[:, FORM.blocks + b], t, there, noisy=b))
    return layout, z, t


def predicted(model: Denoiser, layout: us.Layout, entries: range) -> Tensor:
    at = torch.tensor(list(entries)).expand(len(layout.token), -1)
    return model.predict_values(layout, at).value


def z_of(layout: us.Layout) -> Tensor:
    """The values of a layout that shows some."""
    assert layout.value is not None
    return layout.value


def after(packed: us.Packed) -> us.Packed:
    """The pass after a pass."""
    assert packed.then is not None
    return packed.then


# What a block sees (L1).


@torch.no_grad()
def test_a_block_sees_itself_the_question_and_the_clean_blocks_before_it(model) -> None:
    seats, (layout, _, _) = Reasoning(FORM, VECTORS), noised(model)
    noisy = [seats.noisy(b) for b in range(2)]
    sees = {  # whose change reaches which noisy block
        (0,): (True, True),  # the question
        tuple(seats.clean(0)): (False, True),
        tuple(seats.clean(1)): (False, False),
        tuple(noisy[0]): (True, False),
        tuple(noisy[1]): (False, True),
    }
    before = [predicted(model, layout, at) for at in noisy]
    for entries, reached in sees.items():
        value, token = z_of(layout).clone(), layout.token.clone()
        for e in entries:
            value[:, e] += 1
            if e == 0:
                token[:, e] = (token[:, e] + 1) % 4
        changed = replace(layout, value=value, token=token)
        after = [predicted(model, changed, at) for at in noisy]
        for a, b, expected in zip(after, before, reached, strict=True):
            assert bool((a - b).abs().max() > 1e-6) == expected, (entries, expected)
    # Bidirectional inside: the first vector's prediction moves with the last one's value.
    value = z_of(layout).clone()
    value[:, noisy[0][-1]] += 1
    moved = predicted(model, replace(layout, value=value), noisy[0][:1])
    assert (moved - before[0][:, :1]).abs().max() > 1e-6


@torch.no_grad()
def test_a_block_of_the_packed_pass_is_that_of_decoding(model) -> None:
    """packed = one block at a time: the second block beside the first one clean, from a cache and at once."""
    seats, (layout, z, t) = Reasoning(FORM, VECTORS), noised(model)
    there = torch.ones(len(t), dtype=torch.bool)
    packed = predicted(model, layout, seats.noisy(1))
    alone = seats.ask(layout.token[:, : FORM.question]).join(seats.block(0, z[:, 0], 0 * t, there))
    latents = seats.block(1, z[:, 3], t, there, noisy=1)
    at = torch.arange(alone.shape[1], alone.shape[1] + VECTORS).expand(len(t), -1)
    whole = model.predict_values(alone.join(latents), at).value
    cache = model.new_cache()
    model.states(alone, cache=cache)
    cache.keep(alone, alone.shape[1])
    cached = model.predict_values(latents, torch.arange(VECTORS).expand(len(t), -1), cache).value
    torch.testing.assert_close(whole, packed, **EXACT)
    torch.testing.assert_close(cached, packed, **EXACT)


@torch.no_grad()
def test_one_block_is_full_sequence_diffusion(model) -> None:
    """L8: one block that is the whole sequence, as a plain pass of a denoiser over it."""
    seats, n = Reasoning(FORM, VECTORS), 3
    z = torch.randn(n, VECTORS, WIDTH, generator=seeded(1), dtype=torch.float64)
    t = torch.linspace(0.2, 1, n, dtype=torch.float64)
    question = prompts(n)[:, : FORM.question]
    ours = seats.ask(question).join(seats.block(0, z, t, torch.ones(n, dtype=torch.bool), noisy=0))
    token = torch.cat([question, torch.full((n, VECTORS), FORM.more)], 1)
    unsaid = torch.arange(token.shape[1]).expand_as(token) >= FORM.question
    time = torch.where(unsaid, t[:, None], 0.0)
    value = torch.cat([torch.zeros(n, FORM.question, WIDTH, dtype=torch.float64), z], 1)
    plain = replace(one_block(token, unsaid, torch.zeros_like(token), time=time), value=value)
    entries = range(FORM.question, FORM.question + VECTORS)
    torch.testing.assert_close(predicted(model, ours, entries), predicted(model, plain, entries), **EXACT)


# The flow (L2).


def test_straight_paths() -> None:
    """z is clean at 0 and noise at 1; with the exact velocity one step from any time lands on z0, as many steps do."""
    z0, eps = torch.randn(2, 5, 3, 4, generator=seeded(0), dtype=torch.float64)
    at = {s: FLOW.mix(Views(z0, eps), torch.full((5, 3), s, dtype=torch.float64)) for s in (0.0, 0.3, 1.0)}
    torch.testing.assert_close(at[0.0], z0, **EXACT)
    torch.testing.assert_close(at[1.0], eps, **EXACT)
    u = eps - z0

    def step(z: Tensor, t: float, s: float) -> Tensor:
        both = [torch.full((5, 3), x, dtype=torch.float64) for x in (t, s)]
        return FLOW.step(FLOW.views(u, z, both[0], "u"), z, both[0], both[1])

    torch.testing.assert_close(step(at[0.3], 0.3, 0.0), z0, **EXACT)
    z = at[1.0]
    for k in range(7):
        z = step(z, 1 - k / 7, 1 - (k + 1) / 7)
    torch.testing.assert_close(z, z0, **EXACT)


# The autoencoder (L3, L5).


def test_the_divergence_is_that_of_normal_numbers() -> None:
    mean, logvar = torch.randn(2, 4, 3, 5, generator=seeded(0), dtype=torch.float64)
    priced = KL()(Normal(mean, logvar), torch.zeros(4, 3))
    known = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(-1)
    torch.testing.assert_close(priced, known, **EXACT)
    assert bool((priced > 0).all())
    assert float(KL()(Normal(0 * mean, 0 * mean), torch.zeros(4, 3)).abs().max()) == 0


def test_without_a_weight_the_divergence_is_not_asked() -> None:
    objective = replace(encoder().objective, beta=0.0)
    examples = TASK.sample("train", 4, seeded(0))
    packed = objective.pack(us.Absorbing(), examples.x0, examples.given, TASK.mask_id, seeded(0))
    assert not bool(packed.questions[0].real.any())
    assert float(after(packed).weight.sum()) == pytest.approx(1)


def test_words_come_back_from_vectors(tmp_path) -> None:
    """L3: after training thoughts are read back exactly, also with the noise of training added to their vectors."""
    trunk = Trunk(layers=1, width=64, heads=4, init=0.1)
    config = ladir.encoder(TASK, trunk=trunk, steps=250, batch=32, lr=4e-3, warmup=20, save=250, validate=250)
    model = train(config, tmp_path / "run")
    _, thoughts, _ = FORM.split(torch.cat([TASK.right(question) for question in range(4)]))
    there = FORM.there(thoughts)
    value = vectors_of(model, thoughts, there, 2)[there]
    noise = torch.randn(value.shape, generator=seeded(0))
    for by in (0.0, 0.3):
        right = (words_of(model, value + by * noise, FORM) == thoughts[there]).all(1)
        assert float(right.double().mean()) >= 0.99


def test_a_thought_is_read_word_by_word_as_at_once(stages) -> None:
    """cached = recomputed: the words that decoding says are the likeliest of a pass over those before them."""
    model = us.load(stages[0], "cpu").double()
    value = torch.randn(6, VECTORS, WIDTH, generator=seeded(0), dtype=torch.float64)
    said = words_of(model, value, FORM)
    layout = to_words(said[:, None, :-1], torch.ones(6, 1, dtype=torch.bool), VECTORS, FORM)
    layout = shown(layout, torch.arange(VECTORS).expand(6, -1), value)
    at = torch.arange(VECTORS, layout.shape[1]).expand(6, -1)
    with torch.no_grad():
        assert torch.equal(model(layout, at).argmax(-1), said)


def weights(module: torch.nn.Module) -> str:
    """A hash of all weights."""
    state = module.state_dict()
    return sha256(b"".join(state[k].double().numpy().tobytes() for k in sorted(state))).hexdigest()


def test_with_an_adapter_the_decoder_stays_as_it_was(tmp_path) -> None:
    """L5: the checkpoint's weights are not touched, neither when the model is made nor by training."""
    start = new_denoiser(encoder())
    start.save_pretrained(tmp_path / "trunk")
    config = replace(encoder(), trunk=Trunk(checkpoint=str(tmp_path / "trunk"), lora=2))

    def base(model: Denoiser) -> dict[str, Tensor]:
        state = model.trunk.state_dict()
        return {n.replace("base_layer.", ""): w for n, w in state.items() if "lora" not in n and "trainable" not in n}

    made, trained = new_denoiser(config), train(config, tmp_path / "run")
    found = [{n.removeprefix("base_model.model."): w for n, w in base(m).items()} for m in (made, trained)]
    held = start.trunk.state_dict()
    for its in found:
        same = {n: torch.equal(w, held[n]) for n, w in its.items() if n in held}
        assert len(same) >= len(held) - 2 and all(same.values())
    value = torch.randn(3, VECTORS, WIDTH, generator=seeded(0))
    with torch.no_grad():
        # What decodes is the checkpoint with the inputs that we train, as the reader of vectors: no adapter there.
        start.inputs.load_state_dict(trained.inputs.state_dict())
        assert torch.equal(words_of(trained, value, FORM), words_of(start, value, FORM))


# Decoding.


def test_a_decoding_says_everything_and_its_answer_keeps_the_question(model) -> None:
    steps = list(us.decode(model, prompts(), passes=3))
    assert len(steps) == FORM.blocks * 4 + FORM.answer or len(steps) == 4 + FORM.answer
    said = torch.stack([s.committed for s in steps]).sum(0)
    assert bool((said[:, FORM.question :] == 1).all()) and not bool(said[:, : FORM.question].any())
    for before, after in zip([prompts(), *(s.tokens for s in steps)], steps, strict=False):
        assert torch.equal((before != after.tokens), after.committed & (before != after.tokens))
    assert not bool((steps[-1].tokens == model.mask_id).any())


def test_the_latents_can_be_watched(model) -> None:
    steps = list(us.decode(model, prompts(), passes=3, predict_latents=True))
    walk = [s for s in steps if not bool(s.chosen.any())]
    assert walk and all(not bool((s.guess[:, 1:3] == model.mask_id).all()) for s in walk[:3])
    plain = last(us.decode(model, prompts(), passes=3), prompts())
    assert torch.equal(steps[-1].tokens, plain)


def test_guidance_of_one_is_none_and_the_blind_model_sees_no_question(model) -> None:
    """L6. Weight 0 is the blind model alone: rows draw alike, whatever they are asked, from the same noise."""
    plain = [s.tokens for s in us.decode(model, prompts(), passes=3)]
    one = [s.tokens for s in us.decode(model, prompts(), passes=3, guidance=1.0)]
    assert all(torch.equal(a, b) for a, b in zip(plain, one, strict=True))
    blind = []
    for question in (0, 3):
        asked = torch.full_like(prompts(2), model.mask_id)
        asked[:, 0] = question
        walked = [s.guess for s in us.decode(model, asked, passes=3, guidance=0.0, predict_latents=True)]
        blind.append(walked[2])  # of the first block; the stop head sees the question
    assert torch.equal(*blind)


def says(monkeypatch, mark: int) -> None:
    """The head of ids says one mark alone, wherever it is asked."""

    def predict(self: Categorical, hidden: Tensor, target: Tensor | None = None) -> Tensor:
        logits = hidden.new_zeros(*hidden.shape[:2], self.trunk.config.vocab_size)
        logits[..., mark] = 1
        return logits

    monkeypatch.setattr(Categorical, "predict", predict)


@pytest.mark.parametrize("blocks", [1, FORM.blocks])
def test_the_stop_head_alone_says_how_many_blocks_there_are(model, monkeypatch, blocks) -> None:
    """L7."""
    monkeypatch.setattr(thoughts, "words_of", lambda codec, value, form: torch.zeros(len(value), 2, dtype=torch.int64))
    says(monkeypatch, FORM.done if blocks == 1 else FORM.more)
    said = last(us.decode(model, prompts(), passes=2), prompts())
    _, found, _ = FORM.split(said)
    assert FORM.there(found).sum(1).tolist() == [blocks] * len(said)


@pytest.mark.parametrize(
    "option",
    [
        {"passes": 2},
        {"noise": 3.0},
        {"guidance": 9.0},
        {"repulsion": 5.0},
        {"temperature": 9.0},
        {"process": Gaussian(path="linear", eta=1.0)},
    ],
    ids=str,
)
def test_each_option_reaches_the_walk(model, monkeypatch, option) -> None:
    """What the vectors of the first block end as, and the answer, are other than without it; and the same twice."""
    asked, ends, read = prompts(1).expand(4, -1).contiguous(), [], thoughts._Stream.read
    monkeypatch.setattr(thoughts._Stream, "read", lambda its, new: (ends.append(new.value), read(its, new))[1])

    def drawn(**changes: Any) -> tuple[Tensor, Tensor]:
        ends.clear()
        options: dict[str, Any] = {"passes": 4} | changes
        said = last(us.decode(model, asked, **options), asked)
        return ends[0], said

    plain, other, again = drawn(), drawn(**option), drawn(**option)
    assert torch.equal(other[0], again[0]) and torch.equal(other[1], again[1])
    assert not (torch.equal(plain[0], other[0]) and torch.equal(plain[1], other[1]))


def test_no_more_blocks_than_asked_for(model) -> None:
    said = last(us.decode(model, prompts(), passes=2, blocks=1), prompts())
    assert bool((said[:, FORM.question + FORM.words : -1] == FORM.pad).all())


# Repulsion (L4).


def test_repulsion_sums_to_nothing_and_is_a_pair_s_own() -> None:
    z = torch.randn(6, 5, generator=seeded(0), dtype=torch.float64)
    every = torch.ones(6, 6, dtype=torch.bool)
    force = repulsion(z, every)
    torch.testing.assert_close(force.sum(0), torch.zeros(5, dtype=torch.float64), **EXACT)
    pair = repulsion(z[:2], every[:2, :2])  # their distance is the median, at which the force turns
    torch.testing.assert_close(pair, torch.zeros_like(pair), **EXACT)
    three = repulsion(torch.tensor([[0.0], [1.0], [9.0]], dtype=torch.float64), every[:3, :3])
    assert float(three[0]) < 0 < float(three[1])  # the nearest two are pushed apart
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(repulsion(z[order], every), force[order], **EXACT)
    assert float(repulsion(z[:1].expand(4, -1), every[:4, :4]).abs().max()) == 0


def test_repulsion_by_hand() -> None:
    """Three rows on a line at 0, 1 and 3; the median distance is 2. A row of another question feels nothing."""
    z = torch.tensor([[0.0], [1.0], [3.0], [0.5]], dtype=torch.float64)
    same = torch.ones(4, 4, dtype=torch.bool)
    same[3, :3] = same[:3, 3] = False

    def f(d: float) -> float:
        near = d * d / 4
        return 2 * (1 - near) * float(torch.tensor(-near, dtype=torch.float64).exp()) * d

    expected = [[-f(1) - f(3)], [f(1) - f(2)], [f(3) + f(2)], [0.0]]
    torch.testing.assert_close(repulsion(z, same), torch.tensor(expected, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("view", ["u", "v", "x0"])
def test_repulsion_widens_the_gap_of_the_nearest_rows(model, monkeypatch, view) -> None:
    """Whatever is predicted: one step that predicts the clean vectors exactly, with the push and without."""
    start = torch.tensor([0.0, 0.2, 3.0], dtype=torch.float64)[:, None, None].expand(3, VECTORS, WIDTH)
    model.port = us.Vectors(WIDTH, view, FORM.more)

    def exact(its: Any, latents: us.Layout) -> tuple[Tensor, int, int]:
        x0 = torch.zeros_like(start)
        t = latents.times.to(x0.dtype)
        z = z_of(latents)
        eps = (z - FLOW.alpha(t)[..., None] * x0) / FLOW.sigma(t)[..., None]
        return FLOW.seen(Views(x0, eps), t, view), latents.shape[1], 0

    monkeypatch.setattr(thoughts._Stream, "values", exact)
    monkeypatch.setattr(thoughts, "normal", lambda like, generator: start)
    gaps = []
    for strength in (0.0, 0.5):
        walked = _one_step(model, strength)
        gaps.append(float((walked[1] - walked[0]).abs().mean()))
    assert gaps[1] > gaps[0] + 1e-3


def _one_step(model: Denoiser, strength: float) -> Tensor:
    """The block after the first of two steps."""
    seen: list[Tensor] = []
    values = thoughts._Stream.values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thoughts._Stream, "values", lambda its, new: (seen.append(z_of(new)), values(its, new))[1])
        asked = prompts(1).expand(3, -1).contiguous()
        steps = us.decode(model, asked, passes=2, repulsion=strength)
        for _ in range(2):
            next(steps)
    return seen[1]


def test_repulsion_is_felt_by_rows_of_the_same_question_alone(model) -> None:
    other = prompts(4)
    different = next(row for row in other if not torch.equal(row, other[0]))
    rows = torch.stack([different, other[0]])
    alone = last(us.decode(model, rows, passes=4), rows)
    assert torch.equal(alone, last(us.decode(model, rows, passes=4, repulsion=5.0), rows))


# Training.


def packed_of(objective: ThoughtDiffusion, n: int = 6) -> tuple[us.Packed, us.tasks.Permutations]:
    examples = TASK.sample("train", n, seeded(0))
    value = torch.randn(n, FORM.blocks * VECTORS, WIDTH, generator=seeded(1), dtype=torch.float64)
    return objective.pack(FLOW, examples.x0, examples.given, TASK.mask_id, seeded(2), value), TASK


@pytest.mark.parametrize("rollout", [0, 2])
def test_the_weights_of_flow_answer_and_stop_are_data(rollout) -> None:
    packed, _ = packed_of(ThoughtDiffusion(FORM, VECTORS, draws=3, rollout=rollout))
    assert [float(q.weight.sum()) for q in packed.asked] == pytest.approx([5, 2, 1])
    assert packed.asked[0].at.shape[1] == 3 * FORM.blocks * VECTORS


def test_the_gradient_of_the_answer_reaches_the_first_step(model) -> None:
    """L7: through every denoising step of the rollout to the noise that it begins with."""
    packed, _ = packed_of(ThoughtDiffusion(FORM, VECTORS, rollout=3, flow=1.0, stop=0.0))
    noise = z_of(after(packed).layout).requires_grad_()
    loss = packed_losses(model, packed)
    answer = (loss * packed.weight)[:, -FORM.answer :].sum()
    answer.backward()
    start = Reasoning(FORM, VECTORS).noisy(0)
    assert noise.grad is not None
    assert all(float(noise.grad[:, e].abs().min()) > 0 for e in start)


@torch.no_grad()
def test_a_rollout_draws_what_decoding_draws(model, monkeypatch) -> None:
    """The blocks that the last pass of a rollout shows are those of `ThoughtWalk` from the same noise."""
    steps, n, seats = 3, 4, Reasoning(FORM, VECTORS)
    packed, _ = packed_of(ThoughtDiffusion(FORM, VECTORS, rollout=steps, unconditional=0.0), n)
    rolled = after(packed)
    noises = iter([z_of(rolled.layout)[:, list(seats.noisy(b))] for b in range(FORM.blocks)])
    layout = rolled.layout
    while rolled.then is not None:
        states = model.states(layout)
        before = Before(layout, states, lambda at, s=states: model.reader.predict(entries_of(s, at)))
        rolled = rolled.then
        assert rolled.reads is not None
        layout = rolled.reads(rolled.layout, before)
    expected = [z_of(layout)[:, list(seats.clean(b))] for b in range(FORM.blocks)]
    drawn, read = [], thoughts._Stream.read
    monkeypatch.setattr(thoughts, "normal", lambda like, generator: next(noises))
    monkeypatch.setattr(thoughts._Stream, "read", lambda its, new: (drawn.append(new.value), read(its, new))[1])
    says(monkeypatch, FORM.more)
    asked = torch.full((n, FORM.length), model.mask_id)
    asked[:, : FORM.question] = packed.layout.token[:, : FORM.question]
    list(ThoughtWalk(FORM, VECTORS, passes=steps).steps(model, asked))
    for mine, its in zip(drawn, expected, strict=False):
        torch.testing.assert_close(mine, its, **EXACT)


def test_what_is_hidden_is_the_question(model) -> None:
    packed, _ = packed_of(ThoughtDiffusion(FORM, VECTORS, unconditional=0.9), n=64)
    hidden = (packed.layout.token[:, : FORM.question] == TASK.mask_id).all(1)
    assert 44 <= int(hidden.sum()) <= 64  # 57.6 expected; less or more by chance once in 10^7


def test_small_times_are_those_of_the_context_alone() -> None:
    packed, _ = packed_of(ThoughtDiffusion(FORM, VECTORS, context=0.2), n=32)
    seats, time = Reasoning(FORM, VECTORS), packed.layout.times
    clean = time[:, [e for b in range(FORM.blocks) for e in seats.clean(b)]]
    assert 0 < float(clean.max()) <= 0.2
    assert float(time[:, list(seats.answer)].abs().max()) == 0
    assert float(time[:, seats.reach :].max()) > 0.9


def test_the_codec_is_as_it_was(stages) -> None:
    """Its weights are those of stage A after every stage, to the last bit, and it is saved with the model."""
    codec = us.load(stages[0], "cpu")
    for folder in stages[1:]:
        model = us.load(folder, "cpu")
        assert model.codec is not None and weights(model.codec) == weights(codec)
        assert not any(p.requires_grad for p in model.codec.parameters())
        model.train()
        assert model.training and not model.codec.training


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_every_stage_goes_on_as_if_nothing_had_been(stages, tmp_path, stage) -> None:
    config = Run(stages[stage]).config(Train)
    stop_after(config, tmp_path / "run", 4)
    for _ in training(config, tmp_path / "run"):
        pass
    assert curve(tmp_path / "run") == curve(stages[stage])
    assert weights(us.load(tmp_path / "run", "cpu")) == weights(us.load(stages[stage], "cpu"))


@pytest.mark.parametrize("preset", ["ladir", "ladir-rollout"])
def test_a_stage_without_the_one_before_is_refused(tmp_path, monkeypatch, preset) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="which this one begins with: make it first, `unspoken train ladir"):
        train(TRAIN[preset](), "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_half_precision_is_left_when_a_step_is_done(stages, tmp_path, stage) -> None:
    """Passes that follow on a pass run inside its call: a launcher's autocast is not entered twice."""
    config = replace(Run(stages[stage]).config(Train), precision="bf16")
    for update in training(config, tmp_path / "run"):
        assert not torch.is_autocast_enabled("cpu")
        assert update.loss is None or update.loss == update.loss


def test_a_run_goes_on_when_the_stages_before_have_moved(stages, tmp_path) -> None:
    """A checkpoint holds the codec, and the weights that training began with."""
    held = [shutil.copytree(folder, tmp_path / folder.name) for folder in stages]
    configs = [reasoner(held[0]), ladir.rolled(reasoner(held[0]), Made(str(held[1])), rollout=2, **SHORT)]
    for number, config in enumerate(configs):
        stop_after(config, tmp_path / f"run{number}", 4)
    for folder in held:
        folder.rename(folder.with_name(f"moved-{folder.name}"))
    for number, config in enumerate(configs):
        train(config, tmp_path / f"run{number}")
        assert weights(us.load(tmp_path / f"run{number}", "cpu")) == weights(us.load(stages[1 + number], "cpu"))


def test_a_start_of_another_codec_is_refused(stages, tmp_path) -> None:
    train(encoder(seed=1), tmp_path / "other")
    config = ladir.rolled(reasoner(tmp_path / "other"), Made(str(stages[1])), rollout=2, **SHORT)
    with pytest.raises(ValueError, match="trained with another codec"):
        train(config, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_codec_completes_nothing(stages) -> None:
    with pytest.raises(ValueError, match="train a reasoner with it"):
        us.decode(us.load(stages[0], "cpu"), prompts())


def test_a_reasoner_is_decoded_by_its_own_decoder(model) -> None:
    with pytest.raises(ValueError, match=r"us\.ThoughtWalk"):
        us.decode(model, prompts(), decoder=us.Slots())


def test_blocks_of_another_size_are_refused(stages) -> None:
    model = us.load(stages[1], "cpu")
    with pytest.raises(ValueError, match=f"blocks have {VECTORS}: leave vectors out"):
        us.decode(model, prompts(), vectors=VECTORS + 1)


def test_only_a_reasoner_is_rolled(stages) -> None:
    with pytest.raises(ValueError, match="give the run of `reasoner`"):
        ladir.rolled(encoder(), Made(str(stages[0])))


def test_a_guided_step_is_two_passes(model) -> None:
    plain, guided = (list(us.decode(model, prompts(), passes=3, blocks=1, guidance=g)) for g in (1.0, 2.0))
    assert len(guided) == len(plain) + 3
    assert [s.index for s in guided] == list(range(len(guided)))


def test_a_stage_that_is_not_done_is_refused(tmp_path) -> None:
    stop_after(encoder(), tmp_path / "a", 4)
    with pytest.raises(ValueError, match="has 3 of its 6 steps"):
        train(reasoner(tmp_path / "a"), tmp_path / "b")


def test_a_codec_of_other_vectors_is_refused(stages, tmp_path) -> None:
    config = replace(reasoner(stages[0]), port=us.Vectors(WIDTH + 1, view="u", placeholder=FORM.more))
    with pytest.raises(ValueError, match=f"vectors={VECTORS} and width={WIDTH + 1}"):
        train(config, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_codec_folder_is_refused(stages, tmp_path) -> None:
    model = us.load(stages[1], "cpu")
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "codec")
    with pytest.raises(ValueError, match="codec of the model: copy the folder anew"):
        us.load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": Sudoku(2, 2, givens=6)}, "has no thoughts"),
        ({"task": Arithmetic()}, "give form=task.thoughts"),
        ({"port": None}, "view='u'"),
        ({"trunk": TRUNK}, r"Trunk\(times=True\)"),
        ({"process": us.Absorbing()}, 'path="linear"'),
        ({"codec": None}, "without codec="),
        ({"attention": MDM}, "causal context"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, change, said) -> None:
    with pytest.raises(ValueError, match=said):
        replace(reasoner(tmp_path), **change)


def test_tokens_that_are_no_question_are_refused(model) -> None:
    with pytest.raises(ValueError, match="the question and all others the mask"):
        us.decode(model, TASK.sample("test", 2).x0)
    with pytest.raises(ValueError, match="take a model of ThoughtDiffusion"):
        ThoughtWalk(FORM).steps(
            us.Denoiser.from_config(TRUNK.config(12, 8), attention=CACHED_JOINT, mask_id=11), prompts()
        )


def test_vectors_alone_are_trained_and_decoded_too(stages, tmp_path) -> None:
    model = train(replace(reasoner(stages[0]), attention=CACHED_ALONE), tmp_path / "alone")
    said = last(us.decode(model, prompts(), passes=2), prompts())
    assert not bool((said == model.mask_id).any())


def test_rows_of_fewer_thoughts() -> None:
    """Absent blocks weigh nothing and are seen by nobody; the stop question stands at the last one that is there."""
    task = Arithmetic()
    form = task.thoughts
    objective = ThoughtDiffusion(form, 3)
    examples = task.sample("validation", 16)
    _, thoughts, _ = form.split(examples.x0)
    there = form.there(thoughts)
    assert len(there.sum(1).unique()) > 1
    value = torch.randn(16, form.blocks * 3, WIDTH, generator=seeded(0))
    packed = objective.pack(FLOW, examples.x0, examples.given, task.mask_id, seeded(1), value)
    flow, stop, _ = packed.questions
    assert torch.equal(flow.real, there.repeat_interleave(3, 1))
    assert torch.equal(stop.real, there)
    marks = torch.where(there, stop.target, -1)
    for row, n in enumerate(there.sum(1).tolist()):
        assert marks[row, :n].tolist() == [form.more] * (n - 1) + [form.done]
    seen = packed.layout.document.gather(1, flow.at) >= 0
    assert torch.equal(seen, flow.real)


def test_a_form_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="three different ids"):
        Thoughts(1, 2, 2, 1, pad=8, more=8, done=10)
    with pytest.raises(ValueError, match="give thoughts from the left"):
        FORM.there(torch.tensor([[[8, 8], [1, 2]]]))
    assert isinstance(encoder().objective, Autoencoding)
