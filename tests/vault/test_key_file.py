"""The key file: a new line comes in whole or not at all, whatever happens meanwhile."""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refresher.errors import VaultKeyError
from refresher.vault.key_file import bring_in_key
from refresher.vault.sealing import Keyring, new_key_line, write_key_file
from tests.support.forked import FORKS


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    write_key_file(tmp_path / "key")
    return tmp_path / "key"


def test_a_new_line_stands_above_the_others(key_file: Path) -> None:
    old = Keyring.load(key_file)
    bring_in_key(key_file, new_key_line())
    new = Keyring.load(key_file)
    assert new.ids[1:] == old.ids
    assert new.mark != old.mark
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == ["key"]


def test_the_mode_stays(key_file: Path) -> None:
    key_file.chmod(0o400)
    bring_in_key(key_file, new_key_line())
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o400


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(key_file: Path) -> None:
    os.chown(key_file, 65534, 65534)
    bring_in_key(key_file, new_key_line())
    assert (key_file.stat().st_uid, key_file.stat().st_gid) == (65534, 65534)


def test_a_link_goes_on_naming_the_file(key_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key_file)
    bring_in_key(link, new_key_line())
    assert link.is_symlink()
    assert len(Keyring.load(key_file).ids) == 2


def test_what_a_killed_one_left_is_in_nobodys_way(key_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / "key.unfinished").symlink_to(other)
    bring_in_key(key_file, new_key_line())
    assert other.read_text() == "untouched"
    assert not (tmp_path / "key.unfinished").exists()


def test_a_file_that_another_program_keeps_says_so(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key_file.read_text()

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        VaultKeyError, match=r"Read-only file system; .* put a new line above the others"
    ):
        bring_in_key(key_file, new_key_line())
    assert key_file.read_text() == before


def bring_in_and_die(key_file: Path, number: int, before: bool) -> None:  # noqa: FBT001  a case
    """Bring in a key, killed at its step NUMBER: BEFORE that is done, or right after."""
    count = 0

    def stepped(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            is_it = count == number
            if before and is_it:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*arguments, **options)
            finally:
                if is_it:
                    os.kill(os.getpid(), signal.SIGKILL)

        return step

    for name in ("open", "unlink", "fchmod", "fsync", "replace", "close"):
        setattr(os, name, stepped(getattr(os, name)))
    bring_in_key(key_file, new_key_line())


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_kill_at_any_step_leaves_a_whole_file(
    key_file: Path,
    before: bool,  # noqa: FBT001  pytest's parameter
) -> None:
    """Every key that was there stays, and the next rotation is hindered by nothing."""
    number = 0
    for number in range(1, 30):
        held = Keyring.load(key_file).ids
        child = FORKS.Process(target=bring_in_and_die, args=(key_file, number, before))
        child.start()
        child.join()
        found = Keyring.load(key_file).ids
        assert found[-len(held) :] == held
        assert len(found) - len(held) in {0, 1}
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    assert 6 < number < 29
