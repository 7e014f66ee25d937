"""Mutants: small wrong changes of the code, and whether the tests notice. Run it after a change of the tests.

    python tools/mutants.py            # all of them
    python tools/mutants.py layout     # those whose file's path holds the word

Each is made in a copy of the working tree in a temporary folder; its tests run until the first that fails. Exits with 1
where one survives, or where a change no longer applies. A mutant's tests should fail in seconds: name the file and the
words for pytest's -k.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A file below src/unspoken, what stands there once, what is put in its place, and pytest's arguments."""

    file: str
    old: str
    new: str
    tests: str


MUTANTS = [
    # attention
    Mutant(
        "layout/attention.py", "reach = k.order < q.horizon", "reach = k.order <= q.horizon", "tests/test_attention.py"
    ),
    Mutant(
        "layout/attention.py",
        "(k.order < q.order) | itself",
        "(k.order <= q.order) | itself",
        "tests/test_attention.py",
    ),
    Mutant("layout/attention.py", "(k.order < q.order) | itself", "k.order < q.order", "tests/test_attention.py"),
    Mutant(
        "layout/attention.py",
        "~q_said & (q.block == k.block)",
        "~q_said",
        "tests/test_attention.py tests/test_packing.py",
    ),
    Mutant("layout/attention.py", "(q.document == k.document) & ", "", "tests/test_attention.py tests/test_packing.py"),
    Mutant("layout/attention.py", "reach = reach | q_said", "reach = reach | ~q_said", "tests/test_attention.py"),
    # layout and packing
    Mutant(
        "layout/entries.py",
        "torch.where(unsaid, FOREVER, order + 1)",
        "torch.where(unsaid, FOREVER, order)",
        "tests/test_attention.py tests/test_decode.py",
    ),
    Mutant(
        "layout/entries.py",
        "1 + draw_ranks(~unsaid & ~given, generator)",
        "draw_ranks(~unsaid & ~given, generator)",
        "tests/test_packing.py",
    ),
    Mutant(
        "layout/entries.py",
        "descending=True, stable=True",
        "descending=True",
        "tests/test_packing.py tests/test_passes.py",
    ),
    Mutant("layout/packing.py", "(slot.flatten(1) - 1) % seq", "slot.flatten(1) % seq", "tests/test_packing.py"),
    Mutant("layout/packing.py", "(layout.order + 1) % seq", "layout.order % seq", "tests/test_packing.py"),
    Mutant(
        "layout/packing.py", "horizon=(start[:, :, None] + 1)", "horizon=(start[:, :, None])", "tests/test_packing.py"
    ),
    Mutant(
        "layout/packing.py",
        "seen = context.order < horizon",
        "seen = context.order <= horizon",
        "tests/test_packing.py",
    ),
    Mutant(
        "layout/packing.py", "layout.order < clean.free) &", "layout.order <= clean.free) &", "tests/test_packing.py"
    ),
    Mutant("layout/packing.py", "q.scaled(1 - share)", "q.scaled(share)", "tests/test_packing.py"),
    # the decoders' passes
    Mutant(
        "decoders/passes.py",
        "state.count + torch.arange(1, k + 1",
        "state.count + torch.arange(0, k",
        "tests/test_decoders.py tests/test_passes.py",
    ),
    Mutant(
        "decoders/passes.py",
        "among.flip(0) if rules.latent_policy.inward",
        "among if rules.latent_policy.inward",
        "tests/test_passes.py -k matters_most",
    ),
    Mutant(
        "decoders/passes.py",
        "amax(1) >= rules.slots.min_confidence",
        "amax(1) > rules.slots.min_confidence + 0.05",
        "tests/test_passes.py",
    ),
    Mutant(
        "decoders/commit.py",
        "spent[:, :-1] <= self.entropy_bound",
        "spent[:, 1:] <= self.entropy_bound",
        "tests/test_passes.py -k longest_prefix",
    ),
    Mutant(
        "decoders/commit.py",
        "logp.amax(-1).exp() >= self.threshold",
        "logp.amax(-1).exp() > self.threshold + 0.01",
        "tests/test_passes.py -k longest_prefix",
    ),
    Mutant("decoders/rules.py", "min(max(1, 2 * self.latents)", "min(max(1, 3 * self.latents)", "tests/test_passes.py"),
    Mutant(
        "decoders/slots.py",
        "return needs <= width[int(apart.argmin())]",
        "return needs < width[int(apart.argmin())]",
        "tests/test_passes.py",
    ),
    Mutant(
        "decoders/policies.py", "return first - second", "return first", "tests/test_decode.py tests/test_decoders.py"
    ),
    Mutant(
        "decoders/policies.py",
        "(position - around.candidates[..., None]).abs()",
        "(position - around.candidates[..., None])",
        "tests/test_passes.py -k policy_picks",
    ),
    Mutant("decoders/autoregressive.py", "(ahead < drafted)", "(ahead <= drafted)", "tests/test_autoregressive.py"),
    Mutant(
        "decoders/blocks.py",
        "rank_of(-probability, real) < commit",
        "rank_of(probability, real) < commit",
        "tests/test_autoregressive.py tests/test_decoders.py",
    ),
    Mutant(
        "decoders/correct.py",
        "torch.where(sure > best, 0, idle + 1)",
        "torch.where(sure >= best, 0, idle + 1)",
        "tests/test_walk.py -k thoughts",
    ),
    Mutant("decoders/walk.py", "(alpha_s - (1 - again) * alpha_t)", "(alpha_s - alpha_t)", "tests/test_walk.py"),
    # measures, and the tasks' judges
    Mutant("measure/likelihood.py", "rank <= n)", "rank < n)", "tests/test_likelihood.py"),
    Mutant("measure/likelihood.py", "x0, latents) * free[:, None]", "x0, latents)", "tests/test_likelihood.py"),
    Mutant(
        "measure/bound.py", "speed * slope * (late - early)", "speed * slope", "tests/test_bound.py tests/test_times.py"
    ),
    Mutant("measure/profile.py", "turn < said + size", "turn <= said + size", "tests/test_profile.py"),
    Mutant("measure/profile.py", "beside + size - 1", "beside + size", "tests/test_sampler_profile.py"),
    Mutant("measure/pseudo_cost.py", "own + turn - now <=", "own + turn - now <", "tests/test_pseudo_cost.py"),
    Mutant("measure/pseudo_cost.py", "count + 1 + its.own", "count + its.own", "tests/test_pseudo_cost.py"),
    Mutant("measure/profile.py", "(max(sizes) - 1) / self.length", "max(sizes) / self.length", "tests/test_profile.py"),
    Mutant(
        "measure/accuracy.py",
        "latents=latents / max(passes, 1)",
        "latents=latents / n",
        "tests/test_accuracy.py",
    ),
    Mutant(
        "measure/accuracy.py",
        "len(seeds[0].right) / right.shape[1]",
        "1 / len(parts)",
        "tests/test_accuracy.py",
    ),
    Mutant(
        "measure/costs.py",
        "entries * (cached + entries)",
        "entries * entries",
        "tests/test_accuracy.py",
    ),
    Mutant("measure/relation.py", "seen += both.sum(0)", "seen += len(both)", "tests/test_relation.py"),
    Mutant(
        "tasks/chain.py", "~self.illegal(tokens).any(1)", "~self.illegal(tokens).all(1)", "tests/tasks/test_chain.py"
    ),
    Mutant("tasks/pathstar.py", "& (path[:, -1] == tokens[:, self.edges + 1])", "", "tests/tasks/test_pathstar.py"),
    Mutant("tasks/paths.py", " and len(path) - 1 == _steps(edges, start, goal)", "", "tests/tasks/test_paths.py"),
    Mutant("tasks/sat.py", "range(0, len(clauses), 3)", "range(3, len(clauses), 3)", "tests/tasks/test_sat.py"),
    Mutant(
        "tasks/colouring.py",
        "min(colours) < len(pairs)",
        "min(colours) < len(pairs) - 1",
        "tests/tasks/test_colouring.py",
    ),
    Mutant(
        "tasks/sampled.py",
        "right = (kept & said).all(1)",
        "right = said.all(1)",
        "tests/tasks/test_colouring.py tests/tasks/test_sat.py tests/tasks/test_paths.py",
    ),
]
LIMIT = 120  # seconds a mutant; a test that takes longer has noticed nothing


def survives(mutant: Mutant) -> str:
    """What became of it: "killed", "SURVIVED", or "stale" where the change does not apply."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "src", Path(folder) / "src", ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder) / "src" / "unspoken" / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            return "stale"
        path.write_text(text.replace(mutant.old, mutant.new))
        tests = [sys.executable, "-m", "pytest", "-n", "0", "-xq", "-p", "no:cacheprovider", *mutant.tests.split()]
        environment = os.environ | {"PYTHONPATH": str(Path(folder) / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            code = subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, timeout=LIMIT).returncode
        except subprocess.TimeoutExpired:
            return "SURVIVED"
        return {0: "SURVIVED", 1: "killed"}.get(code, "stale")


def main(words: list[str]) -> int:
    """Runs those that were asked for, and tells of each."""
    found = []
    for mutant in MUTANTS:
        if not words or any(word in mutant.file for word in words):
            found.append(survives(mutant))
            print(f"{found[-1]:9}{mutant.file}: {mutant.old!r} -> {mutant.new!r}", flush=True)
    print(f"{found.count('killed')} of {len(found)} killed")
    return int(not found or found.count("killed") < len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
