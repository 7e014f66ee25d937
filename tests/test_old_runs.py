"""Run folders and records written before the house was rebuilt: they load, and decode as they were trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import unspoken as us
from unspoken.decoders.decode import decoder_of
from unspoken.presets.tasks import TRAIN
from unspoken.record import from_record, to_record
from unspoken.training.run import Run

OLD = Path(__file__).parent / "golden" / "old"
EVERY: dict[str, Any] = json.loads((OLD / "records.json").read_text())
RECORDS = {name: record for name, record in EVERY.items() if record["type"] == "Train"}  # studies: see their own tests
FOLDERS: dict[str, us.Decoder] = {
    "masked": us.Slots(),
    "latent-blocks": us.Slots(latents=2, order="left_to_right", latent_policy="next"),
    "next-token": us.NextToken(),
    "registers": us.NextToken(),
    "blocks": us.Blocks(size=4),
    "diffused": us.Walk(us.Hybrid()),
}


def test_every_folder_is_here() -> None:
    assert {path.name for path in OLD.iterdir() if path.is_dir()} == set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_an_old_run_loads_and_decodes_as_it_was_trained(name: str) -> None:
    """Its weights hold no decoder: its config says which; and what is saved anew holds it."""
    model, decoder = us.load(OLD / name, device="cpu"), FOLDERS[name]
    assert decoder_of(model) == decoder
    task = Run(OLD / name).config(us.Train).task
    prompt = task.sample("test", 2).prompt(task.mask_id)
    steps = list(us.decode(model, prompt, generator=torch.Generator().manual_seed(0)))
    expected = list(decoder.steps(model, prompt, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(steps[-1].tokens, expected[-1].tokens) and (steps[-1].tokens != task.mask_id).all()
    assert [step.entries for step in steps] == [step.entries for step in expected]


def test_an_old_checkpoint_by_itself_knows_no_decoder(tmp_path: Path) -> None:
    """Its run's folder does; saved from there, the weights know it too."""
    (folder,) = (OLD / "next-token" / "checkpoints").glob("*/denoiser")
    assert us.load(folder, device="cpu").decoder is None
    us.load(OLD / "next-token", device="cpu").save_pretrained(tmp_path)
    assert decoder_of(us.load(tmp_path, device="cpu")) == us.NextToken()


# Of `study tasks`, whose tasks have other budgets and some other sizes since.
OTHER_BUDGETS = ("path-star", "paths", "countdown-3", "zebra-3x3", "sat-5", "colouring", "sudoku-grids", "text")


@pytest.mark.parametrize("name", RECORDS)
def test_an_old_record_is_todays_preset(name: str) -> None:
    """It reads, is written by the names of today, and reads again."""
    found, today = from_record(us.Train, RECORDS[name]), TRAIN[name]()
    assert from_record(us.Train, to_record(found)) == found
    assert found == today or (name in OTHER_BUDGETS and type(found.task) is type(today.task))
