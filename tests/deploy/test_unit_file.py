"""What the systemd unit promises."""

import re

import pytest

from refresher.listening import MOST
from refresher.ops.control import FINISH_WITHIN
from refresher.settings.document import DaemonSection
from tests.deploy.files import CHECKOUT, unit_of

PATH = CHECKOUT / "deploy" / "refresher.service"
UNIT = unit_of(PATH)


def test_stopping_waits_for_every_exchange() -> None:
    seconds = float(UNIT["TimeoutStopSec"][0])
    publishing = 5.0
    assert seconds >= 45
    assert seconds > DaemonSection().shutdown_deadline + publishing + FINISH_WITHIN


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("Restart", "always"),
        ("RestartSec", "1"),
        ("StartLimitIntervalSec", "0"),
        ("KillMode", "mixed"),
        ("StateDirectoryMode", "0700"),
        ("RuntimeDirectoryMode", "0700"),
        ("UMask", "0077"),
        ("LimitCORE", "0"),
        ("MemoryMax", "4G"),
        ("OOMScoreAdjust", "-500"),
        # A secret's command that is killed for its memory is no end of the daemon.
        ("OOMPolicy", "continue"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("PrivateTmp", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("CapabilityBoundingSet", ""),
    ],
)
def test_a_promise_is_kept_once(setting: str, value: str) -> None:
    assert UNIT[setting] == [value]


def test_a_reload_reads_the_settings_first() -> None:
    check, signal = UNIT["ExecReload"]
    assert check == "/opt/refresher/bin/refresher check"
    assert signal == "/bin/sh -c 'kill -HUP $MAINPID'"  # there may be no /bin/kill


def test_a_standby_differs_in_its_start_alone() -> None:
    standby = unit_of(PATH.with_name("refresher-standby.conf"))
    assert standby["ExecStart"] == ["", f"{UNIT['ExecStart'][0]} --standby"]
    assert standby["TimeoutStartSec"] == ["infinity"]
    assert standby.keys() == {"Description", "ExecStart", "TimeoutStartSec"}


def test_descriptors_suffice_for_all_that_may_be_open() -> None:
    """Every worker, a gate for each of a thousand clients, as many late answers, both listeners."""
    workers, clients, each = DaemonSection().workers, 1000, 3
    needed = (2 * workers + 2 * clients) * each + 2 * MOST
    (limit,) = UNIT["LimitNOFILE"]
    assert int(limit) > 2 * needed


def test_containers_have_the_same_bounds() -> None:
    compose = (CHECKOUT / "deploy" / "compose.yaml").read_text()
    (limit,), (memory,), (adjust,) = (
        UNIT[name] for name in ("LimitNOFILE", "MemoryMax", "OOMScoreAdjust")
    )
    assert f"nofile: {limit}\n" in compose
    assert f"mem_limit: {memory.lower()}\n" in compose
    assert f"oom_score_adj: {adjust}\n" in compose


def test_it_runs_as_the_user_that_is_made() -> None:
    made = (CHECKOUT / "deploy" / "refresher.sysusers.conf").read_text()
    (name,) = UNIT["User"]
    assert name != "root"
    assert re.search(rf"^u {name} ", made, re.MULTILINE)
    assert UNIT["StateDirectory"] == ["refresher"]


def test_only_needed_kinds_of_sockets_are_open() -> None:
    assert UNIT["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]
    assert UNIT["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


def test_comments_stand_on_lines_of_their_own() -> None:
    # systemd takes a comment behind a value for a part of it
    assert [value for values in UNIT.values() for value in values if "#" in value] == []
