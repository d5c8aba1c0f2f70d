"""What is typed on the fresh machine; runs there, with nothing but Debian's Python."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

RESULTS = Path("/srv/results")
SETTINGS = Path("/etc/refresher/refresher.toml")
PROGRAM = "/opt/refresher/bin/refresher"
PATIENCE = 120.0
NAMESPACE = "refresher:token:box-1"

CLIENT = """
[clients.box]
authorization_endpoint = "http://127.0.0.1:8080/authorize"
token_endpoint = "http://127.0.0.1:8080/token"
redirect_uris = ["http://127.0.0.1:8765/callback/box"]
client_id = "sandbox-client"
client_secret = "sandbox-secret"
"""


def shell(script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run SCRIPT as root types it, in the checkout."""
    return subprocess.run(  # noqa: S602  it is what a person types
        script, shell=True, check=check, capture_output=True, text=True, cwd="/srv/refresher"
    )


def told(step: str, *, ok: bool, text: str) -> None:
    """Keep what became of STEP."""
    line = json.dumps({"step": step, "ok": ok, "told": text.strip()[-2000:]})
    with RESULTS.open("a") as results:
        results.write(line + "\n")


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether CONDITION comes about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def is_active(unit: str = "refresher") -> bool:
    """Whether systemd holds UNIT for started."""
    return shell(f"systemctl is-active {unit}", check=False).stdout == "active\n"


def pid(unit: str = "refresher") -> int:
    """The main process of UNIT, or 0."""
    return int(shell(f"systemctl show -P MainPID {unit}").stdout)


def token() -> str:
    """The access token that a consumer reads now."""
    return shell(f"redis-cli hget {NAMESPACE} access_token", check=False).stdout.strip()


def install() -> str:
    """The commands of the page; the settings are edited before the last one."""
    *before, last = Path("/srv/commands").read_text().strip().splitlines()
    shell("set -e\n" + "\n".join(before))
    with SETTINGS.open("a") as settings:
        settings.write(CLIENT)
    shell("systemd-run --unit=sandbox " + PROGRAM + " sandbox --port 8080 --options-json "
          """'{"redirect_uris": ["http://127.0.0.1:8765/callback/box"]}'""")  # fmt: skip
    shell(last)
    assert is_active()
    return "active after the page's last command"


def log_in() -> str:
    """A login beside the daemon, by a browser that is urllib."""
    command = ["sudo", "-u", "refresher", PROGRAM, "login", "box-1", "--client", "box"]
    with subprocess.Popen(
        command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "BROWSER": "true"},
    ) as login:  # fmt: skip
        assert login.stdout is not None
        said = ""
        while not (found := re.search(r"^  (http\S+)$", said, flags=re.MULTILINE)):
            line = login.stdout.readline()
            assert line, said
            said += line
        with urllib.request.urlopen(found[1]) as page:  # noqa: S310  loopback
            page.read()
        said += login.stdout.read()
    assert login.returncode == 0, said
    assert eventually(lambda: bool(token()))
    return said.splitlines()[-1]


def reload() -> str:
    """A reload of good settings works, one of broken ones fails and changes nothing."""
    shell("systemctl reload refresher")
    good, before = SETTINGS.read_text(), pid()
    SETTINGS.write_text(good + "nonsense = 1\n")
    refused = shell("systemctl reload refresher", check=False)
    SETTINGS.write_text(good)
    shell("systemctl reload refresher")
    assert refused.returncode != 0
    assert is_active()
    assert pid() == before
    return refused.stderr


def back_off() -> str:
    """Broken settings are tried a few times a minute, and mended ones started."""
    good = SETTINGS.read_text()
    SETTINGS.write_text(good + "nonsense = 1\n")
    shell("systemctl restart refresher", check=False)
    time.sleep(20)
    restarts = int(shell("systemctl show -P NRestarts refresher").stdout)
    SETTINGS.write_text(good)
    shell("systemctl restart refresher")
    assert is_active()
    assert restarts <= 3
    return f"{restarts} restarts in 20 s"


def exposure() -> str:
    """What is left of the machine's surface."""
    said = shell("systemd-analyze security refresher").stdout.splitlines()[-1]
    found = re.search(r"([\d.]+) OK", said)
    assert found is not None
    assert float(found[1]) <= 1.2
    return said


def kill() -> str:
    """A daemon that is killed is started again, and there is a token before and after."""
    assert eventually(lambda: bool(token()))
    before = pid()
    os.kill(before, signal.SIGKILL)
    assert token()
    assert eventually(lambda: is_active() and pid() not in {0, before})
    assert eventually(lambda: bool(token()))
    return f"process {before} became {pid()}"


def stand_by() -> str:
    """A standby takes over from a daemon that was stopped, and is started again itself."""
    page = Path("/srv/refresher/deploy/refresher-standby.conf").read_text()
    commands = "\n".join(line[3:] for line in page.splitlines() if line.startswith("#   "))
    shell("cd deploy && set -e\n" + commands)
    assert eventually(lambda: pid("refresher-standby") != 0)
    time.sleep(5)  # it has to be waiting
    assert not is_active("refresher-standby")
    os.kill(pid(), signal.SIGSTOP)
    assert eventually(lambda: is_active("refresher-standby"))
    shell(f"sudo -u refresher {PROGRAM} refresh box-1")
    return "the standby is active and refreshes"


STEPS = {
    "install": install,
    "login": log_in,
    "reload": reload,
    "exit 78": back_off,
    "exposure": exposure,
    "kill -9": kill,
    "standby": stand_by,
}


def main() -> None:
    """Go through the steps; one that fails ends them."""
    for name, step in STEPS.items():
        try:
            text = step()
        except Exception as error:  # noqa: BLE001  it is kept, and fails the run
            output = getattr(error, "stderr", "") or ""
            journal = shell("journalctl -u refresher -u refresher-standby -n 8 -o cat").stdout
            told(name, ok=False, text=f"{error!r} {output}\n{journal}")
            return
        told(name, ok=True, text=text)
    told("end", ok=True, text="all steps")


if __name__ == "__main__":
    main()
