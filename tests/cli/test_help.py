"""The help: every command in one section, whole at 80 columns."""

import io
from collections.abc import Iterator

import click
import pytest

from refresher.cli.entry import SECTIONS, cli
from refresher.cli.listing import ListedCommands
from tests.pages.reading import COMMANDS

COLUMNS = 80
WANTED = {
    "Start": "demo init check discover register notify providers sandbox",
    "Run": "run health",
    "Look": "status audit",
    "Accounts": "login import export token set-token refresh pause resume revoke remove",
    "Keep": "kept vault",
}


def shown(path: str) -> str:
    """The help of the command PATH on a terminal of 80 columns."""
    command: click.Command = cli
    context = click.Context(cli, info_name="refresher", terminal_width=COLUMNS)
    for name in path.split():
        assert isinstance(command, click.Group)
        found = command.get_command(context, name)
        assert found is not None
        command = found
        context = click.Context(command, context, info_name=name, terminal_width=COLUMNS)
    return command.get_help(context)


def listed(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, command and words of each line of the lists in TEXT."""
    section = ""
    for line in io.StringIO(text):
        if not line.startswith(" "):
            section = line.strip().rstrip(":")
        elif section in WANTED:
            name, _, words = line.strip().partition("  ")
            if name:
                yield section, name, words.strip()


def test_every_command_stands_in_one_section() -> None:
    lines = list(listed(shown("")))
    found = {title: [name for section, name, _ in lines if section == title] for title in WANTED}
    assert found == {title: names.split() for title, names in WANTED.items()}
    assert {title: list(section) for title, section in SECTIONS.items()} == found


@pytest.mark.parametrize("group", [cli, cli.get_command(click.Context(cli), "vault")])
def test_a_list_has_the_first_words_of_each_command(group: ListedCommands) -> None:
    listed = {
        name: each.words for section in group.sections.values() for name, each in section.items()
    }
    commands = {name: group.get_command(click.Context(group), name) for name in listed}
    assert listed == {
        name: None if command is None else command.get_short_help_str(1000)
        for name, command in commands.items()
    }


@pytest.mark.parametrize("path", ["", "vault"])
def test_no_word_of_a_list_is_cut(path: str) -> None:
    text = " ".join(shown(path).split())
    every = [each for name, each in COMMANDS.items() if name.rpartition(" ")[0] == path]
    whole = [each.get_short_help_str(1000) for each in every]
    assert whole
    assert [words for words in whole if words not in text] == []
    assert "..." not in text.partition("[ARGS]...")[2]


@pytest.mark.parametrize("path", ["", "vault", *COMMANDS])
def test_no_line_is_wider_than_a_terminal(path: str) -> None:
    assert [line for line in shown(path).splitlines() if len(line) > COLUMNS] == []
