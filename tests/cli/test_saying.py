"""How a command asks."""

import click
import pytest
from click.testing import CliRunner

from refresher.cli import exporting, refreshing
from refresher.cli.saying import ask_whether

COLUMNS = 80


@pytest.mark.parametrize("question", [exporting.COST, refreshing.COST, "forget a\x1bb for good?"])
def test_a_question_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    done = CliRunner().invoke(click.command()(lambda: ask_whether(question)), input="n\n")
    asked = done.stderr.partition(" [y/N]: ")[0]
    assert " ".join(asked.split()) == question.replace("\x1b", "\\x1b")
    assert max(map(len, done.stderr.splitlines())) <= COLUMNS
    assert done.exit_code == 1
