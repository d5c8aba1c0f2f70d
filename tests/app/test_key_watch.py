"""The key file is read again by itself once it was changed, and never half written."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from refresher.app import key_watch
from refresher.app.key_watch import KeyWatch
from refresher.logs import Event
from refresher.vault.sealing import new_key_line
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.support.waiting import eventually
from tests.vault.world import opened

__all__ = ["lines"]


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Vault]:
    async with opened(folder) as vault, anyio.create_task_group() as tasks:
        watch = KeyWatch(folder / "key", vault.resealing, look_every=0.02)
        tasks.start_soon(watch.run)
        yield vault
        tasks.cancel_scope.cancel()


async def test_a_new_line_is_read_by_itself(tmp_path: Path, lines: Lines) -> None:
    async with watched(tmp_path) as vault:
        new = tmp_path / "new"
        new.touch(0o600)
        new.write_text(new_key_line() + (tmp_path / "key").read_text())
        new.replace(tmp_path / "key")
        await eventually(lambda: len(vault._sealer.keyring.ids) == 2, "it is read")
        await eventually(lambda: bool(lines.of(Event.SECRET_REPLACED)), "it is said")
        assert vault.resealing.is_due


async def test_what_cannot_be_used_is_said_once_and_changes_nothing(
    tmp_path: Path, lines: Lines
) -> None:
    async with watched(tmp_path) as vault:
        before, content = vault._sealer.keyring.ids, (tmp_path / "key").read_text()
        (tmp_path / "key").write_text(new_key_line())
        await eventually(lambda: bool(lines.of(Event.SECRET_DOUBTED)), "it is said")
        await anyio.sleep(0.1)
        [told] = lines.of(Event.SECRET_DOUBTED)
        assert told["setting"] == "vault.key_file"
        assert "in no line of the key file" in told["reason"]
        assert vault._sealer.keyring.ids == before
        (tmp_path / "key").write_text(new_key_line() + content)
        await eventually(lambda: len(vault._sealer.keyring.ids) == 2, "it is read")


async def test_a_key_that_came_through_a_pipe_is_not_read_again(
    tmp_path: Path, lines: Lines
) -> None:
    async with opened(tmp_path) as vault:
        (tmp_path / "key").unlink()
        os.mkfifo(tmp_path / "key", 0o600)
        await KeyWatch(tmp_path / "key", vault.resealing)._look()
        assert lines.of(Event.SECRET_DOUBTED) == []


async def test_a_file_that_is_being_written_is_left_for_later(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = ""

    async def write_on(_: float) -> None:
        """Whoever writes it is between two lines."""
        nonlocal content
        content += new_key_line()
        (tmp_path / "key").write_text(content)

    async with opened(tmp_path) as vault:
        watch = KeyWatch(tmp_path / "key", vault.resealing)
        with monkeypatch.context() as patch:
            patch.setattr(key_watch.anyio, "sleep", write_on)  # type: ignore[attr-defined]  # its own module
            for _ in range(3):
                await watch._look()
        assert lines.of(Event.SECRET_DOUBTED) == []
