"""Whose files commands and the daemon believe, and what needs no secret, by real processes.

As root, commands run as another user where that is the point; anybody else is that user.
"""

import contextlib
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refresher.errors import SettingsError
from refresher.settings import load
from refresher.vault.sealing import write_key_file
from tests.support.as_user import commands
from tests.support.waiting import PATIENCE

IS_ROOT = os.geteuid() == 0
USER = 65_534 if IS_ROOT else os.geteuid()
STRANGER = 4242
NAMELESS = 70_000
"""A user and a group that no list of the machine names."""

CLIENT = """
[redis]
url = "redis://127.0.0.1:1/0"
[clients.acme]
token_endpoint = "https://127.0.0.1:1/token"
client_id = "acme"
client_secret = {secret}
[grants.waiting]
client = "acme"
[grants.seeded]
client = "acme"
refresh_token = {secret}
"""
GOOD = CLIENT.format(secret='"a-secret-in-the-file"')


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of USER that USER can reach."""
    made = Path(tempfile.mkdtemp(prefix="owners-"))
    own(made)
    yield made
    shutil.rmtree(made)


def own(*paths: Path, uid: int = USER) -> None:
    """Give PATHS to the user UID; whoever is not root keeps them."""
    for path in paths:
        if IS_ROOT:
            os.chown(path, uid, uid, follow_symlinks=False)


def put(folder: Path, text: str = GOOD, *, uid: int = USER, mode: int = 0o600) -> Path:
    """The settings file of FOLDER."""
    file = folder / "refresher.toml"
    file.touch(0o600)
    file.write_text(text)
    own(file, uid=uid)
    file.chmod(mode)
    return file


def put_key(folder: Path) -> None:
    write_key_file(folder / "refresher.key")
    own(folder / "refresher.key")


Refresher = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def refresher() -> Iterator[Refresher]:
    """Runs one command in a folder, as USER or as UID; it may end in no traceback."""
    kept = {"PATH", "LANG", "TMPDIR"}
    environment = {name: value for name, value in os.environ.items() if name in kept}
    with commands() as runner:

        def run(*arguments: str, folder: Path, uid: int = USER) -> subprocess.CompletedProcess[str]:
            as_user = uid if IS_ROOT else 0
            return runner.run(*arguments, folder=folder, uid=as_user, environment=environment)

        yield run


def spy(folder: Path) -> str:
    """Settings whose secrets come from a command that leaves a file where it ran."""
    command = f'{{ command = ["sh", "-c", "id > {folder}/pwned; echo secret"] }}'
    return CLIENT.format(secret=command).replace('"redis://127.0.0.1:1/0"', command)


@pytest.mark.parametrize(
    "command", ["status", "token x", "health", "check", "vault backup none.db"]
)
@pytest.mark.parametrize("kind", ["file", "folder", "owner"])
def test_settings_that_others_can_change_are_not_found(
    refresher: Refresher, folder: Path, command: str, kind: str
) -> None:
    """Somebody plants refresher.toml in a folder where others work."""
    file = put(folder, spy(folder), mode=0o666 if kind == "file" else 0o600)
    if kind == "folder":
        folder.chmod(0o777)
    if kind == "owner":
        own(file, uid=STRANGER)
        file.chmod(0o644 if IS_ROOT else 0o646)
        folder.chmod(0o1777)
    done = refresher(*command.split(), folder=folder)
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert "was found in the current folder and is not used" in line
    assert line.endswith(f"--config {file}")
    assert not (folder / "pwned").exists()


def test_a_file_that_is_named_is_trusted_but_not_if_everybody_can_write_it(
    refresher: Refresher, folder: Path
) -> None:
    file = put(folder, uid=STRANGER, mode=0o644)
    put_key(folder)
    done = refresher("--config", str(file), "check", folder=folder)
    assert done.returncode == 0, done.stderr
    assert ("warning: " in done.stderr and "belongs to" in done.stderr) is IS_ROOT
    file.chmod(0o666)
    assert refresher("--config", str(file), "check", folder=folder).returncode == 78


def test_commands_that_need_no_secret_read_none(refresher: Refresher, folder: Path) -> None:
    """And run no command: ``status``, ``remove`` and ``vault backup`` without a daemon."""
    put(folder, spy(folder))
    put_key(folder)
    status = refresher("status", folder=folder)
    assert status.returncode == 3, status.stderr
    lines = status.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["1", "GRANT", "waiting"]
    assert not (folder / "pwned").exists()
    assert refresher("vault", "backup", "copy.db", folder=folder).returncode == 0
    assert not (folder / "pwned").exists()


UNREADABLE = [
    pytest.param('{ credential = "acme" }', id="systemd's credential"),
    pytest.param('{ file = "theirs/secret" }', id="a file of another"),
    pytest.param('{ file = "fifo" }', id="a fifo"),
    pytest.param('{ file = "/dev/zero" }', id="a device"),
    pytest.param('{ env = "NOT_SET_HERE" }', id="a variable of the unit"),
    pytest.param('{ command = ["false"] }', id="a command that fails"),
]


@pytest.mark.parametrize("secret", UNREADABLE)
def test_without_secrets_there_are_still_status_backup_and_remove(
    refresher: Refresher, folder: Path, secret: str
) -> None:
    text = CLIENT.format(secret=secret).replace('"redis://127.0.0.1:1/0"', secret)
    put(folder, text)
    put_key(folder)
    theirs = folder / "theirs"
    theirs.mkdir(mode=0o000)
    os.mkfifo(folder / "fifo", 0o600)
    own(folder / "fifo")
    try:
        assert refresher("status", folder=folder).returncode == 3
        assert refresher("vault", "backup", "copy.db", folder=folder).returncode == 0
        removed = refresher("remove", "waiting", "--yes", folder=folder)
    finally:
        theirs.chmod(0o700)
    assert removed.returncode == 0, removed.stderr
    assert removed.stdout == "waiting is removed\n"
    assert "Redis is not told by this command" in removed.stderr


def test_check_says_what_it_cannot_see(refresher: Refresher, folder: Path) -> None:
    """A credential outside of the unit is nobody's to see; where secrets are mounted, it is."""
    put(folder, CLIENT.format(secret='{ credential = "acme" }').replace("a-secret", ""))
    put_key(folder)
    told = refresher("check", folder=folder)
    if Path("/run/secrets").exists():
        assert told.returncode == 78
        return
    assert told.returncode == 0, told.stderr
    assert told.stderr.count("not seen from here: ") == 2
    assert "the settings are good, as far as they can be seen" in told.stdout


def test_check_by_another_user_says_what_that_one_cannot_see(
    refresher: Refresher, folder: Path
) -> None:
    file = put(folder, CLIENT.format(secret='{ file = "acme.secret" }'), mode=0o644)
    put_key(folder)
    secret = folder / "acme.secret"
    secret.write_text("secret")
    secret.chmod(0o000)
    own(secret)
    mine = refresher("--config", str(file), "check", folder=Path("/"))
    assert mine.returncode == 78
    assert "acme.secret, which cannot be read: Permission denied" in mine.stderr
    if IS_ROOT:
        folder.chmod(0o755)
        theirs = refresher("--config", str(file), "check", folder=Path("/"), uid=STRANGER)
        assert theirs.returncode == 0, theirs.stderr
        assert theirs.stderr.count("not seen from here: ") == 3  # the key, too


def test_a_complaint_is_shown_on_a_terminal_only(refresher: Refresher, folder: Path) -> None:
    secret = '{ command = ["sh", "-c", "echo token=hunter2 >&2; exit 1"] }'
    put(folder, CLIENT.format(secret=secret))
    put_key(folder)
    for arguments in (["check"], ["check", "--verbose"], ["check", "--verbose", "--json"]):
        done = refresher(*arguments, folder=folder)
        assert done.returncode == 78
        assert "hunter2" not in done.stdout + done.stderr


PLANTED = ["refresher.db", "refresher.db.lock", "refresher.db.rescue"]


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("kind", ["link", "dangling link", "writable", "fifo"])
def test_what_the_daemon_writes_is_its_own(
    refresher: Refresher, folder: Path, name: str, kind: str
) -> None:
    put(folder)
    put_key(folder)
    planted, victim = folder / name, folder / "victim"
    victim.write_text("precious")
    match kind:
        case "link":
            planted.symlink_to(victim)
        case "dangling link":
            planted.symlink_to(folder / "missing")
        case "writable":
            planted.touch()
            planted.chmod(0o666)
        case _:
            os.mkfifo(planted, 0o600)
    own(planted, victim)
    done = refresher("run", folder=folder)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert str(planted) in line
    assert victim.read_text() == "precious"
    assert not (folder / "missing").exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777], ids=oct)
def test_the_vaults_folder_is_its_own(refresher: Refresher, folder: Path, mode: int) -> None:
    put(folder, '[vault]\npath = "shared/vault.db"\nkey_file = "refresher.key"\n' + GOOD)
    put_key(folder)
    shared = folder / "shared"
    shared.mkdir()
    own(shared)
    shared.chmod(mode)
    done = refresher("run", folder=folder)
    assert done.returncode == 1
    assert f"chmod go-w {shared}" in done.stderr
    assert list(shared.iterdir()) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root gives a folder to a group")
def test_a_volume_of_the_processs_group_is_its_own(refresher: Refresher, folder: Path) -> None:
    """As Kubernetes mounts one with fsGroup; at each mount the files there become 0660."""
    put(
        folder,
        '[vault]\npath = "volume/v/vault.db"\nkey_file = "volume/key"\n' + GOOD,
        uid=NAMELESS,
    )
    volume = folder / "volume"
    volume.mkdir()
    write_key_file(volume / "key")
    own(folder, volume / "key", uid=NAMELESS)
    os.chown(volume, 0, NAMELESS)
    volume.chmod(0o2775)
    for _ in range(2):
        done = refresher("status", folder=folder, uid=NAMELESS)
        assert done.returncode == 3, done.stderr
        os.chown(volume / "v", NAMELESS, NAMELESS)
        (volume / "v").chmod(0o2770)
        for file in (volume / "key", *(volume / "v").iterdir()):
            file.chmod(0o660)
    (volume / "v").chmod(0o2777)
    done = refresher("status", folder=folder, uid=NAMELESS)
    assert done.returncode == 1
    assert f"chmod go-w {volume / 'v'}" in done.stderr


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602], ids=oct)
def test_the_key_is_its_owners_alone(refresher: Refresher, folder: Path, mode: int) -> None:
    put(folder)
    put_key(folder)
    (folder / "refresher.key").chmod(mode)
    assert refresher("run", folder=folder).returncode == 78
    checked = refresher("check", folder=folder)
    assert checked.returncode == 78
    assert f"chmod 600 {folder / 'refresher.key'}" in checked.stderr


def test_a_backup_is_refused_in_one_line(refresher: Refresher, folder: Path) -> None:
    put(folder)
    put_key(folder)
    assert refresher("status", folder=folder).returncode == 3
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    (folder / "link").symlink_to(folder / "missing")
    (folder / "taken").write_text("mine")
    own(closed, folder / "link", folder / "taken")
    for target in ("closed/copy.db", "nowhere/copy.db", "link", "taken", "."):
        done = refresher("vault", "backup", target, folder=folder)
        assert done.returncode in {1, 2}, target
        assert done.stderr
    assert (folder / "taken").read_text() == "mine"
    assert not (folder / "missing").exists()


def test_a_planted_half_of_a_backup_is_not_followed(refresher: Refresher, folder: Path) -> None:
    put(folder)
    put_key(folder)
    assert refresher("status", folder=folder).returncode == 3
    victim = folder / "victim"
    victim.write_text("precious")
    (folder / "b.db.unfinished").symlink_to(victim)
    own(victim, folder / "b.db.unfinished")
    assert refresher("vault", "backup", "b.db", folder=folder).returncode == 0
    assert victim.read_text() == "precious"
    assert (folder / "b.db").stat().st_mode & 0o777 == 0o600


def test_roots_command_leaves_nothing_that_the_owner_cannot_use(
    refresher: Refresher, folder: Path
) -> None:
    """As root a command goes on as the folder's owner; anybody else is the owner."""
    file = put(folder, spy(folder))
    put_key(folder)
    done = refresher("--config", str(file), "status", folder=Path("/"), uid=0)
    assert done.returncode == 3, done.stderr
    assert not (folder / "pwned").exists()
    command = "{ command = ['sh', '-c', 'id -u > ran_as; echo redis://127.0.0.1:1/0'] }"
    put(folder, GOOD.replace('"redis://127.0.0.1:1/0"', command))
    done = refresher("--config", str(file), "refresh", "waiting", folder=Path("/"), uid=0)
    assert done.returncode == 3, done.stderr
    assert (folder / "ran_as").read_text().strip() == str(USER)
    assert {path.stat().st_uid for path in folder.iterdir()} == {USER}
    assert refresher("status", folder=folder).returncode == 3


def test_init_makes_what_the_folders_owner_can_use(refresher: Refresher, folder: Path) -> None:
    done = refresher("init", "--directory", str(folder / "new"), folder=Path("/"), uid=0)
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in (folder / "new").iterdir()} == {USER}
    assert refresher("check", folder=folder / "new").returncode == 0


ODD_FILES = [
    pytest.param(b"\xff\xfe", "is not UTF-8", id="not UTF-8"),
    pytest.param(b"a" + b".a" * 20_000 + b"=1", "is nested too deeply", id="a long dotted key"),
    pytest.param(b"a" + b".a" * 40 + b"=1", "is nested too deeply", id="a dotted key"),
    pytest.param(b"x=" + b"[" * 30_000, "is nested too deeply", id="lists"),
    pytest.param(b"x=" + b"{a=" * 900 + b"1" + b"}" * 900, "nested too deeply", id="tables"),
    pytest.param(b"x=" + b"9" * 9_000, "a number that cannot be used", id="a long number"),
]


@pytest.mark.parametrize(("content", "fault"), ODD_FILES)
def test_an_odd_settings_file_is_one_line(
    refresher: Refresher, folder: Path, content: bytes, fault: str
) -> None:
    file = put(folder)
    file.write_bytes(content)
    done = refresher("status", folder=folder)
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert fault in line


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "unreadable"])
def test_what_is_no_settings_file_is_one_line(
    refresher: Refresher, folder: Path, kind: str
) -> None:
    file = folder / "odd.toml"
    match kind:
        case "fifo":
            os.mkfifo(file, 0o600)
        case "folder":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")
        case _:
            file.touch(0o000)
    done = refresher("--config", str(file), "health", folder=folder)
    assert done.returncode in {2, 78}
    assert done.stderr


def test_a_folder_that_is_gone_is_no_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingsError, match="none found; tried"):
        load(environment={"HOME": "/"})


def test_a_complaint_is_shown_on_a_terminal_as_plain_text(folder: Path) -> None:
    secret = """{ command = ["sh", "-c", "printf 'locked \\\\033[31m\\\\n' >&2; exit 1"] }"""
    put(folder, CLIENT.format(secret=secret))
    put_key(folder)
    own(*folder.iterdir(), folder, uid=os.geteuid())
    shown = {}
    for option in ("--verbose", "--json"):
        here, terminal = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "refresher", "check", option],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            timeout=PATIENCE,
            check=False,
        )
        os.close(terminal)
        shown[option] = read_all(here)
        assert done.returncode == 78
    assert b"sh: locked \\x1b[31m" in shown["--verbose"]
    assert b"locked" not in shown["--json"]
    assert b"\x1b" not in shown["--verbose"]


def read_all(terminal: int) -> bytes:
    """What was written to the other end, which is closed."""
    received = b""
    with contextlib.suppress(OSError):  # EIO: nobody is left there
        while chunk := os.read(terminal, 65_536):
            received += chunk
    os.close(terminal)
    return received
