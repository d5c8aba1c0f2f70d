"""Whose a file is and who may write it, judged as what was opened and on the whole way to it.

As root the owner is varied by chown; for anybody else the rule is asked as another user.
"""

import errno
import grp
import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from refresher import files
from refresher.files import (
    Fault,
    Kind,
    faults_of,
    faults_of_one,
    faults_of_own_folder,
    is_own_group,
    is_readable_by_others,
    make_folder,
    open_to_read,
    opened_to_write,
    read_file,
)

STRANGER = 4242


@contextmanager
def strangers(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[None]:
    """PATH belongs to somebody else; for want of root's rights, everything does."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        yield
        return
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: STRANGER)
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir(mode=0o700)
    path.write_text("content")
    path.chmod(0o600)
    return path


def kinds(path: Path) -> set[tuple[Kind, str]]:
    """The kinds of fault, and what is at fault by its name."""
    _, faults = read_file(path, largest=100)
    return {(fault.kind, fault.text.split()[0].rpartition("/")[2]) for fault in faults}


def test_ones_own_file_is_without_fault(file: Path) -> None:
    assert read_file(file, largest=100) == (b"content", [])


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666, 0o660, 0o622, 0o777], ids=oct)
def test_a_file_that_others_can_write(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert kinds(file) == {(Kind.WRITABLE, "file")}
    [fault] = faults_of(file, file.stat())
    assert f"(mode {mode:04o})" in fault.text
    assert fault.text.endswith(f"chmod go-w {file}")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400, 0o444, 0o755], ids=oct)
def test_a_file_that_others_can_only_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert kinds(file) == set()


@pytest.mark.parametrize(
    ("mode", "readable"),
    [(0o600, False), (0o644, True), (0o604, True), (0o640, False), (0o711, False)],
    ids=str,
)
def test_who_can_read_it(file: Path, mode: int, *, readable: bool) -> None:
    file.chmod(mode)
    os.chown(file, -1, os.getegid())
    assert is_readable_by_others(file) is readable
    assert not is_readable_by_others(file.with_name("missing"))


def test_a_folder_on_the_way_that_others_can_write(file: Path) -> None:
    for mode in (0o770, 0o702, 0o777):
        file.parent.chmod(mode)
        assert kinds(file) == {(Kind.WRITABLE, "folder")}
    file.parent.chmod(0o700)
    file.parent.parent.chmod(0o777)
    assert kinds(file) == {(Kind.WRITABLE, file.parent.parent.name)}


def test_in_a_sticky_folder_nobody_replaces_anothers_file(file: Path) -> None:
    file.parent.chmod(0o1777)
    assert kinds(file) == set()
    assert [fault.kind for fault in faults_of_own_folder(file.parent)] == [Kind.WRITABLE]


def test_a_stranger_in_a_sticky_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.parent.chmod(0o1777)
    with strangers(monkeypatch, file):
        assert (Kind.OWNER, "file") in kinds(file)


def test_a_file_or_a_folder_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with strangers(monkeypatch, file):
        assert (Kind.OWNER, "file") in kinds(file)
    with strangers(monkeypatch, file.parent):
        faults = read_file(file, largest=100)[1]
    [fault] = [each for each in faults if each.text.startswith(f"{file.parent} ")]
    assert "who could replace what is in it: chown " in fault.text


def test_links_are_followed_and_every_folder_on_the_way_is_judged(
    tmp_path: Path, file: Path
) -> None:
    """As a secret store lays them out: file -> ..data/file, ..data -> a folder of its own."""
    mount, link = tmp_path / "mount", tmp_path / "mount" / "secret"
    mount.mkdir(mode=0o700)
    (mount / "..data").symlink_to("../folder")
    link.symlink_to("..data/file")
    assert read_file(link, largest=100) == (b"content", [])
    mount.chmod(0o777)
    assert kinds(link) == {(Kind.WRITABLE, "mount")}
    mount.chmod(0o700)
    file.parent.chmod(0o777)
    assert kinds(link) == {(Kind.WRITABLE, "folder")}
    file.parent.chmod(0o700)
    file.chmod(0o666)
    assert kinds(link) == {(Kind.WRITABLE, "secret")}


def test_a_link_in_a_sticky_folder_is_its_owners(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "link"
    link.symlink_to(file)
    assert kinds(link) == set()
    with strangers(monkeypatch, link):
        faults = faults_of(link, file.stat())
    assert any(fault.kind is Kind.OWNER and str(link) in fault.text for fault in faults)


def test_a_chain_of_links_ends(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(ValueError, match="cannot be read: Too many levels"):
        read_file(loop, largest=1)
    assert [fault.kind for fault in files.faults_of_folders(loop)] == []


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zeroes(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [fifo, Path.mkdir, zeroes], ids=["fifo", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "odd")
    with pytest.raises(ValueError, match="is no regular file"):
        open_to_read(tmp_path / "odd")


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="is larger than 100 bytes"):
        read_file(tmp_path / "sparse", largest=100)


def test_what_is_written_is_never_a_link(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious")
    for target in (victim, tmp_path / "missing"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(OSError, match="symbolic links"):
            opened_to_write(link)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "missing").exists()


def test_what_is_written_is_made_private_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    before = os.umask(0)
    try:
        os.close(opened_to_write(path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("kept")
    os.close(opened_to_write(path))
    assert path.read_text() == "kept"


@pytest.mark.parametrize("make", [fifo, Path.mkdir], ids=["fifo", "folder"])
def test_what_is_written_is_a_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "odd")
    with pytest.raises((OSError, ValueError), match=r"no regular file|Is a directory"):
        opened_to_write(tmp_path / "odd")


def test_what_is_written_is_nobody_elses(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o606)
    with pytest.raises(ValueError, match="is writable by others"):
        opened_to_write(file)
    file.chmod(0o600)
    with strangers(monkeypatch, file), pytest.raises(ValueError, match="belongs to"):
        opened_to_write(file)


def test_folders_are_made_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folder(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    modes = [(tmp_path / path).stat().st_mode & 0o777 for path in ("a", "a/b", "a/b/c")]
    assert modes == [0o755, 0o755, 0o700]
    assert faults_of_own_folder(tmp_path / "a" / "b" / "c") == []


def test_where_nobody_can_write_no_mode_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform mounts secrets read-only, with the owner and the mode that it chose."""
    file.chmod(0o666)
    monkeypatch.setattr(files, "_is_read_only", lambda _: True)
    assert read_file(file, largest=100)[1] == []


def test_a_fault_names_its_owner(file: Path) -> None:
    file.chmod(0o666)
    [fault] = faults_of(file, file.stat())
    assert isinstance(fault, Fault)
    assert fault.owner == (file.stat().st_uid, file.stat().st_gid)


def user(name: str, uid: int, gid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/false"))


FSGROUP = 70_000
"""A group that a platform gave to the process, without a name."""

ME = user("me", 4001, 4001)
OTHER = user("other", 4002, 4002)
IN_IT_FIRST = user("other", 4002, FSGROUP)


@dataclass(frozen=True)
class Machine:
    """Who is on a machine, and in which group each is."""

    groups: tuple[int, ...] = (4001, FSGROUP)
    users: tuple[pwd.struct_passwd, ...] = (user("root", 0, 0), ME, OTHER)
    name: str | None = None
    """Of the group FSGROUP."""
    members: tuple[str, ...] = ()

    def put(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be ME on it, in the group that owns whatever there is."""

        def named(gid: int) -> grp.struct_group:
            if self.name is None:
                raise KeyError(gid)
            return grp.struct_group((self.name, "x", gid, list(self.members)))

        monkeypatch.setattr(os, "geteuid", lambda: ME.pw_uid)
        monkeypatch.setattr(os, "getegid", lambda: self.groups[0])
        monkeypatch.setattr(os, "getgroups", lambda: list(self.groups))
        monkeypatch.setattr(pwd, "getpwall", lambda: list(self.users))
        monkeypatch.setattr(grp, "getgrgid", named)


def of_group(gid: int, mode: int) -> os.stat_result:
    """The status of something of ME and of the group GID."""
    return os.stat_result((mode, 1, 1, 1, ME.pw_uid, gid, 0, 0, 0, 0))


MACHINES = [
    pytest.param(Machine(), True, id="a volume's group without a name"),
    pytest.param(Machine(name="me"), True, id="the user's own group"),
    pytest.param(Machine(name="root", members=("root",)), True, id="root's group"),
    pytest.param(Machine(groups=(4001,)), False, id="not in it"),
    pytest.param(Machine(users=(ME, IN_IT_FIRST)), False, id="another's primary group"),
    pytest.param(Machine(name="me", members=("me", "other")), False, id="a member"),
    pytest.param(Machine(name="users"), False, id="whose members need not be listed"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a group is never one's own")
@pytest.mark.parametrize(("machine", "own"), MACHINES)
def test_a_group_may_write_the_daemons_files_if_nobody_else_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine, *, own: bool
) -> None:
    """As a Kubernetes volume with fsGroup is: folders 2775, files 0660, the group its own."""
    machine.put(monkeypatch)
    volume = of_group(FSGROUP, stat.S_IFDIR | 0o2775)
    monkeypatch.setattr(Path, "stat", lambda _: volume)
    for kind, mode in ((stat.S_IFDIR, 0o2775), (stat.S_IFDIR, 0o2770), (stat.S_IFREG, 0o660)):
        status = of_group(FSGROUP, kind | mode)
        faults = [*faults_of_one(tmp_path, status, sticks=False, of_daemon=True)]
        assert [fault.kind for fault in faults] == ([] if own else [Kind.WRITABLE])
        strict = [*faults_of_one(tmp_path, status)]
        assert [fault.kind for fault in strict] == [Kind.WRITABLE], "what may name commands"
        everybody = [*faults_of_one(tmp_path, of_group(FSGROUP, kind | 0o777), of_daemon=True)]
        assert [fault.kind for fault in everybody] == [Kind.WRITABLE]


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(of_group(FSGROUP, stat.S_IFDIR | 0o770), id="not setgid"),
        pytest.param(of_group(4001, stat.S_IFDIR | 0o2770), id="another group's"),
    ],
)
def test_elsewhere_than_on_a_volume_a_group_is_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: os.stat_result
) -> None:
    Machine().put(monkeypatch)
    monkeypatch.setattr(Path, "stat", lambda _: folder)
    assert not is_own_group(tmp_path, of_group(FSGROUP, stat.S_IFREG | 0o660))
    assert not is_own_group(tmp_path, of_group(FSGROUP, stat.S_IFDIR | 0o770))


@pytest.mark.parametrize("error", [errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES, None], ids=str)
def test_with_an_access_list_the_groups_bits_are_its_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    def listed(*_: object) -> bytes:
        if error is not None:
            raise OSError(error, os.strerror(error))
        return b"a list"

    Machine().put(monkeypatch)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "getxattr", listed, raising=False)
    own = is_own_group(tmp_path, of_group(FSGROUP, stat.S_IFDIR | 0o2770))
    assert own is (error in {errno.ENODATA, errno.EOPNOTSUPP})
