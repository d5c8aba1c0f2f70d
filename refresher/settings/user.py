"""Whose work a command does: root's word in somebody's folder is that somebody's word."""

import os
import pwd
from pathlib import Path

from refresher.errors import RefresherError
from refresher.files import Kind, faults_of_folders, faults_of_one, user_name


def become_owner_of(path: Path) -> None:
    """As root, go on for good as the user whom PATH, or else a folder above it, belongs to.

    What root wrote there the daemon could not read, and what its owner put there (commands,
    links) root would follow. Does nothing where all of it is root's, and for anybody else.

    Raises:
        RefresherError: this root may not become another; says what to do instead.
    """
    if os.geteuid() != 0:
        return
    owner = _owner_of(path)
    if owner is None:
        return
    uid, gid = owner
    try:
        try:
            user = pwd.getpwuid(uid)
        except KeyError:
            os.setgroups([gid])
            home = "/"
        else:
            gid, home = user.pw_gid, user.pw_dir
            os.initgroups(user.pw_name, gid)
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        name = user_name(uid)
        raise RefresherError(
            f"{path} belongs to {name}, and this root may not become another user "
            f"({error.strerror}): run this as {name}, for example with sudo -u"
        ) from error
    os.environ["HOME"] = home


def _owner_of(path: Path) -> tuple[int, int] | None:
    """Uid and gid of whoever besides root owns PATH or, nearest first, a folder above it."""
    try:
        # What is still to be made is its folder's.
        of_itself = faults_of_one(path, path.stat()) if path.exists() else ()
        faults = [*of_itself, *reversed(faults_of_folders(path))]
    except OSError:  # whoever opens it next says what is wrong
        return None
    owners = [fault.owner for fault in faults if fault.kind is Kind.OWNER]
    return owners[0] if owners else None
