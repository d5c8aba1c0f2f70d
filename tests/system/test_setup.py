"""From nothing to settings that hold: ``init``, ``check``, and what typing mistakes bring."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from refresher.cli import daemon, demo, grants, setup
from tests.support.daemon import DaemonProcess
from tests.support.forked import run_command
from tests.support.waiting import PATIENCE

COMMANDS: list[click.Command] = [
    *(*demo.COMMANDS, *setup.COMMANDS, *daemon.COMMANDS, *grants.COMMANDS)
]

EACH_IN_TURN = """
import sys
from refresher.cli import main
for line in sys.stdin:
    sys.argv = ["refresher", *line.split()]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    print(f"exit {code}", file=sys.stderr, flush=True)
"""
"""Starting an interpreter for each of many short commands would take a second each."""

GOOD = """
[redis]
url = "redis://127.0.0.1:6379/0"
[clients.acme]
token_endpoint = "https://auth.acme.example/token"
client_id = "refresher"
client_secret = { file = "acme.secret" }
"""


def refresher(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one command in FOLDER."""
    done = run_command(arguments, folder=folder)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def in_turn(*lines: str) -> tuple[str, list[str]]:
    """Stdout of all LINES, and stderr of each, which ends with its exit code."""
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_TURN],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout, done.stderr.split("\n")


def configured(folder: Path, settings: str = GOOD) -> DaemonProcess:
    """A folder that ``init`` and an operator have filled."""
    done = DaemonProcess(folder)
    done.prepare(redis_url="redis://127.0.0.1:1/0", clients="")
    done.config.write_text(settings)
    secret = folder / "acme.secret"
    secret.touch(0o600)
    secret.write_text("s3cret-of-acme")
    return done


def test_init_brings_settings_that_check_finds_good(tmp_path: Path) -> None:
    done = refresher("init", "--directory", "new/folder", folder=tmp_path)
    folder = tmp_path / "new" / "folder"
    assert done.returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["refresher.key", "refresher.toml"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    checked = refresher("check", folder=folder)
    assert checked.returncode == 0
    assert "the settings are good" in checked.stdout


def test_init_never_overwrites_a_file(tmp_path: Path) -> None:
    (tmp_path / "refresher.toml").write_text("# mine")
    assert refresher("init", folder=tmp_path).returncode == 0
    key = (tmp_path / "refresher.key").read_bytes()
    again = refresher("init", folder=tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("exists; left as it is") == 2
    assert (tmp_path / "refresher.toml").read_text() == "# mine"
    assert (tmp_path / "refresher.key").read_bytes() == key


def test_init_writes_a_client_of_a_provider(tmp_path: Path) -> None:
    done = refresher("init", "--provider", "zoho", "--client", "books@acme", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    checked = refresher("check", folder=tmp_path)
    assert checked.returncode == 78
    [problem] = checked.stderr.splitlines()
    assert 'clients."books@acme".client_secret' in problem
    assert "books@acme.secret, which cannot be read: No such file" in problem
    secret = tmp_path / "books@acme.secret"
    secret.touch(0o600)
    secret.write_text("s3cret")
    assert refresher("check", folder=tmp_path).returncode == 0
    written = (tmp_path / "refresher.toml").read_text()
    again = refresher("init", "--provider", "xero", folder=tmp_path)
    assert 'add to it:\n\n[clients.xero]\nprovider = "xero"' in again.stdout
    assert (tmp_path / "refresher.toml").read_text() == written


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--provider", "xro"), "xro is not in the catalogue; did you mean xero?"),
        (("--provider", "wahoo"), "does not work yet: `refresher providers wahoo` says what"),
        (("--provider", "xero", "--client", "my books"), "use 1 to 128 of A-Z a-z"),
        (("--client", "books"), "--client goes with --provider"),
    ],
)
def test_init_of_a_client_that_cannot_be_writes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = refresher("init", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_says_when_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = refresher("init", "--directory", "file/below", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "refresher: file/below cannot be made: Not a directory\n"


def test_check_shows_what_it_found_but_no_secret(tmp_path: Path) -> None:
    done = configured(tmp_path).command("check", "--json")
    content = json.loads(done.stdout)
    assert content["ok"]
    assert "secret clients.acme.client_secret: file" in content["found"]
    assert "s3cret-of-acme" not in done.stdout + done.stderr


def test_check_lists_every_problem_with_its_place(tmp_path: Path) -> None:
    settings = GOOD.replace("redis://", "http://").replace("client_id", "cliant_id")
    place = configured(tmp_path, settings)
    place.config.with_name("acme.secret").unlink()
    done = place.command("check", check=78)
    at = f"problem: {place.config}: "
    expected = {
        f"{at}redis.url is not a Redis URL": "write redis://HOST:PORT/DB",
        f"{at}clients.acme.cliant_id is no known key": "did you mean client_id?",
        f"{at}clients.acme.client_id is missing": "set the id the server gave it",
        f"{at}clients.acme.client_secret is in the file {tmp_path}/acme.secret": "cannot be read",
    }
    lines = done.stderr.splitlines()
    for beginning, mend in expected.items():
        [line] = [line for line in lines if line.startswith(beginning)]
        assert mend in line
    assert len(lines) == len(expected)


def test_check_looks_at_the_vault_key(tmp_path: Path) -> None:
    place = configured(tmp_path)
    (tmp_path / "refresher.key").unlink()
    done = place.command("check", check=78)
    assert "`refresher init` makes one" in done.stderr


def test_no_command_works_with_bad_settings(tmp_path: Path) -> None:
    place = configured(tmp_path, GOOD + "colour = 'red'\n")
    commands = ("run", "status", "health", "token g", "login g")
    _, lines = in_turn(*(f"--config {place.config} {command}" for command in commands))
    problem = f"problem: {place.config}: clients.acme.colour is no known key"
    assert lines == [problem, "exit 78"] * len(commands) + [""]
    assert not (tmp_path / "refresher.db").exists()


def test_without_settings_the_way_out_is_named(tmp_path: Path) -> None:
    done = refresher("status", folder=tmp_path)
    assert done.returncode == 78
    assert "`refresher init` writes a first file" in done.stderr


def test_every_command_explains_itself() -> None:
    text, endings = in_turn("--help", *(f"{command.name} --help" for command in COMMANDS))
    assert endings == ["exit 0"] * (len(COMMANDS) + 1) + [""]
    assert text.count("Usage: refresher ") == len(COMMANDS) + 1
    assert [command for command in COMMANDS if f"\n  {command.name} " not in text] == []
    assert "\\" not in text
    assert "Exit codes:" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_every_option_has_an_explanation(command: click.Command) -> None:
    assert command.help
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_a_typing_mistake_exits_with_two() -> None:
    _, endings = in_turn(
        "bogus",
        "login",
        "status --colour red",
        "login g --timeout soon",
        "demo --for ages",
        "import /no/such/file",
    )
    assert [line for line in endings if line.startswith("exit")] == ["exit 2"] * 6
    assert [line for line in endings if "Traceback" in line] == []


def test_a_password_in_the_clear_is_told_by_check_and_once_in_the_log(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    daemon.prepare(redis_url="redis://:secret@redis.invalid", clients="")
    told = daemon.command("check")
    assert "the password and every token travel in the clear" in told.stdout + told.stderr
    daemon.log.write_text("")
    daemon.start()
    assert daemon.stop() == 0
    (doubted,) = daemon.events("settings.doubted")
    assert "travel in the clear" in doubted["reason"]
