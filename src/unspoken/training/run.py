"""Run folders: `config.json`, `environment.json`, `metrics.jsonl`, `checkpoints/step-000500/`.

While a run is trained, `.lock` is held, and `.holder` says by whom.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from warnings import warn

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from unspoken.messages import first_line, quoted
from unspoken.record import as_json, environment, from_record, read_json, to_record, write_json, write_text

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path

    def exists(self) -> bool:
        """Whether the folder is a run's, be it one that lost files. A Hugging Face folder has a config.json as well."""
        if self.checkpoints() or (self.folder / "environment.json").exists():
            return True
        path = self.folder / "config.json"
        return path.exists() and "type" in read_json(path) and "model_type" not in read_json(path)

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line, appended as training goes."""
        return self.folder / "metrics.jsonl"

    def checkpoint_at(self, step: int) -> Path:
        """Where the checkpoint of that step is, or would be."""
        return self.folder / "checkpoints" / f"step-{step:07d}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Complete checkpoints, (step, folder), oldest first."""
        found = [p for p in (self.folder / "checkpoints").glob("step-*") if p.name.removeprefix("step-").isdecimal()]
        return sorted((int(p.name.removeprefix("step-")), p) for p in found if p.is_dir())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, nobody else trains in this folder; the lock goes with its process, even by kill -9.

        Raises ValueError, which names the process, where another holds it.
        """
        holder = self.folder / ".holder"
        lock = FileLock(self.folder / ".lock", timeout=0, thread_local=False)
        with self.writing("the lock"):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                text = f"{self.folder} is being trained by {_named(holder)}; wait for it, or stop it"
                raise ValueError(text) from None
        try:
            with self.writing("the lock"):
                write_text(holder, f"process {os.getpid()} on {platform.node()}")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Around a write, whose writers raise what they please on a full disk: OSError, with what stands."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            saved = self.checkpoints()
            stands = f"{saved[-1][1]} stands, and the same command goes on from it" if saved else "none is saved yet"
            raise OSError(f"{what} could not be written in {self.folder} ({first_line(error)}); {stands}") from error

    def start(self, config: Any) -> None:
        """Records config and environment, or checks that the folder's run is of this very config, as `check` does."""
        self.check(config)
        path, record = self.folder / "config.json", to_record(config)
        if not path.exists():
            with self.writing("config.json and environment.json"):
                write_json(self.folder / "environment.json", environment())
                write_json(path, record)

    def check(self, config: Any) -> None:
        """Raises ValueError where the folder holds a run of another config, or of an unknown one. Writes nothing."""
        path, record = self.folder / "config.json", to_record(config)
        if not path.exists():
            if saved := self.checkpoints():
                raise ValueError(
                    f"{path} is missing, and {saved[-1][1]} may be of another configuration: put config.json back, or "
                    "give another folder"
                )
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        if text == as_json(record):  # also where it holds classes of one's own, which are not read back
            return
        if (old := self.config(type(config))) != config:
            differ = ", ".join(_differences(to_record(old), record))
            raise ValueError(
                f"{self.folder} holds a run of another configuration (it differs in {differ}); "
                "give another folder, or remove this one"
            )

    def config(self, hint: type[T]) -> T:
        """The recorded config. Raises ValueError where there is none."""
        path = self.folder / "config.json"
        if not path.exists():
            raise ValueError(f"{self.folder} is no run folder: it has no config.json (train one: unspoken train)")
        return from_record(hint, read_json(path), at=str(path))

    def environment(self) -> dict[str, str]:
        """Where and when the run was started, as far as environment.json says so. ValueError where it is no record."""
        path = self.folder / "environment.json"
        record = read_json(path) if path.exists() else {}
        return {
            name: from_record(str, record[name], f"{path}, {name}") for name in ("date", "machine") if name in record
        }

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line cut short by a kill is left out.

        Raises ValueError, with the line's number, where one is not as training writes it.
        """
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_bytes().split(b"\n")[:-1]
        return [_metrics(line, f"{self.metrics_file}, line {n}") for n, line in enumerate(lines, start=1)]

    def cut_metrics(self, step: int, expected: Sequence[int] = ()) -> None:
        """Forgets what was logged past `step`: it will be logged again. Of lines of one step it keeps the last.

        expected: the steps up to it that were logged; warns where some of them are missing, or are there twice.
        """
        metrics = [m for m in self.metrics() if m["step"] <= step]
        logged = {m["step"] for m in metrics}
        missing, more = len(set(expected) - logged), len(metrics) - len(logged)
        if expected and (missing or more):
            warn(
                f"{self.metrics_file} is not as training wrote it: of {len(expected)} lines up to step {step}, "
                f"{missing} are missing and {more} are there twice; the weights are not touched by that",
                stacklevel=2,
            )
        kept = "".join(json.dumps(m) + "\n" for m in {m["step"]: m for m in metrics}.values())
        if not self.metrics_file.exists() or self.metrics_file.read_text() != kept:
            write_text(self.metrics_file, kept)

    def log(self, **values: Any) -> None:
        """Appends a line to metrics.jsonl."""
        with self.writing(f"the log of step {values.get('step')}"), self.metrics_file.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def prune(self, keep: int) -> None:
        """Removes all but the newest `keep` checkpoints, and halves that a kill left."""
        for _, folder in self.checkpoints()[:-keep]:
            # Renamed first: a folder that is being removed must not look like a checkpoint.
            shutil.rmtree(folder.rename(folder.with_name(f".half-{folder.name}")))
        for half in (self.folder / "checkpoints").glob(".half-*"):
            shutil.rmtree(half, ignore_errors=True)


def _named(holder: Path) -> str:
    """Who holds a lock, as it wrote itself; it may be about to."""
    try:
        return holder.read_text(encoding="utf-8")
    except OSError:
        return "another process"


def _metrics(line: bytes, at: str) -> dict[str, Any]:
    """What a line of metrics.jsonl holds. at: where it is, for messages."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{at} is not to be read as JSON ({error}); remove this line to go on without it") from error
    if not isinstance(values, dict) or not values.keys() >= {"step", "loss"}:
        raise ValueError(f"{at} is {quoted(values)}; expected an object with step and loss, as training writes it")
    kinds = {"step": int, "slots": tuple[float, ...]}
    read = {name: from_record(kinds.get(name, float), value, f"{at}, {name}") for name, value in values.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in read.items()}


def _differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Dotted names of the fields in which two records differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [d for n in names for d in _differences(old.get(n), new.get(n), f"{at}.{n}" if at else n)]
    return [] if old == new else [at]
