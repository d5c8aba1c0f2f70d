"""Commands that secrets come from: what they get, and what is kept of what they say."""

import os
import sys
from pathlib import Path

import pytest

from refresher.settings.commands import clean, clean_own_environment, run
from tests.settings.conftest import CLIENT, Bench

CANARY = "canary-5f1c"
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/home/somebody",
    "LANG": "C.UTF-8",
    "LC_TIME": "C",
    "XDG_RUNTIME_DIR": "/run/user/1",
    "SSH_AUTH_SOCK": "/run/agent",
    "REFRESHER_REDIS__PASSWORD": CANARY,
    "ACME_SECRET": CANARY,
    "NOTIFY_SOCKET": "/run/notify",
    "LD_PRELOAD": "evil.so",
}
PRINT_IT = [sys.executable, "-c", "import os; print(*sorted(os.environ))"]


def test_a_command_gets_a_clean_environment(tmp_path: Path) -> None:
    names = set(run(PRINT_IT, ENVIRONMENT, tmp_path).split())
    expected = {"PATH", "HOME", "LANG", "LC_TIME", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"}
    assert names - {"LC_CTYPE"} == expected  # Python sets LC_CTYPE itself


def test_a_command_of_the_settings_sees_no_other_secret(bench: Bench) -> None:
    source = '{ command = ["sh", "-c", "env; echo; echo done"] }'
    loaded = bench.load(CLIENT.replace('"acme-secret"', source), ENVIRONMENT)
    secret = loaded.settings.clients["acme"].authentication.secret
    assert secret is not None
    assert "PATH=" in secret.reveal()
    assert CANARY not in secret.reveal()


def test_the_environment_of_the_process_can_be_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    try:
        clean_own_environment()
        assert dict(os.environ) == clean(before)
        assert CANARY not in os.environ.values()
    finally:
        os.environ.update(before)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        pytest.param("yes", "printed more than 65536 bytes", id="endless"),
        pytest.param("cat /dev/zero", "printed more than 65536 bytes", id="endless zeroes"),
        pytest.param("sleep 60", "took more than 0.3 s", id="slow"),
        pytest.param("exec >&- 2>&-; sleep 60", "took more than 0.3 s", id="slow and silent"),
        pytest.param("(setsid sleep 60 &)", "took more than 0.3 s", id="child that stays"),
        pytest.param(f"echo token={CANARY} >&2; exit 1", "failed with exit code 1", id="complains"),
        pytest.param(f"echo {CANARY}; exit 2", "failed with exit code 2", id="prints and fails"),
        pytest.param("kill -9 $$", "failed with exit code -9", id="killed"),
        pytest.param("yes >&2 & sleep 0.1; kill $!; exit 3", "exit code 3", id="complains long"),
    ],
)
def test_a_command_that_misbehaves_is_one_line(tmp_path: Path, script: str, fault: str) -> None:
    with pytest.raises(ValueError, match="comes from the command sh") as caught:
        run(["sh", "-c", script], ENVIRONMENT, tmp_path, timeout=5 if "exit" in script else 0.3)
    assert fault in str(caught.value)
    assert str(caught.value).isprintable()
    assert CANARY not in str(caught.value)


def test_a_complaint_goes_to_whoever_asked_for_it(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    with pytest.raises(ValueError, match="exit code 1"):
        run(
            ["sh", "-c", "echo locked >&2; exit 1"],
            ENVIRONMENT,
            tmp_path,
            complain=lambda command, complaint: told.append((command, complaint)),
        )
    assert told == [("sh", "locked\n")]
