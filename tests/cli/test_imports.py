"""What commands import: nothing that takes long before the command that needs it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from anyio import to_thread

from refresher.ops.control import ControlServer
from refresher.ops.health import Verdict
from refresher.ops.protocol import JSON
from refresher.vault.sealing import write_key_file

HEAVY = (
    "aiohttp",
    "alembic",
    "cryptography",
    "pydantic",
    "redis",
    "rich",
    "sqlalchemy",
    "structlog",
)

THEN_TELL = f"""
import json, sys
from refresher.cli import main
try:
    main()
except SystemExit:
    pass
print(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)
"""

SETTINGS = """
vault.path = "refresher.db"
control.socket = "{folder}/socket"
redis.url = "redis://127.0.0.1:1"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with settings and a key; nothing runs on it."""
    (tmp_path / "refresher.toml").write_text(SETTINGS.format(folder=tmp_path))
    (tmp_path / "refresher.toml").chmod(0o600)
    write_key_file(tmp_path / "refresher.key")
    return tmp_path


def imported(folder: Path, *arguments: str) -> set[str]:
    """What of HEAVY a process has imported by the end of a command."""
    done = subprocess.run(
        [sys.executable, "-c", THEN_TELL, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("command", ["--help", "--version", "vault --help"])
def test_help_imports_nothing_that_takes_long(folder: Path, command: str) -> None:
    assert imported(folder, *command.split()) == set()


async def test_status_beside_a_daemon_imports_no_vault(folder: Path) -> None:
    async def answer(_: Mapping[str, JSON]) -> JSON:
        return {"grants": [], "revocations": [], "daemon": {"pid": 1}}

    operations = {"ping": answer, "status": answer}
    async with ControlServer(folder / "socket", operations=operations, is_ready=Verdict).serving():
        found = await to_thread.run_sync(imported, folder, "status")
    assert found <= {"pydantic", "structlog", "rich"}


def test_reading_a_token_imports_redis_alone(folder: Path) -> None:
    assert imported(folder, "token", "acme") <= {"pydantic", "structlog", "redis", "cryptography"}


def test_status_without_a_daemon_needs_the_vault_alone(folder: Path) -> None:
    new, known = imported(folder, "status"), imported(folder, "status")
    assert new == known == {"cryptography", "pydantic", "sqlalchemy", "structlog"}


def test_a_daemon_imports_nothing_that_it_has_no_use_for() -> None:
    useless = (
        *("alembic", "mako", "prometheus_client", "pygments", "rich"),
        *("sqlalchemy.dialects.postgresql", "sqlalchemy.orm"),
    )
    code = (
        "import sys, refresher.cli.daemon, refresher.app.standby;"
        f"print([name for name in {useless} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
