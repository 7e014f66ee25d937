"""Laws of training: a killed run goes on as if nothing had been; the loop does what it says, by hand."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook
from toy import TRUNK
from transformers import GPT2Config

from unspoken.layout.attention import ATTENTIONS, CACHED_ALONE, CACHED_JOINT, SIDM
from unspoken.layout.entries import one_block
from unspoken.layout.groups import Groups
from unspoken.model.denoiser import Denoiser
from unspoken.tasks import PathStar, Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loading import load
from unspoken.training.loop import Update, packed_batch, train, training, update_average, validation_loss
from unspoken.training.losses import packed_losses, token_losses
from unspoken.training.models import check_vocabulary, new_denoiser
from unspoken.training.objective import (
    BlockDiffusion,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Objective,
    Teacherless,
)
from unspoken.training.run import Run
from unspoken.training.seeds import seeded

TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(
    TASK,
    trunk=TRUNK,
    steps=12,
    batch=8,
    accumulate=2,
    warmup=3,
    lr=1e-2,
    save=3,
    log=1,
    validate=3,
)
PATHS = PathStar(2, 3, 8, validation=10, test=10)
STAR = replace(CONFIG, task=PATHS, attention=CACHED_JOINT, objective=MultiToken())
NEVER = 600.0  # seconds: a child that waits to be killed


def curve(folder: Path) -> list[dict[str, Any]]:
    """Everything that is logged but how long it took."""
    return [{k: v for k, v in m.items() if k != "seconds"} for m in Run(folder).metrics()]


def stop_after(config: Train, folder: Path, step: int) -> list[Update]:
    """Trains in this process and drops the loop after a step."""
    updates = []
    for update in training(config, folder):
        updates.append(update)
        if update.step == step:
            break
    return updates


def losses(updates: list[Update]) -> list[float | None]:
    return [u.loss for u in updates]


def same_weights(a: Denoiser, b: Denoiser) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(n == m and torch.equal(x, y) for (n, x), (m, y) in pairs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(CONFIG, folder)
    return folder


def check_goes_on_as(whole: Path, folder: Path) -> None:
    """Runs a killed run to its end: every number and weight is that of the run that nothing happened to."""
    model = train(CONFIG, folder)
    assert curve(folder) == curve(whole)
    (step, mine), (_, theirs) = Run(folder).checkpoints()[-1], Run(whole).checkpoints()[-1]
    assert step == CONFIG.steps
    names = sorted(str(p.relative_to(theirs)) for p in theirs.rglob("*.safetensors"))
    assert len(names) >= 2
    for name in names:
        a, b = load_file(mine / name), load_file(theirs / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), name
    assert same_weights(model, load(whole))
    assert [p.name for p in (folder / "checkpoints").glob("[!.]*")] == [mine.name]


# --- killed by kill -9. Children come from a fork server that holds torch and transformers already.


@pytest.fixture(scope="module")
def fork_server(cache):
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["accelerate", "safetensors.torch", "torch._dynamo", "transformers.models.llama.modeling_llama", "unspoken"]
    )
    return server


def dawdle(folder: Path, last: int, pause: float) -> None:
    """Trains with a pause a step and stops at step `last` to wait for its end."""
    torch.set_num_threads(1)
    for update in training(CONFIG, folder):
        time.sleep(NEVER if update.step == last else pause)


def note_writes(folder: Path, fatal: int | None) -> None:
    """Trains, notes what is about to change on the disk, and dies before change number `fatal`.

    Without `fatal` the changes are written beside the folder, a list of their names and paths.
    """
    torch.set_num_threads(1)
    seen: list[str] = []

    def hook(event: str, args: tuple) -> None:
        opens = event == "open" and isinstance(args[1], str) and args[1][:1] in "wax"
        if event in ("os.rename", "os.mkdir", "shutil.rmtree") or opens:
            ours = str(args[0]).startswith(str(folder))
        else:
            ours = event in ("os.remove", "os.rmdir")
        if ours and len(seen) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        if ours:
            seen.append(f"{event} {args[0]} {args[1]}")

    sys.addaudithook(hook)
    train(CONFIG, folder)
    folder.with_name("writes").write_text(json.dumps(seen))


def lines(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def wait_for(there: Any) -> None:
    for _ in range(60_000):
        if there():
            return
        time.sleep(0.001)
    raise TimeoutError("the child did not get there")


def killed(child: Any) -> None:
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("k", [2, 4, 7, 9], ids=lambda k: f"after-{k}-lines")
def test_killed_at_a_line_of_the_log(fork_server, whole, tmp_path, k):
    """2 is before the first checkpoint, 4 shortly after it, 7 shortly after the second, 9 about the third."""
    folder = tmp_path / "run"
    child = fork_server.Process(target=dawdle, args=(folder, k + 2, 0.003))
    child.start()
    wait_for(lambda: lines(folder) >= k)
    killed(child)
    assert k <= lines(folder) <= k + 2
    check_goes_on_as(whole, folder)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_any_moment(fork_server, whole, tmp_path, seed):
    folder = tmp_path / "run"
    child = fork_server.Process(target=dawdle, args=(folder, 11, 0.02))
    child.start()
    wait_for((folder / "environment.json").exists)
    time.sleep(random.Random(seed).uniform(0.0, 0.4))
    killed(child)
    check_goes_on_as(whole, folder)


def test_killed_twice(fork_server, whole, tmp_path):
    folder = tmp_path / "run"
    for k in (4, 8):
        child = fork_server.Process(target=dawdle, args=(folder, k + 1, 0.0))
        child.start()
        wait_for(lambda k=k: lines(folder) >= k)
        killed(child)
    check_goes_on_as(whole, folder)


@pytest.fixture(scope="module")
def writes(fork_server, tmp_path_factory) -> list[str]:
    """Everything that training changes on the disk."""
    folder = tmp_path_factory.mktemp("writes") / "run"
    child = fork_server.Process(target=note_writes, args=(folder, None))
    child.start()
    child.join()
    assert child.exitcode == 0
    return json.loads(folder.with_name("writes").read_text())


@pytest.mark.parametrize("part", range(5))
def test_killed_in_the_middle_of_a_write(fork_server, whole, writes, tmp_path, part):
    """Dies just before one of its changes to the disk: files opened, renamed, removed; five of them, spread out."""
    folder = tmp_path / "run"
    at = int(len(writes) * (part + random.Random(part).random()) / 5)
    child = fork_server.Process(target=note_writes, args=(folder, at))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    check_goes_on_as(whole, folder)


def test_killed_while_a_checkpoint_appears_or_goes(fork_server, whole, writes, tmp_path):
    """Dies right after each change to the name of the second checkpoint."""
    moments = [i + 1 for i, write in enumerate(writes) if "/checkpoints/step-0000006" in write]
    assert len(moments) >= 3  # old one removed, new one renamed into place, and pruned later
    for at in moments:
        folder = tmp_path / str(at)
        child = fork_server.Process(target=note_writes, args=(folder, at))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        check_goes_on_as(whole, folder)


def test_a_half_of_the_last_pruning_is_cleared_away(fork_server, writes, tmp_path):
    folder = tmp_path / "run"
    last = max(i for i, write in enumerate(writes) if write.startswith("os.rmdir"))
    child = fork_server.Process(target=note_writes, args=(folder, last))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert [step for step, _ in Run(folder).checkpoints()] == [CONFIG.steps]
    train(CONFIG, folder)
    assert not list((folder / "checkpoints").glob(".half-*"))


# --- stopped in this process


@pytest.mark.parametrize("step", [1, 3, 5, 11])
def test_a_loop_dropped_after_any_step_goes_on(whole, tmp_path, step):
    stop_after(CONFIG, tmp_path / "run", step)
    check_goes_on_as(whole, tmp_path / "run")


def test_reports_between_saves_are_the_same_when_resumed(tmp_path):
    config = replace(CONFIG, log=5, save=4, validate=12)
    train(config, tmp_path / "whole")
    stop_after(config, tmp_path / "run", 6)
    train(config, tmp_path / "run")
    assert [m["step"] for m in curve(tmp_path / "run")] == [4, 5, 8, 10, 12]
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


OBJECTIVES: list[Objective] = [
    NextTokenPrediction(),
    MultiToken(window=2, prefixes=2, next_token=0.5),
    MultiToken(order="random"),
    Teacherless(),
    MuToR(),
    BlockDiffusion(bound=True),
]


CURRICULA = [
    MaskedDiffusion(groups=Groups(1.0, whole_at_end=0.0)),
    MaskedDiffusion(groups=Groups(0.0, over_training="shrinking", both=True, distil=0.5)),
]


@pytest.mark.parametrize("objective", [*OBJECTIVES, *CURRICULA], ids=str)
def test_every_objective_goes_on_as_if_nothing_had_been(tmp_path, objective):
    """Whatever it draws comes from the step's own generator."""
    rule = CACHED_JOINT if objective in CURRICULA else CACHED_ALONE
    config = replace(STAR, attention=rule, objective=objective, steps=4, save=2, validate=4)
    train(config, tmp_path / "whole")
    stop_after(config, tmp_path / "run", 3)
    model = train(config, tmp_path / "run")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert same_weights(model, load(tmp_path / "whole"))
    assert len({m["loss"] for m in curve(tmp_path / "run")}) == 4


@pytest.mark.parametrize("changes", [{"anneal": 9}, {"recompute": True}], ids=["annealed", "recomputed"])
def test_an_annealed_and_a_recomputed_run_go_on_as_if_nothing_had_been(tmp_path, changes):
    config = replace(CONFIG, accumulate=1, **changes)
    train(config, tmp_path / "whole")
    stop_after(config, tmp_path / "run", 7)
    train(config, tmp_path / "run")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    train(replace(CONFIG, accumulate=1), tmp_path / "plain")
    assert (curve(tmp_path / "plain") == curve(tmp_path / "whole")) == ("anneal" not in changes)


def test_recomputed_states_are_the_same_states(tmp_path):
    """And they are recomputed: the layers run again in the backward pass."""
    seen = {}
    for recompute in (False, True):
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        folder = tmp_path / str(recompute)
        with pytest.MonkeyPatch.context() as patch:
            real = new_denoiser

            def counted(config: Train, held: Any, real: Any = real) -> Denoiser:
                model = real(config, held)
                model.trunk.model.layers[0].mlp.register_forward_pre_hook(count)
                return model

            patch.setattr(import_module("unspoken.training.loop"), "new_denoiser", counted)
            train(replace(CONFIG, steps=2, accumulate=1, recompute=recompute, validate=99, save=99), folder)
        seen[recompute] = calls, [m["loss"] for m in curve(folder)]
    assert seen[True][1] == pytest.approx(seen[False][1], rel=1e-6)
    assert seen[True][0] == seen[False][0] + 2  # a step each


def test_half_a_checkpoint_is_never_loaded_and_is_cleared_away(whole, tmp_path):
    folder = tmp_path / "run"
    stop_after(CONFIG, folder, 4)
    half = folder / "checkpoints" / ".half-step-0000006"
    (half / "state").mkdir(parents=True)
    (half / "denoiser").mkdir()
    (half / "state" / "model.safetensors").write_bytes(b"half")
    other = half.with_name(".half-step-0000099")
    other.mkdir()
    assert [step for step, _ in Run(folder).checkpoints()] == [3]
    load(folder)
    check_goes_on_as(whole, folder)
    assert not half.exists() and not other.exists()


def test_a_finished_run_is_left_as_it_is(whole):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    kept = load(whole)
    stepped = []
    handle = register_optimizer_step_pre_hook(lambda *_: stepped.append(1))
    try:
        again = train(CONFIG, whole)
    finally:
        handle.remove()
    assert same_weights(again, kept)
    assert not stepped and list(training(CONFIG, whole)) == []
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before


def test_checkpoints_are_kept_as_asked(tmp_path):
    train(replace(CONFIG, keep=2), tmp_path)
    assert [step for step, _ in Run(tmp_path).checkpoints()] == [9, 12]


# --- the loop, by hand


def by_hand(config: Train) -> tuple[Denoiser, list[float]]:
    """The averaged model and the losses: AdamW, clipping, accumulation and averaging written out."""
    model, average = new_denoiser(config), new_denoiser(config)
    weights = list(model.parameters())
    first, second = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    curve = []
    for n in range(config.steps):
        generator = seeded(config.seed, n, 0, 0)
        packed = packed_batch(config, model, config.task.sample("train", config.batch, generator), generator)
        loss = packed.reduce(packed_losses(model, packed))
        curve.append(loss.item())
        grads = torch.autograd.grad(loss, weights)
        norm = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
        scale = min(1.0, config.clip / float(norm))
        rise = (n + 1) / config.warmup
        lr = config.lr * min(1.0, rise, 1 - n / config.steps)
        decay = min(config.ema, (1 + n) / (10 + n))
        with torch.no_grad():
            for w, g, m, v, a in zip(weights, grads, first, second, average.parameters(), strict=True):
                m.mul_(0.9).add_(0.1 * scale * g)
                v.mul_(0.999).add_(0.001 * (scale * g) ** 2)
                w.mul_(1 - lr * config.weight_decay)
                w.sub_(lr * (m / (1 - 0.9 ** (n + 1))) / ((v / (1 - 0.999 ** (n + 1))).sqrt() + 1e-8))
                a.copy_(decay * a + (1 - decay) * w)
    return average, curve


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 1, "clip": 0.05, "objective": MaskedDiffusion(bound=True)},
        {"weight_decay": 0.5, "ema": 0.2, "trunk": replace(CONFIG.trunk, learned_positions=False)},
        {"weight_decay": 0.5, "trunk": replace(CONFIG.trunk, loops=2)},
        {"task": STAR.task, "attention": CACHED_JOINT, "objective": MultiToken(prefixes=1)},
        {"accumulate": 1, "attention": CACHED_ALONE, "objective": NextTokenPrediction()},
    ],
)
def test_training_is_the_loop_written_by_hand(tmp_path, changes):
    config = replace(CONFIG, steps=5, save=5, validate=5, **changes)
    model = train(config, tmp_path)
    average, losses = by_hand(config)
    assert [m["loss"] for m in Run(tmp_path).metrics()] == pytest.approx(losses, abs=1e-5)
    for (name, a), b in zip(model.named_parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def in_the_optimizer(config: Train, folder: Path) -> list[tuple[float, float]]:
    """(learning rate, gradient norm) of every step as AdamW sees them."""
    seen = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        (group,) = optimizer.param_groups
        grads: list[Tensor] = [p.grad for p in group["params"] if p.grad is not None]
        seen.append((group["lr"], float(torch.stack([g.square().sum() for g in grads]).sum().sqrt())))

    handle = register_optimizer_step_pre_hook(look)
    try:
        train(config, folder)
    finally:
        handle.remove()
    return seen


def test_the_gradient_is_clipped(tmp_path):
    free = in_the_optimizer(replace(CONFIG, clip=1e9), tmp_path / "free")
    held = in_the_optimizer(replace(CONFIG, clip=0.05), tmp_path / "held")
    assert len(free) == len(held) == CONFIG.steps
    assert all(norm > 0.05 for _, norm in free)
    assert all(norm == pytest.approx(0.05, rel=1e-3) for _, norm in held)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"decay": "linear", "warmup": 0}, [0.8, 0.6, 0.4, 0.2]),
        ({"decay": "linear", "warmup": 2}, [0.4, 0.6, 0.4, 0.2]),
        ({"decay": "linear", "warmup": 4}, [0.2, 0.4, 0.4, 0.2]),
        ({"decay": "constant", "warmup": 0}, [0.8, 0.8, 0.8, 0.8]),
        ({"decay": "constant", "warmup": 3}, [0.8 / 3, 1.6 / 3, 0.8, 0.8]),
        ({"decay": "constant", "warmup": 8}, [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_the_learning_rate_is_the_schedule(tmp_path, changes, expected):
    config = replace(CONFIG, steps=4, save=4, validate=4, lr=0.8, **changes)
    assert [config.rate(step) for step in range(4)] == pytest.approx(expected)
    rates = [rate for rate, _ in in_the_optimizer(config, tmp_path)]
    assert rates == [m["lr"] for m in Run(tmp_path).metrics()] == pytest.approx(expected)


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.75, 0.999])
def test_the_average_moves_by_its_decay(decay):
    average, model = new_denoiser(CONFIG), new_denoiser(replace(CONFIG, seed=1))
    before = [p.clone() for p in average.parameters()]
    weights = [p.clone() for p in model.parameters()]
    update_average(average, model, decay)
    for a, old, new in zip(average.parameters(), before, weights, strict=True):
        torch.testing.assert_close(a, decay * old + (1 - decay) * new, rtol=0, atol=1e-7)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))


def test_training_learns(tmp_path):
    config = replace(CONFIG, steps=60, batch=64, accumulate=1, lr=1e-2, ema=0.9, save=60, validate=60, log=10)
    model, held_out = train(config, tmp_path), TASK.sample("validation", 10)
    metrics = Run(tmp_path).metrics()
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.1
    start, _ = validation_loss(config, new_denoiser(config), held_out)
    assert validation_loss(config, model, held_out)[0] < start - 0.1


# --- random numbers


def test_one_seed_one_run_another_seed_another(tmp_path):
    a = losses(stop_after(CONFIG, tmp_path / "a", 3))
    assert losses(stop_after(CONFIG, tmp_path / "b", 3)) == a
    c = losses(stop_after(replace(CONFIG, seed=1), tmp_path / "c", 3))
    assert all(x != y for x, y in zip(a, c, strict=True))


def test_the_seed_draws_the_weights():
    assert same_weights(new_denoiser(CONFIG), new_denoiser(CONFIG))
    assert not same_weights(new_denoiser(CONFIG), new_denoiser(replace(CONFIG, seed=1)))


def test_losses_do_not_depend_on_the_global_generator(tmp_path):
    torch.manual_seed(1)
    a = losses(stop_after(CONFIG, tmp_path / "a", 2))
    torch.manual_seed(2)
    assert losses(stop_after(CONFIG, tmp_path / "b", 2)) == a


def global_generators() -> list[Any]:
    numbers = np.random.get_state(legacy=False)
    assert isinstance(numbers, dict)
    return [
        torch.get_rng_state().tolist(),
        random.getstate(),
        numbers["state"]["key"].tolist(),
        numbers["state"]["pos"],
    ]


def test_training_leaves_the_global_generators_alone(tmp_path):
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    before = global_generators()
    assert len(list(training(CONFIG, tmp_path))) == CONFIG.steps
    assert global_generators() == before


@pytest.mark.parametrize("last", [7, 12])
def test_going_on_leaves_the_global_generators_alone(tmp_path, last):
    stop_after(CONFIG, tmp_path, 4 if last == 7 else 12)
    torch.manual_seed(8)
    random.seed(8)
    np.random.seed(8)
    before = global_generators()
    stop_after(CONFIG, tmp_path, last)
    assert global_generators() == before


def test_load_leaves_the_global_generators_alone(whole):
    before = global_generators()
    load(whole)
    assert global_generators() == before


def test_streams_of_different_keys_differ():
    keys = [(0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0), ("validation", 0), ("0", 1, 0, 0)]
    draws = {tuple(torch.rand(2, generator=seeded(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)
    assert torch.equal(torch.rand(9, generator=seeded(*keys[0])), torch.rand(9, generator=seeded(*keys[0])))


# --- what is reported


def test_an_update_a_step_and_reports_where_due(tmp_path):
    config = replace(CONFIG, log=4, save=6, validate=12)
    updates = list(training(config, tmp_path))
    assert [u.step for u in updates] == list(range(1, 13))
    assert [u.step for u in updates if u.loss is not None] == [4, 6, 8, 12]
    assert [u.step for u in updates if u.validation is not None] == [12]
    assert [(m["step"], m["loss"]) for m in Run(tmp_path).metrics()] == [
        (u.step, u.loss) for u in updates if u.loss is not None
    ]


def test_a_report_is_the_mean_since_the_last(tmp_path):
    config = replace(CONFIG, steps=4, save=4, validate=4)
    each = losses(list(training(config, tmp_path / "each")))
    (mean,) = [u.loss for u in training(replace(config, log=4), tmp_path / "mean") if u.loss]
    assert mean == pytest.approx(sum(x for x in each if x is not None) / 4, rel=1e-6)


def test_every_validation_is_logged(tmp_path):
    config = replace(CONFIG, log=10, save=12, validate=4)
    updates = list(training(config, tmp_path))
    logged = {m["step"]: m["validation"] for m in Run(tmp_path).metrics() if "validation" in m}
    assert logged == {u.step: u.validation for u in updates if u.validation is not None}
    assert list(logged) == [4, 8, 12] and [m["step"] for m in Run(tmp_path).metrics()] == [4, 8, 10, 12]


def test_validation_is_the_averaged_models_on_fixed_noise(whole):
    held_out = TASK.sample("validation", 10)
    first = validation_loss(CONFIG, load(whole), held_out)
    assert first == validation_loss(CONFIG, load(whole), held_out)
    assert first[0] == Run(whole).metrics()[-1]["validation"]


@pytest.mark.parametrize("objective", [MultiToken(), MultiToken(window=2), Teacherless()], ids=str)
def test_slots_are_what_is_foreseen_when_only_the_prompt_is_said(objective):
    """Of path-star's nodes, the j-th ahead: its loss in a pass of the prompt and the masks of the block."""
    config = replace(STAR, objective=objective)
    model, held_out = new_denoiser(config), PATHS.sample("validation", 10)
    _, slots = validation_loss(config, model, held_out)
    block = 2 if objective == Teacherless() or not objective.window else objective.window
    unsaid = ~held_out.given & (torch.arange(PATHS.length) < PATHS.edges + 2 + block)
    layout = one_block(held_out.prompt(PATHS.mask_id), unsaid, torch.zeros_like(held_out.x0))
    seen = layout.select_where(held_out.given | unsaid)
    assert slots == pytest.approx(
        token_losses(model, seen, held_out.x0)[unsaid].view(10, -1).mean(0).tolist(), abs=1e-5
    )


def test_slots_are_logged_with_the_validation_where_there_are_any(tmp_path):
    train(replace(STAR, steps=4, validate=2, save=4), tmp_path / "blocks")
    logged = {m["step"]: m.get("slots") for m in Run(tmp_path / "blocks").metrics()}
    assert [step for step, slots in logged.items() if slots] == [2, 4]
    assert all(len(slots) == 2 for slots in logged.values() if slots) and logged[2] != logged[4]
    train(replace(CONFIG, steps=2), tmp_path / "masked")  # no pass of it has the prompt alone for sure
    assert not any("slots" in m for m in Run(tmp_path / "masked").metrics())


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    config = replace(CONFIG, lr=1e30, warmup=0)
    with pytest.raises(FloatingPointError, match=r"at step \d+: lower lr"):
        train(config, tmp_path)
    assert all(np.isfinite(m["loss"]) for m in Run(tmp_path).metrics())


# --- what is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch", 0),
        ("accumulate", 0),
        ("accumulate", 3),
        ("validate", 0),
        ("save", 0),
        ("log", 0),
        ("keep", 0),
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("clip", 0.0),
        ("clip", float("nan")),
        ("ema", 1.0),
        ("ema", -0.1),
        ("warmup", -1),
        ("weight_decay", -0.1),
        ("decay", "cosine"),
        ("precision", "float16"),
        ("seed", 2**70),
    ],
)
def test_a_field_out_of_range_is_refused_and_named(field, value):
    with pytest.raises(ValueError, match=field):
        replace(CONFIG, **{field: value})


@pytest.mark.parametrize("objective", [NextTokenPrediction(), MultiToken(), MuToR(), BlockDiffusion()], ids=str)
@pytest.mark.parametrize("rule", ["mdm", "scdm", "sidm"])
def test_an_objective_whose_context_would_tell_is_refused_and_the_way_out_named(objective, rule):
    attention = ATTENTIONS[rule]
    with pytest.raises(ValueError, match=rf"with attention {rule}: .*cached-joint, cached-alone or any-order"):
        replace(CONFIG, attention=attention, objective=objective)
    for fine in (MaskedDiffusion(), MultiToken(prefixes=1), Teacherless()):
        if rule != "scdm" or fine != Teacherless():  # whose candidates, all said at once, would see each other in order
            replace(CONFIG, attention=attention, objective=fine)


@pytest.mark.parametrize("bad", [{"layers": 0}, {"heads": 0}, {"width": 0}, {"width": 18}, {"heads": 3}])
def test_an_impossible_trunk_is_refused(bad):
    with pytest.raises(ValueError, match="a trunk of"):
        replace(CONFIG.trunk, **bad)


def test_a_folder_of_another_run_is_refused_before_it_is_touched(whole):
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"differs in lr, task\.seed"):
        next(training(replace(CONFIG, lr=1.0, task=replace(TASK, seed=3)), whole))
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before


def test_a_checkpoint_of_another_vocabulary_is_refused_before_any_work(whole, tmp_path):
    checkpoint = str(Run(whole).checkpoints()[-1][1] / "denoiser")
    wider = Train(Sudoku(2, 3, givens=18, train=20, validation=2, test=2), trunk=Trunk(checkpoint=checkpoint))
    with pytest.raises(ValueError, match=r"mask_id=6|another vocabulary"):
        next(training(wider, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    model = load(whole)
    check_vocabulary(model, TASK)
    with pytest.raises(ValueError, match="5 token ids with the mask at 4"):
        check_vocabulary(model, wider.task)


def test_a_checkpoint_of_a_larger_vocabulary_is_refused_too(tmp_path):
    """Its mask is another token: a 6x6 model's mask is no digit of 4x4, and its digit 5 is no mask."""
    wider = replace(CONFIG, task=Sudoku(2, 3, givens=18, train=20, validation=2, test=2), steps=1)
    train(wider, tmp_path / "wide")
    with pytest.raises(ValueError, match="7 token ids with the mask at 6"):
        next(training(replace(CONFIG, trunk=Trunk(checkpoint=str(tmp_path / "wide"))), tmp_path / "run"))


def test_without_validation_puzzles_training_goes_on_without_validating(tmp_path):
    config = replace(CONFIG, task=replace(TASK, validation=0), steps=2)
    assert [u.validation for u in training(config, tmp_path)] == [None, None]


def test_a_trunk_with_dropout_trains_reproducibly(tmp_path):
    """Dropout draws from the global generator, which each step seeds: twice the same, and a resumed run as well."""
    start = Denoiser.from_config(
        GPT2Config(vocab_size=5, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0),
        attention=CONFIG.attention,
        mask_id=4,
    )
    start.save_pretrained(tmp_path / "gpt2")
    config = replace(CONFIG, trunk=Trunk(checkpoint=str(tmp_path / "gpt2")), steps=4, save=2)
    whole = [u.loss for u in training(config, tmp_path / "a")]
    first = [u.loss for u in islice(training(config, tmp_path / "b"), 3)]
    assert first[:2] + [u.loss for u in training(config, tmp_path / "b")] == whole


def test_a_checkpoint_is_gone_on_from_with_another_rule(whole, tmp_path):
    checkpoint = str(Run(whole).checkpoints()[-1][1] / "denoiser")
    config = replace(CONFIG, attention=SIDM, trunk=Trunk(checkpoint=checkpoint))
    start = new_denoiser(config)
    assert same_weights(start, load(whole)) and start.attention == SIDM
    stop_after(config, tmp_path / "run", 3)
    tuned = load(tmp_path / "run")
    assert tuned.attention == SIDM and not same_weights(tuned, start)


def test_load_says_what_is_missing(whole, tmp_path):
    with pytest.raises(ValueError, match="there is no"):
        load(tmp_path / "nowhere")
    stop_after(CONFIG, tmp_path / "young", 2)
    with pytest.raises(ValueError, match="no complete checkpoint yet"):
        load(tmp_path / "young")
    assert same_weights(load(whole), load(Run(whole).checkpoints()[-1][1] / "denoiser"))
