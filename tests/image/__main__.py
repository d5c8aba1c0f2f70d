"""Build the image of the Dockerfile and run it as ``deploy/compose.yaml`` would.

No registry of images is asked: the base is a Debian made with mmdebstrap under the name of
the Dockerfile's. It is built with buildah and run by podman with runc, read-only, without
privileges or capabilities, as the Dockerfile's user. Needs root, these programs and
registries of Debian and Python; everything is in a temporary folder and gone afterwards.
Prints one JSON line; raises where a step went wrong.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from redis import Redis

from refresher.demo.private_server import PrivateValkey, free_port
from tests.image import pod
from tests.image.building import Storage, build
from tests.image.container import KEY_FILE, NAME, UID, Container, is_in_flight
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import wait_until

LARGEST = 120 * 1000 * 1000
"""Bytes that the image may add to its base."""

KILLED = 137
PASSWORD = "the password of this run"
GRANT = "box-1"
ANSWER_AFTER = 3.0
"""Seconds that the server takes for an answer, in which the daemon is told to stop."""


def token(redis: Redis) -> dict[str, str]:
    """What a consumer reads."""
    read = redis.hgetall(f"refresher:token:{GRANT}")
    return {str(key): str(value) for key, value in read.items()}


def look_inside(container: Container) -> None:
    """It has no rights, nowhere to write but its volumes, and the key is on one of its own."""
    assert container.inside("id", "-u").stdout.strip() == str(UID)
    assert "CapBnd:\t0000000000000000" in container.inside("cat", "/proc/1/status").stdout
    for path in ("/opt/refresher/x", "/etc/refresher/x"):
        assert container.inside("touch", path, check=False).returncode != 0
    vault = container.inside("ls", "-A", "/var/lib/refresher").stdout.split()
    assert "vault.db" in vault
    assert not any(name.endswith(".key") for name in vault)


def live(container: Container, server: SandboxProcess, redis: Redis) -> dict[str, Any]:
    """From the first start to the last stop."""
    container.run_command("init", "--directory", "/tmp")  # noqa: S108  the container's
    container.create()
    look_inside(container)
    container.storage.podman("healthcheck", "run", NAME)
    probes = [container.probe(path) for path in ("/livez", "/readyz")]

    container.log_in(GRANT)
    wait_until(lambda: token(redis), description="a consumer reads the token")
    first = token(redis)
    container.storage.podman("kill", "--signal=KILL", NAME)
    container.storage.podman("wait", NAME)
    assert container.exit_code() == KILLED
    assert token(redis)["access_token"] == first["access_token"]
    container.restart()

    refreshing = container.refresh(GRANT)
    wait_until(lambda: is_in_flight(server), description="a refresh is in flight")
    container.storage.podman("stop", "--time=90", NAME)
    refreshing.wait()
    stopped, second = container.exit_code(), token(redis)
    assert second["access_token"] != first["access_token"]
    assert int(second["version"]) > int(first["version"])
    assert len(server.log()) == 2
    return {"uid": UID, "probes": probes, "killed": KILLED, "stopped": stopped}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="where the base is kept for another run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-image-") as name:
        storage, folder = Storage(Path(name)), Path(name) / "mounted"
        folder.mkdir()
        Path(name).chmod(0o755)
        added = build(storage, (options.keep or Path(name)) / "base")
        valkey = PrivateValkey("--requirepass", PASSWORD)
        valkey.start()
        redirect_uri = f"http://127.0.0.1:{free_port()}/callback"
        server = SandboxProcess(
            redirect_uris=[redirect_uri],
            access_token_lifetime=3600.0,
            latency=[ANSWER_AFTER, ANSWER_AFTER],
        )
        container = Container(storage, folder, free_port())
        container.prepare(
            redis=valkey.url, password=PASSWORD, server=server.base_url, redirect_uri=redirect_uri
        )
        try:
            with Redis(port=valkey.port, password=PASSWORD, decode_responses=True) as redis:
                told = live(container, server, redis)
            key = container.run_command("init", "--directory", "/tmp")  # noqa: S108  the container's
            assert f"{KEY_FILE} exists" in key
            told["pod_stopped"] = pod.serve(storage, folder / "pod")
        finally:
            storage.podman("rm", "--force", "--all", check=False)
            server.stop()
            valkey.stop()
    told |= {"added_bytes": added}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0 if added < LARGEST and told["stopped"] == told["pod_stopped"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
