"""Who installs no extra has a whole library: numba, pysat and matplotlib are asked for where they are used, by name."""

import os
import subprocess
import sys
from pathlib import Path

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "pysat", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import torch
import unspoken as us
from unspoken.tasks import Sudoku, SudokuGrids, Zebra

def says(extra, call):
    try:
        call()
    except ValueError as error:
        assert f'pip install "unspoken[{extra}]"' in str(error), error
    else:
        raise AssertionError("no error")
"""

DECODES = """
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=None
)
model = us.Denoiser(LlamaForCausalLM(config), us.CACHED_JOINT, mask_id=7).eval()
prompt = torch.tensor([[1, 2, 3, 7, 7, 7]])
*_, last = us.decode(model, prompt, latents=2)
assert (last.tokens[:, :3] == prompt[:, :3]).all()
assert len(list(us.decode(model, prompt, latents=0, candidates=1))) == 3
"""

TEXT = """
task = Sudoku(box_rows=2, box_cols=2)
answer = task.encode("1234341221434321", unique=False)
assert task.score(torch.full((1, 16), 4), answer[None]).all()
assert not task.score(torch.full((1, 16), 4), answer.roll(1)[None]).any()
assert task.show(answer) == "1234341221434321"
grids = SudokuGrids(box_rows=2, box_cols=2)
assert grids.score(torch.full((1, 16), 4), answer[None]).all()
assert us.tasks.Chain().sample("test", 5).x0.shape == (5, 24)
assert len(us.tasks.Sat(train=20, validation=2, test=2).sample("test", 2)) == 2
"""

ASKS = """
import tempfile
from pathlib import Path

from unspoken.show import figure

says("puzzles", lambda: Sudoku(train=9).sample("train", 9))
says("puzzles", lambda: Sudoku().encode("." * 36))
says("puzzles", lambda: SudokuGrids().sample("test", 1))
says("puzzles", lambda: Zebra(houses=3, attributes=3).sample("test", 1))
says("pictures", lambda: figure.trade_off([], Path("never.png")))
"""


def test_without_extras(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE + DECODES + TEXT + ASKS],
        env={**os.environ, "UNSPOKEN_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_import_takes_none_of_what_is_slow() -> None:
    slow = ("numba", "pysat", "matplotlib", "scipy.stats", "scipy.optimize", "scipy.special", "rich.progress")
    code = f"import sys, unspoken; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
