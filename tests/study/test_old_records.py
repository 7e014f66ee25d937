"""Records of studies that older versions wrote are today's presets, under the names of today."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from unspoken import presets
from unspoken.cli import main
from unspoken.presets.tasks import FAMILY
from unspoken.record import RENAMED, from_record, to_record
from unspoken.study.ar_latents import ArLatentsStudy
from unspoken.study.decode import DecodeStudy
from unspoken.study.report import read_result
from unspoken.study.steps import StepsStudy
from unspoken.training.config import Train

TESTS = Path(__file__).parents[1]
RECORDS: dict[str, Any] = json.loads((TESTS / "golden" / "old" / "records.json").read_text())
PRESETS: dict[str, Mapping[str, Callable[[], Any]]] = {
    "LATENTS": presets.LATENTS,
    "AR_LATENTS": presets.AR_LATENTS,
    "GIDD": presets.GIDD,
    "FORCING": presets.FORCING,
}
STUDIES = [name for name in RECORDS if " " in name and not name.startswith("DECODE ")]


def test_every_preset_has_an_old_record() -> None:
    assert sorted(STUDIES) == sorted(f"{kind} {name}" for kind, its in PRESETS.items() for name in its)


@pytest.mark.parametrize("name", STUDIES)
def test_an_old_record_is_todays_preset(name: str) -> None:
    kind, preset = name.split(" ")
    today = PRESETS[kind][preset]()
    assert RENAMED[RECORDS[name]["type"]] == type(today).__name__
    assert from_record(type(today), RECORDS[name]) == today
    assert from_record(type(today), to_record(today)) == today


@pytest.mark.parametrize("name", ["DECODE reference", "DECODE quick"])
def test_a_record_of_what_is_no_study_any_more_is_refused(name: str) -> None:
    """`study decode` trained other models, and read the clock at another shape."""
    with pytest.raises(ValueError, match="clock"):
        from_record(DecodeStudy, RECORDS[name])


@pytest.mark.parametrize(
    ("study", "kind"),
    [("tasks", type(FAMILY["cpu"]())), ("steps", StepsStudy), ("ar-latents", ArLatentsStudy)],
)
def test_the_config_of_a_committed_study_reads(study: str, kind: type) -> None:
    config = read_result(TESTS.parent / "docs" / "results" / study / "study.json").config
    assert RENAMED.get(config["type"], config["type"]) == kind.__name__
    assert type(from_record(kind, config)) is kind


def test_a_new_name_is_no_choice_of_another_kind() -> None:
    """An old tag is looked up only where it is none of today's, and only among what is asked for."""
    with pytest.raises(ValueError, match="the record is a 'Latents'; expected one of Train"):
        from_record(Train, RECORDS["LATENTS quick"])


STUDY_FILE = Path(__file__).parents[2] / "docs" / "results" / "latents" / "study.json"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("study", 7),
        ("config", []),
        ("rows", {}),
        ("rows", [7]),
        ("rows", [{}, 7]),
        ("claims", [{}]),
        ("claims", [{"name": "x", "holds": 1, "evidence": ""}]),
        ("notes", [7]),
        ("environment", "here"),
    ],
    ids=str,
)
def test_a_result_of_another_shape_is_refused_with_its_file_and_place(name, value, tmp_path):
    file = tmp_path / "study.json"
    file.write_text(json.dumps(json.loads(STUDY_FILE.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))}, {name}"):
        read_result(file)


def test_cells_of_another_type_and_an_empty_environment_end_in_no_traceback(tmp_path, capsys):
    record = json.loads(STUDY_FILE.read_text())
    file = tmp_path / "study.json"
    file.write_text(json.dumps(record | {"environment": {}}))
    assert main(["show", str(file)]) == 0
    record["rows"][3]["passes"] = [1]
    file.write_text(json.dumps(record))
    assert main(["show", str(file)]) == 2
    assert "a row holds a value of another type" in capsys.readouterr().err
