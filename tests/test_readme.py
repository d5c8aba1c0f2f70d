"""The README says what the code says; ``python -m tests.test_readme`` rewrites its tables."""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import click
import pytest

from refresher.cli.entry import EXIT_CODES, Exit, cli
from refresher.domain.grants import GrantState
from refresher.domain.reasons import Reason
from refresher.logs import EVENTS, Level
from refresher.oauth.error_codes import MEANINGS, Meaning
from refresher.publication.keys import Keys
from refresher.settings.describe import describe
from refresher.settings.loading import load

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
LONGEST_LINE = 120

CONTEXT = click.Context(cli)


def offered(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command of GROUP and of the groups in it, each with all of its words."""
    for name in group.list_commands(CONTEXT):
        command = group.get_command(CONTEXT, name)
        if isinstance(command, click.Group):
            yield from offered(command, f"{before}{name} ")
        elif command is not None:
            yield f"{before}{name}", command


COMMANDS: Mapping[str, click.Command] = dict(offered(cli))
GROUPS = {name.partition(" ")[0] for name in COMMANDS if " " in name}

MEANING_OF_CODES = {
    Meaning.GRANT: "GrantRejected",
    Meaning.CLIENT: "ClientRejected",
    Meaning.CONFIGURATION: "Misconfigured",
    Meaning.REQUEST: "RequestRejected",
    Meaning.LATER: "Transient",
    Meaning.FAILED: "OutcomeUnknown",
}


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines
    )


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def commands() -> str:
    told = ((code(name), each.get_short_help_str(200)) for name, each in COMMANDS.items())
    return table(("Command", "What it does"), told)


def exit_codes() -> str:
    lines = re.findall(r"^ +(\d+) +(.+)$", EXIT_CODES, flags=re.MULTILINE)
    return table(("Code", "Meaning"), ((code(number), text) for number, text in lines))


def settings() -> str:
    lines = ((code(e.key), e.type, code(e.default), e.description) for e in describe())
    return table(("Key", "Type", "Default", "Meaning"), lines)


def events() -> str:
    lines = ((code(event), entry.level, entry.meaning) for event, entry in EVENTS.items())
    return table(("Event", "Level", "Meaning"), lines)


def error_codes() -> str:
    lines = (
        (outcome, ", ".join(code(word) for word, found in MEANINGS.items() if found is meaning))
        for meaning, outcome in MEANING_OF_CODES.items()
    )
    return table(("Outcome", "Error codes"), lines)


GENERATED: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "exit codes": exit_codes,
    "error codes": error_codes,
    "settings": settings,
    "events": events,
}
"""What stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""


def rewritten(text: str) -> str:
    for name, generate in GENERATED.items():
        beginning, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, mark, rest = text.partition(beginning)
        _, other_mark, after = rest.partition(end)
        assert mark, f"{beginning.strip()} is missing"
        assert other_mark, f"{end.strip()} is missing"
        text = before + beginning + generate() + end + after
    return text


def blocks(language: str) -> list[str]:
    """The fenced blocks of LANGUAGE, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """What stands below HEADING, up to the next heading of any depth."""
    _, found, rest = README.read_text().partition(f"\n{heading}\n")
    assert found, f"there is no heading {heading!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(heading: str) -> set[str]:
    """The words in backquotes that begin the rows of the table below HEADING."""
    return set(re.findall(r"^\| `([^`]+)`", section(heading), flags=re.MULTILINE))


COMMAND = rf"((?:{'|'.join(sorted(GROUPS))}) [a-z][a-z-]*|[a-z][a-z-]*)"
"""All words of a command as it is typed."""


def calls(script: str) -> list[tuple[str, set[str]]]:
    """Command and options of every call of refresher in SCRIPT."""
    found = re.findall(
        rf"(?:^|[\s(/])refresher (?!refresher)(?:--config \S+ )?{COMMAND}([^|;&)\n]*)",
        script.replace("\\\n", " "),
        flags=re.MULTILINE,
    )
    return [(name, set(re.findall(r"--[a-z-]+", rest))) for name, rest in found]


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_part_is_current(name: str) -> None:
    text = README.read_text()
    part = text.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]
    assert part == GENERATED[name](), "run: python -m tests.test_readme"


def test_every_command_written_is_offered() -> None:
    modules = [f"refresher.cli.{path.stem}" for path in (ROOT / "refresher/cli").glob("[a-z]*.py")]
    written = [getattr(import_module(module), "COMMANDS", ()) for module in modules]
    names = {command.name for commands in written for command in commands}
    assert names == set(cli.list_commands(CONTEXT))


def test_every_exit_code_is_explained() -> None:
    assert set(re.findall(r"^\| `(\d+)`", exit_codes(), flags=re.MULTILINE)) == {
        str(code.value) for code in Exit
    }


def test_every_call_in_a_shell_block_is_possible() -> None:
    found = [call for script in blocks("sh") for call in calls(script)]
    assert len(found) > 10, "the README shows how the program is called"
    for name, given in found:
        assert name in COMMANDS, name
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert given <= known, name


def test_every_command_in_the_prose_exists() -> None:
    named = re.findall(rf"`refresher {COMMAND}", README.read_text())
    assert set(named) <= set(COMMANDS)


@pytest.mark.parametrize("block", blocks("toml"))
def test_a_settings_block_loads_without_complaint(block: str, tmp_path: Path) -> None:
    for name in re.findall(r'\{ file = "([^"/]+)" \}', block):
        (tmp_path / name).write_text(f"secret in {name}\n")
        (tmp_path / name).chmod(0o600)
    environment = dict.fromkeys(re.findall(r'\{ env = "(\w+)" \}', block), "a secret")
    file = tmp_path / "refresher.toml"
    file.write_text(block)
    file.chmod(0o600)
    loaded = load(file, environment=environment)
    assert tomllib.loads(block)
    assert loaded.warnings == ()


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_block_compiles(block: str) -> None:
    compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_no_line_outside_tables_is_long() -> None:
    lines = README.read_text().splitlines()
    long = [line for line in lines if len(line) > LONGEST_LINE and not line.startswith("|")]
    assert long == []


def test_every_file_that_is_named_exists() -> None:
    written_by_the_reader = {"deploy/redis-acl.local.conf", "deploy/refresher.toml"}
    named = re.findall(
        r"`((?:refresher|tests|deploy|\.ci)/[\w./-]+|Dockerfile|LICENSE)`", README.read_text()
    )
    paths = set(named) - written_by_the_reader
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_room_is_named() -> None:
    rooms = {
        f"`refresher/{path.name}{'/' if path.is_dir() else ''}`"
        for path in (ROOT / "refresher").iterdir()
        if not path.name.startswith("__")
    }
    text = README.read_text()
    assert {room for room in rooms if room not in text} == set()


def test_every_error_has_a_row_in_the_runbook() -> None:
    errors = {event.value for event, entry in EVENTS.items() if entry.level is Level.ERROR}
    assert first_cells("### Runbook") == errors


def test_every_state_and_reason_is_explained() -> None:
    reasons = {value for name, value in vars(Reason).items() if name.isupper()}
    states = {state.value for state in GrantState}
    assert first_cells("### States and reasons") == states | reasons


def test_the_contract_names_the_real_keys() -> None:
    keys = Keys()
    assert first_cells("## The Redis contract") >= {
        *(keys.token("NAME"), keys.status("NAME"), keys.daemon("INSTANCE")),
        *(keys.events, keys.requests, keys.rejected("NAME")),
    }


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
    sys.stdout.write(f"{README} is current\n")
