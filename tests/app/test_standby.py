"""A standby ends a holder that was stopped for good, and says so."""

import signal
import subprocess
from pathlib import Path

import pytest

from refresher.app import standby
from refresher.app.parts import Parts
from refresher.app.signals import Signals
from refresher.clock import SystemClock
from refresher.errors import VaultInUse
from refresher.settings.loading import load
from refresher.settings.model import Settings
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.vault.test_fence import holder, lock, stop

__all__ = ["holder", "lines", "lock"]


@pytest.fixture
def settings(tmp_path: Path, lock: Path) -> Settings:
    """Those of a standby on the vault whose lock the holder has."""
    file = tmp_path / "refresher.toml"
    file.write_text('vault.path = "vault.db"\ndaemon.standby = true\n')
    file.chmod(0o600)
    (tmp_path / "vault.key").touch(0o600)
    return load(file).settings


async def test_a_holder_that_is_stopped_for_good_is_ended_and_told(
    settings: Settings,
    holder: subprocess.Popen[str],
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standby, "STANDBY_INTERVAL", 0.001)
    signals = Signals()

    async def open_vault(*_: object, **__: object) -> object:
        if holder.poll() is None:
            raise VaultInUse("vault.db", holder.pid)
        signals.is_stopping = True
        return None

    stop(holder)
    parts = Parts(open_vault=open_vault)  # type: ignore[arg-type]  # nothing looks into it
    await standby._open_or_stand_by(settings, lambda: settings, signals, SystemClock(), parts)
    assert holder.wait(30) == -signal.SIGKILL
    assert [line["event"] for line in lines.all()] == ["daemon.stood_by", "daemon.fenced"]
    assert [line["pid"] for line in lines.all()] == [holder.pid] * 2
