"""What the laws of generated tasks share: examples drawn, splits, files, and a judge beside another."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unspoken.tasks.generated import Generated
from unspoken.tasks.splits import SPLITS


def drawn(task: Generated, n: int, seed: int = 0) -> Tensor:
    """`[n, length]`: examples of any split."""
    return torch.from_numpy(task.draw(n, np.random.default_rng(seed)).astype(np.int64))


def check_judge(task: Generated, x0: Tensor, spoilt: Tensor, oracle: Callable[[Tensor], bool]) -> None:
    """The judge says what the oracle says of right answers and of spoilt ones, some of which are right all the same."""
    for rows in (x0, spoilt):
        said = task.score(task.examples(x0).prompt(task.mask_id), rows).tolist()
        assert said == [oracle(row) for row in rows]
        assert all(said) if rows is x0 else 0 < sum(said) < len(x0)


def check_splits(task: Generated) -> None:
    """They are full, and hold no question of another under any symmetry; validation and test none twice."""
    codes = [task.canonical(task.sample(s, task.size(s)).x0.numpy().astype(np.int16)).tolist() for s in SPLITS]
    train, validation, test = map(set, codes)
    assert not train & validation and not train & test and not validation & test
    assert len(validation) == task.validation and len(test) == task.test


def check_files(
    folder: Path, task: Generated, question: str, answer: str, shown: str, wrong: Iterable[tuple[str, str]]
) -> None:
    """A right example is read from .txt and .jsonl, empty lines left out; each wrong line is named with its file.

    wrong: the name of a file, and the line that stands second in it.
    """
    lines = {".txt": f"{question}={answer}", ".jsonl": json.dumps({"input": question, "output": answer})}
    for name, bad in wrong:
        path = folder / name
        right = lines[path.suffix]
        path.write_text(f"{right}\n\n{right}\n")
        assert [task.show(row) for row in task.read(path).x0] == [shown] * 2
        path.write_text(f"{right}\n{bad}\n")
        with pytest.raises(ValueError, match=f"{name}, line 2: "):
            task.read(path)
        path.write_text(f"{right}\n{'[' * 100_000}\n")
        with pytest.raises(ValueError, match=f"{name}, line 2: "):
            task.read(path)
        path.write_text("\n\n")
        with pytest.raises(ValueError, match="no example in it"):
            task.read(path)
