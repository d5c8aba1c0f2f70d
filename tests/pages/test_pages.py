"""Every page names what is there, shows what works and has its generated parts from the code."""

import ast
import re
import tomllib
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from refresher.cli.entry import Exit
from refresher.domain.grants import GrantState
from refresher.domain.reasons import Reason
from refresher.logs import EVENTS, Level
from refresher.publication.keys import Keys
from refresher.settings.loading import load
from tests.pages.prose import LONGEST_MEAN, broken_links, mean_length, rows
from tests.pages.reading import (
    COMMAND,
    COMMANDS,
    GENERATED,
    GROUPS,
    PAGES,
    ROOT,
    all_pages,
    blocks,
    calls,
    exit_codes,
    first_cells,
    rewritten,
)
from tests.support.signing import key_pair, service_account

LONGEST_LINE = 120
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_generated_parts_of_a_page_are_current(page: Path) -> None:
    assert page.read_text() == rewritten(page.read_text()), "run: python -m tests.pages"


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_part_stands_on_one_page(name: str) -> None:
    assert all_pages().count(f"<!-- {name} -->\n") == 1


def test_every_command_written_is_offered() -> None:
    files = [
        path.relative_to(ROOT).with_suffix("")
        for path in (ROOT / "refresher/cli").rglob("[a-z]*.py")
    ]
    modules = [".".join(file.parts) for file in files]
    written = [getattr(import_module(module), "COMMANDS", ()) for module in modules]
    names = {command.name for commands in written for command in commands}
    assert names == {name.rpartition(" ")[2] for name in COMMANDS} | GROUPS


def test_every_exit_code_is_explained() -> None:
    assert set(re.findall(r"^\| `(\d+)`", exit_codes(), flags=re.MULTILINE)) == {
        str(code.value) for code in Exit
    }


def test_every_call_in_a_shell_block_is_possible() -> None:
    found = [call for script in (*blocks("sh"), *blocks("console")) for call in calls(script)]
    assert len(found) > 10, "the README shows how the program is called"
    for name, given in found:
        assert name in COMMANDS, name
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert given <= known, name


def test_every_command_in_the_prose_exists() -> None:
    named = re.findall(rf"`refresher {COMMAND}", all_pages())
    assert set(named) <= COMMANDS.keys()


def content(name: str) -> str:
    """What would be in the secret file NAME."""
    if name.endswith(".pem"):
        return key_pair()[0]
    if name.endswith(".json"):
        return service_account("robot@acme.example", "https://auth.acme.example/token")
    if name == "notify.secret":
        return "whsec_" + 8 * "YWFh"
    return f"secret in {name}\n"


@pytest.mark.parametrize("block", blocks("toml"))
def test_a_settings_block_loads_without_complaint(block: str, tmp_path: Path) -> None:
    for name in re.findall(r'\{ file = "([^"/]+)" \}', block):
        (tmp_path / name).write_text(content(name))
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
    compile(block, "a README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_sentences_are_short(page: Path) -> None:
    assert mean_length(page.read_text()) < LONGEST_MEAN


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_no_page_repeats_a_row_of_another() -> None:
    counted = Counter(row for page in PAGES for row in rows(page.read_text()))
    assert len(counted) > 100
    assert [row for row, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_no_line_outside_tables_is_long(page: Path) -> None:
    lines = page.read_text().splitlines()
    long = [line for line in lines if len(line) > LONGEST_LINE and not line.startswith("|")]
    assert long == []


def test_every_file_that_is_named_exists() -> None:
    written_by_the_reader = {"deploy/redis-acl.local.conf", "deploy/refresher.toml"}
    named = re.findall(
        r"`((?:refresher|tests|deploy|\.ci)/[\w./-]+|Dockerfile|LICENSE)`", all_pages()
    )
    paths = set(named) - written_by_the_reader
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_room_is_named() -> None:
    rooms = {
        f"`refresher/{path.name}{'/' if path.is_dir() else ''}`"
        for path in (ROOT / "refresher").iterdir()
        if path.name != "README.md" and not path.name.startswith("__")
    }
    text = all_pages()
    assert {room for room in rooms if room not in text} == set()


def test_every_error_has_a_row_in_the_runbook() -> None:
    errors = {event.value for event, entry in EVENTS.items() if entry.level is Level.ERROR}
    assert first_cells("## Runbook") == errors


def test_every_state_and_reason_is_explained() -> None:
    reasons = {value for name, value in vars(Reason).items() if name.isupper()}
    states = {state.value for state in GrantState}
    assert first_cells("## States and reasons") == states | reasons


def test_the_contract_names_the_real_keys() -> None:
    keys = Keys()
    assert first_cells("# Read tokens: the Redis contract") >= {
        *(keys.token("NAME"), keys.status("NAME"), keys.daemon("INSTANCE")),
        *(keys.events, keys.requests, keys.rejected("NAME")),
    }
