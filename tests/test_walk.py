"""Walks through noise, of exact networks: what comes out is the data's law, in as many passes as were asked.

Laws: ancestral sampling draws from p as steps grow, under every process; remasking too; one pass a step, no mask left,
nothing given ever changes; equal times are full-sequence diffusion, bit by bit; guidance; second thoughts.
"""

from typing import Any

import pytest
import torch
from noise import PROCESSES, exact
from torch import Tensor
from toy import Ignorant, chi_square_p, random_distribution, seeded, tiny

from unspoken.decoders.correct import correct
from unspoken.decoders.denoise import denoise
from unspoken.decoders.walk import DenoisingStep, ancestral, remasking, walk
from unspoken.layout.attention import MDM, SCDM
from unspoken.layout.entries import Layout
from unspoken.model.prediction import Prediction, predictor
from unspoken.noise import Absorbing, Discrete, Hybrid, Ids, SNRMix, Uniform
from unspoken.noise.times import Autoregressive, Blockwise, Diagonal, Path, Pyramid, Sizes

V, L = 3, 2
P = random_distribution(V, L, seed=1)


def drawn(process: Discrete, path: Path, steps: int, rows: int, advance: Any = None, seed: int = 0) -> Tensor:
    given = torch.zeros(rows, L, dtype=torch.bool)
    start = process.prior(torch.zeros(rows, L, dtype=torch.int64), given, Ids(V), seeded(seed))
    moves = walk(
        exact(P, V, L, process),
        advance or ancestral(process, V),
        start,
        given,
        steps=steps,
        path=path,
        generator=seeded(seed + 1),
    )
    return last(moves)


def last(moves: Any) -> Tensor:
    z = None
    for move in moves:
        z = move.z
    assert z is not None
    return z


def counts(z: Tensor) -> Tensor:
    assert (z < V).all()
    return torch.bincount(z[:, 0] * V + z[:, 1], minlength=V**L).double()


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_one_token_at_a_time_draws_from_the_data(process: Discrete) -> None:
    """Left to right in fine steps: 4,000 rows, chi-square p above 1e-5. (A token at t = 1 tells nothing.)"""
    assert chi_square_p(counts(drawn(process, Autoregressive(), 40 * L, 4_000)), P) > 1e-5


@pytest.mark.parametrize("name", ["absorbing", "uniform", "hybrid", "snr mix"])
def test_all_together_comes_to_the_data_as_steps_grow(name: str) -> None:
    """4,000 rows: in 200 steps chi-square p above 1e-5, in one step the product of the marginals."""
    process = PROCESSES[name]
    assert chi_square_p(counts(drawn(process, Diagonal(), 200, 4_000)), P) > 1e-5
    table = P.view(V, V)
    alone = (table.sum(1)[:, None] * table.sum(0)[None]).flatten()
    one = counts(drawn(process, Diagonal(), 1, 4_000, seed=5))
    assert chi_square_p(one, P) < 1e-5
    if name == "absorbing":
        assert chi_square_p(one, alone) > 1e-5


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_remasking_keeps_the_law(share: float) -> None:
    """4,000 rows in 200 steps; half-way as many tokens are masked as without."""
    found = drawn(Absorbing(), Diagonal(), 200, 4_000, remasking(Absorbing(), V, share))
    assert chi_square_p(counts(found), P) > 1e-5


def test_remasking_does_mask_again_and_keeps_how_many_are_masked() -> None:
    """At t = 1/2 of 8,000 tokens half are masked, within 4.5 standard errors; and said tokens do become masks."""
    given, again, z = torch.zeros(4_000, L, dtype=torch.bool), 0, torch.full((4_000, L), V)
    moves = walk(exact(P, V, L, Absorbing()), remasking(Absorbing(), V, 1.0), z, given, steps=10, generator=seeded(2))
    for move in moves:
        again += int(((z != V) & (move.z == V)).sum())
        z = move.z
        if move.index == 4:
            assert abs(float((z == V).double().mean()) - 0.5) < 4.5 * (0.25 / 8_000) ** 0.5
    assert again > 1_000
    assert (z != V).all()


def test_no_remasking_is_ancestral_in_law() -> None:
    """Share 0 never masks again."""
    z = torch.full((50, L), V)
    moves = walk(exact(P, V, L, Absorbing()), remasking(Absorbing(), V, 0.0), z, z != V, steps=6, generator=seeded(2))
    for move in moves:
        assert not ((z != V) & (move.z != z)).any()
        z = move.z


MODEL = tiny(MDM, vocab=5, positions=8)
PATHS = [Diagonal(), Autoregressive(), Pyramid(0.3), Blockwise(2), Sizes((1, 3))]


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_a_walk_takes_its_passes_leaves_no_mask_and_keeps_the_prompt(process: Discrete, path: Path) -> None:
    tokens = torch.tensor([[1, 5, 5, 5, 5, 2], [5, 5, 0, 5, 4, 5]])
    moves = list(denoise(MODEL, process, tokens, steps=5, path=path, random_order=True, generator=seeded()))
    assert len(moves) == 5
    z = moves[-1].z
    assert (z != 5).all()
    assert (moves[-1].t == 0).all()
    for move in moves:
        assert torch.equal(move.z[tokens != 5], tokens[tokens != 5])
        assert not move.changed[tokens != 5].any()


def test_what_is_clean_or_waits_is_not_touched() -> None:
    """From the left: what has arrived stays, and what has not set out is noise of the prior."""
    tokens = torch.full((3, 6), 5)
    before = None
    for move in denoise(MODEL, Uniform(), tokens, steps=12, path=Autoregressive(), generator=seeded()):
        done = (move.index + 1) // 2
        if before is not None:
            assert torch.equal(move.z[:, : move.index // 2], before[:, : move.index // 2])
            assert torch.equal(move.z[:, done + 1 :], before[:, done + 1 :])
        before = move.z


def test_a_walk_of_sizes_is_parallel_decoding() -> None:
    tokens = torch.full((4, 6), 5)
    left = [
        int((m.z == 5).sum(1).unique()) for m in denoise(MODEL, Absorbing(), tokens, steps=3, path=Sizes((1, 2, 3)))
    ]
    assert left == [5, 3, 0]


def test_equal_times_are_full_sequence_diffusion_bit_by_bit() -> None:
    """D1: a diagonal walk is `Pyramid(0)`'s and `Blocks`' of one block."""
    tokens = torch.full((3, 6), 5)
    walks = [
        torch.stack([m.z for m in denoise(MODEL, Hybrid(), tokens, steps=6, path=path, generator=seeded())])
        for path in (Diagonal(), Pyramid(0.0), Blockwise(6))
    ]
    assert torch.equal(walks[0], walks[1])
    assert torch.equal(walks[0], walks[2])


def test_the_network_is_told_times_and_shown_ones_change_only_that() -> None:
    spy = Ignorant(5, MDM)
    tokens = torch.tensor([[5, 5, 1]])
    plain = list(denoise(spy, Hybrid(), tokens, steps=4, path=Autoregressive(), generator=seeded()))
    times = [layout.time for layout in spy.seen]
    assert len(times) == len(plain) == 4  # a pass a step
    spy.seen.clear()
    doubt = list(denoise(spy, Hybrid(), tokens, steps=4, path=Autoregressive(), shown=0.1, generator=seeded()))
    for told, shown, a, b in zip(times, spy.seen, plain, doubt, strict=True):
        assert told is not None and shown.time is not None
        assert torch.equal(shown.time, told.clamp_min(0.1))
        assert torch.equal(a.z, b.z)  # it says the same whatever it is shown
        assert torch.equal(a.t, b.t)
    assert times[0] is not None and times[0].tolist() == [[1, 1, 0]]


def test_a_token_sees_nothing_of_itself_where_it_is_masked_and_all_of_the_others() -> None:
    """By perturbation of a real network: every other token, and every time, is read (its clock is not at rest)."""
    model = tiny(MDM, vocab=5, positions=8)
    timed = type(model)(model.trunk, MDM, 5, positions=8, times=True).double().eval()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert timed.clock is not None
        torch.nn.init.normal_(timed.clock.linear.weight)
    given = torch.zeros(1, 4, dtype=torch.bool)
    z, t = torch.tensor([[0, 1, 2, 3]]), torch.full((1, 4), 0.5, dtype=torch.float64)
    base = predictor(timed, given)(z, t).logits
    for j in range(4):
        other = predictor(timed, given)(z.index_fill(1, torch.tensor([j]), 4), t).logits
        later = predictor(timed, given)(z, t.index_fill(1, torch.tensor([j]), 0.9)).logits
        for i in range(4):
            assert not torch.allclose(base[0, i, :5], other[0, i, :5])
            assert not torch.allclose(base[0, i, :5], later[0, i, :5])


def test_a_timed_network_comes_back_from_the_disk(tmp_path) -> None:
    model = tiny(MDM, vocab=5)
    timed = type(model)(model.trunk, MDM, 5, positions=8, times=True).eval()
    assert timed.clock is not None
    torch.nn.init.normal_(timed.clock.linear.weight)
    timed.save_pretrained(tmp_path)
    back = type(model).from_pretrained(tmp_path)
    given, z = torch.zeros(1, 4, dtype=torch.bool), torch.tensor([[0, 1, 2, 3]])
    t = torch.tensor([[0.1, 0.5, 0.9, 1.0]])
    assert torch.equal(predictor(timed, given)(z, t).logits, predictor(back, given)(z, t).logits)


class Fixed:
    """A network whose prediction is a table `[batch or 1, seq, vocab]`, whatever it is shown."""

    attention, mask_id, vocab_size = MDM, 3, 4

    def __init__(self, logits: Tensor):
        self.logits, self.calls = logits, 0

    def __call__(self, layout: Layout, at: Any = None, cache: Any = None) -> Tensor:
        self.calls += 1
        return self.logits.expand(layout.shape[0], -1, -1)

    def new_cache(self) -> None:
        return None


def wanting(*want: int, sure: float = 5.0) -> Fixed:
    logits = torch.zeros(1, len(want), 4)
    logits[..., 3] = -torch.inf
    for i, token in enumerate(want):
        logits[0, i, token] = sure + i
    return Fixed(logits)


def test_second_thoughts_mend_the_surest_token_first_and_then_rest() -> None:
    model, given = wanting(0, 1, 2), torch.zeros(2, 3, dtype=torch.bool)
    moves = list(correct(model, torch.tensor([[1, 2, 0], [0, 1, 2]]), given, temperature=0.0))
    assert [m.z[0].tolist() for m in moves[:3]] == [[1, 2, 2], [1, 1, 2], [0, 1, 2]]
    assert all(m.z[1].tolist() == [0, 1, 2] for m in moves)
    assert len(moves) == 4  # the last changes nothing
    assert not moves[-1].changed.any()
    assert all(int(m.changed.sum(1).max()) <= 1 for m in moves)


def test_second_thoughts_may_take_several_and_are_told_the_time() -> None:
    model, given = wanting(0, 1, 2), torch.zeros(1, 3, dtype=torch.bool)
    moves = list(correct(model, torch.tensor([[1, 2, 0]]), given, temperature=0.0, commit=2))
    assert [m.z[0].tolist() for m in moves[:2]] == [[1, 1, 2], [0, 1, 2]]
    spy = Ignorant(5, MDM)
    next(correct(spy, torch.tensor([[1, 2, 0]]), torch.tensor([[True, False, False]]), time=0.07))
    assert spy.seen[0].time is not None
    assert spy.seen[0].time[0].tolist() == pytest.approx([0, 0.07, 0.07])


def test_second_thoughts_leave_the_prompt_and_do_nothing_in_no_rounds() -> None:
    model, tokens = wanting(0, 1, 2), torch.tensor([[1, 2, 0]])
    given = torch.tensor([[True, False, False]])
    assert last(correct(model, tokens, given, temperature=0.0)).tolist() == [[1, 1, 2]]
    assert list(correct(model, tokens, given, rounds=0)) == []


def test_second_thoughts_of_a_batch_are_those_of_each_row() -> None:
    model = tiny(MDM, vocab=5, positions=8)
    tokens = torch.randint(5, (6, 7), generator=seeded())
    given = torch.rand(6, 7, generator=seeded(1)) < 0.2
    together = last(correct(model, tokens, given, temperature=0.0, rounds=20, patience=4))
    for row in range(6):
        alone = last(
            correct(model, tokens[row : row + 1], given[row : row + 1], temperature=0.0, rounds=20, patience=4)
        )
        assert torch.equal(alone[0], together[row])
    assert (together != 5).all()


def test_second_thoughts_run_out_of_patience() -> None:
    """Two tokens that draw each other in turn, never surer: so many rounds after the first, and no more."""

    class Swinging(Fixed):
        def __call__(self, layout: Layout, at: Any = None, cache: Any = None) -> Tensor:
            wrong = (layout.token + 1) % 3  # whatever is said, it would say another
            return torch.where(torch.arange(4) == wrong[..., None], 5.0, self.logits)

    nothing = torch.tensor([0.0, 0.0, 0.0, -torch.inf]).expand(1, 2, 4)
    model, tokens, given = Swinging(nothing), torch.tensor([[1, 2]]), torch.zeros(1, 2).bool()
    for patience in (1, 3, 7):
        assert len(list(correct(model, tokens, given, temperature=0.0, patience=patience))) == patience


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda t: denoise(MODEL, Absorbing(), t, steps=0), "steps=0; give whole numbers of 1 or more"),
        (lambda t: denoise(MODEL, Hybrid(), t, steps=3, remask=0.5), "Absorbing alone"),
        (lambda t: denoise(MODEL, Absorbing(), t, steps=3, remask=1.5), "share"),
        (lambda t: denoise(MODEL, Absorbing(), t, steps=3, shown=1.0), "time in"),
        (lambda t: denoise(MODEL, Absorbing(), t + 9, steps=3), "vocabulary"),
        (lambda t: denoise(tiny(SCDM, vocab=5), Absorbing(), t, steps=3), "unspoken.decode"),
        (lambda t: correct(MODEL, t, t != 5), "masks among"),
        (lambda t: correct(MODEL, t * 0, t == 5, commit=0), "commit"),
        (lambda t: correct(MODEL, t * 0, (t == 5)[:, :2]), "given is"),
        (lambda t: denoise(MODEL, Hybrid(), t, steps=3, guidance=float("nan")), "give a number"),
    ],
)
def test_what_can_not_be_walked_is_refused_before_any_pass(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(torch.tensor([[5, 5, 1]]))


def test_uniform_noise_needs_the_mask_to_be_the_last_id() -> None:
    spy = Ignorant(5, MDM)
    odd: Any = type("Odd", (), {"attention": MDM, "mask_id": 2, "vocab_size": 6, "__call__": spy.__call__})()
    with pytest.raises(ValueError, match="last one"):
        denoise(odd, SNRMix(), torch.tensor([[2, 2, 1]]), steps=2)


def test_guidance_hides_the_prompt_behind_the_process_s_own_prior() -> None:
    """Behind masks, or under uniform noise behind tokens; scale 1 asks nothing twice."""
    for process, blind in ((Hybrid(), True), (Uniform(), False)):
        spy = Ignorant(5, MDM)
        list(denoise(spy, process, torch.tensor([[1, 5, 5]]), steps=2, guidance=2.0, generator=seeded()))
        known, hidden = spy.seen[:2]
        assert len(spy.seen) == 4
        assert known.token[0, 0] == 1 and (hidden.token[0, 0] == 5) == blind
        assert known.time is not None and hidden.time is not None
        assert (known.time[0, 0], hidden.time[0, 0]) == (0, 1)
    plain = Ignorant(5, MDM)
    list(denoise(plain, Hybrid(), torch.tensor([[1, 5, 5]]), steps=2))
    assert len(plain.seen) == 2


def test_without_a_generator_a_walk_is_the_same_again() -> None:
    tokens = torch.full((2, 6), 5)
    once, twice = (last(denoise(MODEL, Hybrid(), tokens, steps=4)) for _ in range(2))
    assert torch.equal(once, twice)


def test_a_move_tells_what_changed() -> None:
    tokens = torch.full((2, 4), 5)
    before = tokens
    for move in denoise(MODEL, Absorbing(), tokens, steps=4, generator=seeded()):
        assert isinstance(move, DenoisingStep)
        assert isinstance(move.prediction, Prediction)
        assert torch.equal(move.changed, move.z != before)
        before = move.z


def test_nothing_is_walked_or_thought_of_in_an_empty_batch_and_no_pass_is_wasted() -> None:
    empty = torch.empty(0, 4, dtype=torch.int64)
    assert list(denoise(MODEL, Hybrid(), empty, steps=3)) == []
    assert list(correct(MODEL, empty, empty == 0)) == []
    model = wanting(0, 1, 2)
    moves = list(correct(model, torch.tensor([[0, 1, 2]]), torch.zeros(1, 3).bool(), temperature=0.0))
    assert model.calls == len(moves) == 1


@pytest.mark.parametrize("mask", range(V + 1))
def test_under_masks_alone_the_mask_may_be_any_id(mask: int) -> None:
    """Ids above the mask too, and none below it: the same law, of other names (chi-square p above 1e-5)."""
    told = torch.cat([torch.arange(V + 1)[torch.arange(V + 1) != mask], torch.tensor([mask])])  # what each is called
    inner = exact(P, V, L, Absorbing())

    def predict(z: Tensor, t: Tensor) -> Prediction:
        logits = inner(told.argsort()[z], t).logits
        return Prediction(torch.empty_like(logits).index_copy(2, told, logits))

    given = torch.zeros(4_000, L, dtype=torch.bool)
    z = torch.full((4_000, L), mask)
    moves = walk(predict, ancestral(Absorbing(), mask), z, given, steps=20, path=Autoregressive(), generator=seeded(2))
    assert chi_square_p(counts(told.argsort()[last(moves)]), P) > 1e-5
    none = torch.zeros(1, 3, 6).index_fill(2, torch.tensor([mask]), -torch.inf)
    odd: Any = type("Odd", (), {"attention": MDM, "mask_id": mask, "vocab_size": 6, "__call__": lambda *_: none})()
    said = last(denoise(odd, Absorbing(), torch.full((1, 3), mask), steps=2, generator=seeded()))
    assert bool((said != mask).all())
    with pytest.raises(ValueError, match="mask_id=0 under Uniform"):
        Uniform().noise(torch.ones(1, 1), Ids(0))
