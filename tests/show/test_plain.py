"""What a user wrote, or what a path is called, is printed as it is: never read as rich's markup."""

import ast
from pathlib import Path

import pytest

from unspoken import cli
from unspoken.show import terminal
from unspoken.tasks import Text
from unspoken.training.config import Train, Trunk
from unspoken.training.loop import train

PACKAGE = Path(terminal.__file__).parents[1]
STRANGE = ["see [/b] ok", "[red]red", "moved [x] dir", "[link=a]b[/link]", r"a \[b] c"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "moved [x] dir [" / "run"
    trunk = Trunk(layers=1, width=16, heads=2)
    train(Train(Text(length=24), trunk=trunk, steps=1, batch=2, warmup=0), folder)
    return folder


@pytest.mark.parametrize("text", STRANGE[:4])
def test_text_is_printed_letter_by_letter(run, text, capsys):
    assert cli.main(["solve", str(run), "--puzzle", text]) == 0
    printed = capsys.readouterr().out
    assert f"puzzle  {text}" in printed


def test_the_name_of_a_folder_is_printed_whole(run, capsys):
    assert cli.main(["show", str(run)]) == 0
    assert str(run) in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("text", STRANGE)
def test_tables_bars_and_errors_print_text_as_it_is(text, capsys):
    terminal.plain_console().print(text)
    with terminal.progress(terminal.plain_console()) as bar:
        bar.add_task(text)
        terminal.plain_console().print(bar.make_tasks_table(bar.tasks).columns[0]._cells[0])
    assert cli.main(["show", text]) == 2
    out, err = capsys.readouterr()
    assert out.count(text) == 2 and text in err


def test_no_console_and_no_column_reads_markup():
    """Every `Console` and `TextColumn` of the package says markup=False; nothing else turns markup on."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            said = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            reads = said.get("markup", name in ("Console", "TextColumn"))
            if reads or name == "from_markup":
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
