"""Secrets come from many places and show themselves in none."""

import os
import traceback
from pathlib import Path

import pytest

from refresher.errors import SettingsError
from refresher.settings import load
from refresher.settings.commands import run
from tests.settings.conftest import CLIENT, Bench
from tests.support.waiting import wait_until

CANARY = "canary-5f1c"


def with_secret(source: str) -> str:
    return CLIENT.replace('"acme-secret"', source)


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        pytest.param(f'"{CANARY}"', "literal", id="literal"),
        pytest.param('{ file = "acme.secret" }', "file", id="file"),
        pytest.param('{ env = "ACME" }', "environment", id="env"),
        pytest.param('{ command = ["cat", "acme.secret"] }', "command", id="command"),
        pytest.param("{ command = \"cat 'acme.secret'\" }", "command", id="command as text"),
        pytest.param('{ credential = "acme" }', "credential", id="credential"),
        pytest.param('{ credential = "mounted" }', "credential", id="mounted secret"),
    ],
)
def test_each_source_gives_the_secret(bench: Bench, source: str, origin: str) -> None:
    bench.write("acme.secret", CANARY + "\n")
    bench.write("credentials/acme", CANARY + "\r\n")
    bench.write("secrets/mounted", CANARY)
    environment = {
        "ACME": CANARY,
        "PATH": os.defpath,
        "CREDENTIALS_DIRECTORY": str(bench.folder / "credentials"),
        "REFRESHER_SECRETS_DIR": str(bench.folder / "secrets"),
    }
    loaded = bench.load(with_secret(source), environment)
    secret = loaded.settings.clients["acme"].authentication.secret
    assert secret is not None
    assert secret.reveal() == CANARY
    assert loaded.secret_origins == {"clients.acme.client_secret": origin}
    assert loaded.warnings == ()
    assert f"secret clients.acme.client_secret: {origin}" in loaded.summary()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param('""', "is empty (literal)", id="empty"),
        pytest.param('{ file = "missing" }', "missing, which cannot be read: No such", id="file"),
        pytest.param('{ file = "newline" }', "is empty (file)", id="empty file"),
        pytest.param('{ file = "large" }', "is larger than 65536 bytes", id="large file"),
        pytest.param('{ file = "binary" }', "is not UTF-8 text", id="binary file"),
        pytest.param('{ env = "UNSET" }', "variable UNSET, which is not set", id="env"),
        pytest.param('{ env = "EMPTY" }', "is empty (environment)", id="empty variable"),
        pytest.param('{ command = ["no-such-command"] }', "cannot be started", id="no command"),
        pytest.param('{ command = ["true"] }', "is empty (command)", id="silent command"),
        pytest.param("{ command = [] }", "has a command that is not a list", id="no words"),
        pytest.param(
            '{ command = ["sh", "-c", "echo locked >&2; echo more >&2; exit 3"] }',
            "command sh, which failed with exit code 3",
            id="failing command",
        ),
        pytest.param('{ credential = "none" }', "which is not in /run/secrets", id="credential"),
        pytest.param('{ credential = "../x" }', "must be a string, or one of", id="path"),
        pytest.param('{ credential = ".." }', "must be a string, or one of", id="parent"),
        pytest.param('{ file = "a", env = "b" }', "must be a string, or one of", id="two forms"),
        pytest.param("{ files = 'a' }", "must be a string, or one of", id="unknown form"),
        pytest.param("17", "must be a string, or one of", id="number"),
    ],
)
def test_an_unreadable_secret_is_explained(bench: Bench, source: str, expected: str) -> None:
    bench.write("newline", "\n")
    bench.write("large", "x" * 65_537)
    (bench.folder / "binary").write_bytes(b"\xff\xfe")
    (problem,) = bench.problems(with_secret(source), {"EMPTY": "", "PATH": os.defpath})
    assert problem.startswith("clients.acme.client_secret ")
    assert expected in problem


def test_a_failing_command_hides_what_it_printed(bench: Bench) -> None:
    script = f"echo {CANARY}; echo 'bad {CANARY} here' >&2; exit 1"
    source = f'{{ command = ["sh", "-c", "{script}"] }}'
    (problem,) = bench.problems(with_secret(source), {"PATH": os.defpath})
    assert problem.endswith("which failed with exit code 1")


def test_a_hanging_command_is_ended_with_its_children(tmp_path: Path) -> None:
    script = "(sleep 600; echo late) & echo $! > child; wait"
    environment = {"PATH": os.defpath}
    with pytest.raises(ValueError, match=r"took more than 1 s"):
        run(["sh", "-c", script], environment, tmp_path, timeout=1.0)
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"

    def is_gone() -> bool:
        try:
            return ") Z " in child.read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(is_gone, description="the command's child has ended")


def test_a_command_gets_no_shell(bench: Bench) -> None:
    source = '{ command = ["printf", "%s", "$(id); *"] }'
    secret = bench.load(with_secret(source), {"PATH": os.defpath}).settings.clients["acme"]
    assert secret.authentication.secret is not None
    assert secret.authentication.secret.reveal() == "$(id); *"


def test_files_everybody_can_read_are_warned_of(bench: Bench) -> None:
    path = bench.write("open", CANARY, mode=0o644)
    (warning,) = bench.load(with_secret('{ file = "open" }')).warnings
    assert f"chmod 600 {path}" in warning
    bench.write(bench.file.name, CLIENT, mode=0o644)
    (warning,) = load(bench.file, environment={}).warnings
    assert warning == f"{bench.file}: holds secrets and others can read it: chmod 600 {bench.file}"


def test_an_open_file_without_secrets_is_fine(bench: Bench) -> None:
    bench.write("secrets/acme", CANARY, mode=0o644)
    text = 'secrets_dir = "secrets"\n[redis]\nurl = "redis://cache:6379"\n'
    bench.write(bench.file.name, text + with_secret('{ credential = "acme" }'), mode=0o644)
    loaded = load(bench.file, environment={})
    assert loaded.warnings == ()
    assert "redis.url" not in loaded.secret_origins


def test_white_space_around_a_secret_is_warned_of(bench: Bench) -> None:
    (warning,) = bench.load(with_secret('" padded"')).warnings
    assert "clients.acme.client_secret begins or ends with white space" in warning


GOOD = f"""
[redis]
url = "rediss://user@cache:6379/0?ssl_password={CANARY}"
password = "{CANARY}"
[clients.acme]
token_endpoint = "https://auth.acme.example/token"
client_id = "refresher"
client_secret = "{CANARY}"
proxy = "http://user:{CANARY}@proxy:3128"
[grants.one]
client = "acme"
refresh_token = "{CANARY}"
[grants.two]
static_token = "{CANARY}"
"""


def test_loaded_settings_show_no_secret(bench: Bench) -> None:
    loaded = bench.load(GOOD)
    shown = f"{loaded!r} {loaded} {loaded.summary()} {loaded.warnings}"
    assert CANARY not in shown
    assert loaded.settings.redis.location == "rediss://cache:6379/0"
    assert loaded.settings.clients["acme"].route.proxy == f"http://user:{CANARY}@proxy:3128"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD.replace("rediss://user", f"http://user:{CANARY}"), id="redis URL"),
        pytest.param(GOOD.replace("http://user", "socks5://user"), id="proxy"),
        pytest.param(GOOD.replace("https://auth", f"https://a:{CANARY}@auth"), id="endpoint"),
        pytest.param(GOOD.replace('"refresher"', f'"x"\nscope = ["{CANARY} x"]'), id="scope"),
        pytest.param(GOOD.replace('"refresher"', f'"x"\nrotation = "{CANARY}"'), id="rotation"),
        pytest.param(GOOD.replace('"refresher"', f'"x"\nrate = "{CANARY}"'), id="number"),
        pytest.param(GOOD.replace('"refresher"', f'"x"\nplacement = "{CANARY}"'), id="choice"),
        pytest.param(GOOD.replace('"refresher"', f'"x"\npkce = "{CANARY}"'), id="boolean"),
        pytest.param(GOOD.replace("[grants.two]", f'[grants.two]\nsecret = "{CANARY}"'), id="key"),
        pytest.param(f'{GOOD}[grants.x]\nclient = "acme"\nrefresh_token = "{CANARY}"', id="twice"),
        pytest.param(GOOD.replace(f'"{CANARY}"', f'["{CANARY}"]'), id="list"),
        pytest.param(GOOD.replace(f'"{CANARY}"', f'{{ value = "{CANARY}" }}'), id="table"),
        pytest.param(GOOD.replace(f'"{CANARY}"', CANARY), id="no quotes"),
        pytest.param(f'redis = "{CANARY}"\nclients = "{CANARY}"', id="no tables"),
        pytest.param(f'[daemon]\nshutdown_deadline = "{CANARY}"', id="duration"),
        pytest.param(f'[redis]\nprefix = "{CANARY} "', id="pattern"),
        pytest.param(f'[clients.a]\nredirect_uris = ["{CANARY}"]', id="redirect URI"),
    ],
)  # fmt: skip
def test_no_problem_shows_a_secret(bench: Bench, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        bench.load(text)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert caught.value.problems
    assert CANARY not in told
