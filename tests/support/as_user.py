"""Runs refresher commands as another user, in forks of one process that has loaded everything.

Loading takes a second for each command, and another user may not be able to read this
interpreter, its packages or this checkout.
"""

import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import refresher
from refresher.cli import main
from refresher.providers import all_providers
from refresher.vault import migrate

LOADED_LATE = (
    "anyio._backends._asyncio",
    "rich._emoji_codes",
    "encodings.ascii",
    "click._textwrap",
)
"""Modules that libraries import when they are first used."""


class Commands:
    """Runs commands one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, *arguments: str, folder: Path, uid: int, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run one command in FOLDER as the user UID; 0 stays who we are."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as name:
            out, err = Path(name) / "out", Path(name) / "err"
            order = {
                "arguments": arguments,
                "folder": str(folder),
                "uid": uid,
                "environment": dict(environment),
                "out": str(out),
                "err": str(err),
            }
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            done = subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())
        assert "Traceback" not in done.stderr, done.stderr
        return done


@contextmanager
def commands() -> Iterator[Commands]:
    """The process that runs them."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.as_user"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Commands(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def load_everything() -> None:
    """Import whatever a command may import later."""
    for module in pkgutil.walk_packages(refresher.__path__, "refresher."):
        if not module.name.startswith(("refresher.vault.migrations", "refresher.__main__")):
            importlib.import_module(module.name)
    for name in LOADED_LATE:
        importlib.import_module(name)
    all_providers()
    importlib.import_module("tests.support.warmed")


@contextmanager
def readable_migrations() -> Iterator[None]:
    """Have the migrations where every user can read them: they are files, read at each start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(Path(migrate.__file__).parent / "migrations", folder / "migrations")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        migrate.__file__ = str(folder / "migrate.py")
        yield


def serve() -> None:
    """Carry out orders from standard input until it ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            obey(json.loads(line))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def obey(order: dict[str, Any]) -> None:
    """Become the user of ORDER and run its command; ends the process."""
    code: Any = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        if order["uid"]:
            os.setgroups([])
            os.setgid(order["uid"])
            os.setuid(order["uid"])
        sys.argv = ["refresher", *order["arguments"]]
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  the test fails by the traceback it finds
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code))


if __name__ == "__main__":
    load_everything()
    with readable_migrations():
        serve()
