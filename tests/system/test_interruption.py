"""Ctrl-C ends a command with 130 and one line, at any moment after Python's own start."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from refresher.cli.entry import Exit
from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.waiting import PATIENCE, wait_until
from tests.system.test_signals import has_begun
from tests.system.world import World, new_world

COMMANDS = (
    "check",
    "status",
    "token acme",
    "vault key-status",
    "vault restore backup --yes",
    "refresh acme",
    "login acme --client box --no-browser",
    "sandbox",
    "demo",
    "providers",
    "--help",
)

KINDS = ("status", "refresh acme", "login acme --client box --no-browser", "sandbox", "demo")
"""A command that reads, one that sends, one that waits for a person, and two that stay."""

SOON = 0.7
"""Seconds in which most of these commands end by themselves, or wait for something."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Settings and no daemon: the commands that ask one open the vault themselves."""
    with new_world(tmp_path_factory.mktemp("interruption"), Canary(), SandboxOptions()) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        yield world


def started(world: World, command: str) -> subprocess.Popen[str]:
    """COMMAND, once its first line has run: what comes before is Python's own."""
    process = subprocess.Popen(
        [*world.daemon.program, *command.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(
        lambda: has_begun(process) or process.poll() is not None,
        description="it runs",
        every=0.001,
    )
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status, as a shell has it, and what it said."""
    assert process.stderr is not None
    assert process.stdin is not None
    with process.stdin, process.stderr:
        said = process.stderr.read()
    code = process.wait(PATIENCE)
    return 128 - code if code < 0 else code, said


def assert_quiet(code: int, said: str, command: str) -> None:
    assert "Traceback" not in said, (command, said)
    assert "KeyboardInterrupt" not in said, (command, said)
    assert "ignored" not in said, (command, said)
    if code == Exit.STOPPED:
        assert said.splitlines()[-1:] in ([], ["stopped"]), (command, said)
    else:
        assert code in {Exit.DONE, Exit.FAILED, Exit.NEEDS_PERSON}, (command, code, said)


def interrupt(world: World, chance: Random, command: str, *, times: int) -> int:
    """Interrupt COMMAND at a moment by chance, TIMES times in a row; its exit status."""
    process = started(world, command)
    time.sleep(chance.uniform(0, SOON))
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(chance.uniform(0, 0.01))
    code, said = ended(process)
    assert_quiet(code, said, command)
    return code


@pytest.mark.parametrize("command", KINDS)
def test_ctrl_c_shows_no_traceback(world: World, command: str) -> None:
    interrupt(world, Random(command), command, times=1)  # noqa: S311  moments, not secrets


@pytest.mark.parametrize("command", ["status", "sandbox"])
def test_an_impatient_person_sees_no_traceback_either(world: World, command: str) -> None:
    interrupt(world, Random(command), command, times=5)  # noqa: S311  moments, not secrets


HALF_MADE = """
from refresher.cli import entry

class Half:
    def __init__(self):
        raise KeyboardInterrupt

    def __del__(self):
        raise ValueError("half made")

entry.cli = lambda **_: Half()
entry.run()
"""
"""A command in which Ctrl-C strikes the making of something that has a finalizer."""


def test_what_ctrl_c_left_half_made_is_not_told() -> None:
    done = subprocess.run([sys.executable, "-c", HALF_MADE], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (Exit.STOPPED, b"stopped\n")


@pytest.mark.long  # the short form are those above
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_many_moments(world: World, command: str) -> None:
    chance = Random(command)  # noqa: S311  moments, not secrets
    for number in range(40):
        interrupt(world, chance, command, times=1 + number % 4)


def test_ctrl_c_at_the_first_line_stops_before_anything_is_done(world: World) -> None:
    process = started(world, "status")
    process.send_signal(signal.SIGINT)
    assert ended(process) == (Exit.STOPPED, "stopped\n")


@pytest.mark.parametrize("command", ["login acme --client box --no-browser", "remove acme"])
def test_ctrl_c_at_a_question_ends_it_at_once(world: World, tmp_path: Path, command: str) -> None:
    """The question is on a terminal; whoever reads it must not have to answer it first."""
    terminal, other = pty.openpty()
    said = tmp_path / "said"
    with said.open("w") as stderr:
        process = subprocess.Popen(
            [*world.daemon.program, *command.split()], stdin=other, stdout=stderr, stderr=stderr
        )
    os.close(other)
    with closing(os.fdopen(terminal, "rb", 0)):
        wait_until(
            lambda: "paste the address" in said.read_text() or "for good?" in said.read_text(),
            description="the question",
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == Exit.STOPPED
    assert said.read_text().splitlines()[-1] == "stopped"
    assert "Traceback" not in said.read_text()
