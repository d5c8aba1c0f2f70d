"""The daemon in a container, with settings, secret, vault and key as compose.yaml has them."""

import json
import os
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.image.building import IMAGE, Storage
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import wait_until

NAME = "refresher"
UID = 10001
KEY_FILE = "/etc/refresher/key/refresher.key"

SETTINGS = """
[redis]
url = "{redis}"

[clients.box]
authorization_endpoint = "{server}/authorize"
token_endpoint = "{server}/token"
redirect_uris = ["{redirect_uri}"]
client_id = "sandbox-client"
client_secret = {{ credential = "box" }}
rotation = "strict"
"""

CLOSED = (
    *("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges"),
    # What podman asks for otherwise may be more than this machine allows.
    *("--ulimit=nofile=16384:16384", "--ulimit=nproc=4096:4096"),
)
"""As in compose.yaml."""


def given_to_the_user(path: Path, content: str) -> None:
    """Write CONTENT to PATH, for the image's user alone."""
    path.write_text(content)
    path.chmod(0o400)
    os.chown(path, UID, UID)


@dataclass(frozen=True, slots=True)
class Container:
    """One daemon; its network is the machine's, where Redis and the server are.

    Args:
        folder: for settings and secrets; vault and key are on two volumes that podman makes.
        http: port of its listener.
    """

    storage: Storage
    folder: Path
    http: int

    def prepare(self, *, redis: str, password: str, server: str, redirect_uri: str) -> None:
        """Write settings and secrets."""
        text = SETTINGS.format(redis=redis, server=server, redirect_uri=redirect_uri)
        given_to_the_user(self.folder / "refresher.toml", text)
        given_to_the_user(self.folder / "redis-password", password)
        given_to_the_user(self.folder / "box", "sandbox-secret")

    def _options(self) -> tuple[str, ...]:
        mounted = {
            self.folder / "refresher.toml": "/etc/refresher/refresher.toml:ro",
            self.folder / "redis-password": "/run/secrets/REFRESHER_REDIS__PASSWORD:ro",
            self.folder / "box": "/run/secrets/box:ro",
            "vault": "/var/lib/refresher",
            "key": "/etc/refresher/key",
        }
        volumes = (f"--volume={source}:{target}" for source, target in mounted.items())
        listen = f"--env=REFRESHER_HTTP__LISTEN=127.0.0.1:{self.http}"
        key = f"--env=REFRESHER_VAULT__KEY_FILE={KEY_FILE}"
        return (*CLOSED, "--network=host", *volumes, listen, key)

    def run_command(self, *command: str) -> str:
        """Run COMMAND in a container of its own; what it printed."""
        return self.storage.podman("run", "--rm", *self._options(), IMAGE, *command).stdout

    def create(self) -> None:
        """Start the daemon, and wait until it is ready."""
        self.storage.podman("run", "--detach", f"--name={NAME}", *self._options(), IMAGE)
        self.wait_until_ready()

    def restart(self) -> None:
        """Start it again where it ended, and wait until it is ready."""
        self.storage.podman("start", NAME)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Ask as an operator would."""
        wait_until(
            lambda: self.inside("refresher", "health", "--ready", check=False).returncode == 0,
            description=f"the daemon is ready: {self.storage.podman('logs', NAME).stdout[-3000:]}",
            every=0.2,
        )

    def inside(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run COMMAND beside the daemon."""
        return self.storage.podman("exec", NAME, *command, check=check)

    def refresh(self, grant: str) -> subprocess.Popen[bytes]:
        """Begin to refresh GRANT."""
        return subprocess.Popen(
            self.storage.command("exec", NAME, "refresher", "refresh", grant),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def log_in(self, grant: str) -> None:
        """A login at the server, by a browser that is urllib."""
        with subprocess.Popen(
            self.storage.command("exec", NAME, "refresher", "login", grant, "--client", "box"),
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        ) as login:
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

    def probe(self, path: str) -> int:
        """The status of PATH at the listener."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}") as answer:
            status: int = answer.status
            return status

    def exit_code(self) -> int:
        """What the daemon ended with."""
        state = json.loads(self.storage.podman("inspect", NAME).stdout)[0]["State"]
        assert state["Status"] == "exited"
        return int(state["ExitCode"])


def is_in_flight(server: SandboxProcess) -> bool:
    """Whether a token request has arrived that is not answered yet."""
    return any(record.answered_at is None for record in server.log())
