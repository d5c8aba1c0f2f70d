"""Settings, key and vault as a pod of ``deploy/kubernetes`` sees them."""

import os
from pathlib import Path

from refresher.vault.sealing import write_key_file
from tests.image.building import IMAGE, Storage, run
from tests.image.container import CLOSED, UID
from tests.support.waiting import wait_until

NAME = "pod"

SETTINGS = '[redis]\nurl = "redis://127.0.0.1:1"\n'


def projected(folder: Path, name: str, content: str) -> Path:
    """A volume as the kubelet writes it for ``fsGroup``: root's, setgid, files behind links."""
    version = folder / "..2026"
    version.mkdir(parents=True)
    (version / name).write_text(content)
    (folder / "..data").symlink_to(version.name)
    (folder / name).symlink_to(f"..data/{name}")
    os.chown(version / name, 0, UID)
    (version / name).chmod(0o440)
    for path in (version, folder):
        os.chown(path, 0, UID)
        path.chmod(0o2750)
    return folder


def serve(storage: Storage, folder: Path) -> int:
    """Start the daemon on what is mounted so, and stop it once it answers; its exit code."""
    vault = folder / "vault"
    vault.mkdir(parents=True)
    os.chown(vault, 0, UID)
    vault.chmod(0o2775)
    write_key_file(folder / "refresher.key")
    key = projected(folder / "key", "refresher.key", (folder / "refresher.key").read_text())
    mounted = {
        key: "/run/refresher-key:ro",
        projected(folder / "settings", "refresher.toml", SETTINGS): "/etc/refresher:ro",
        vault: "/var/lib/refresher",
    }
    volumes = (f"--volume={source}:{target}" for source, target in mounted.items())
    variable = "--env=REFRESHER_VAULT__KEY_FILE=/run/refresher-key/refresher.key"
    options = (*CLOSED, "--network=host", f"--group-add={UID}", variable, *volumes)
    storage.podman("run", "--rm", *options, IMAGE, "check")
    storage.podman("run", "--detach", f"--name={NAME}", *options, IMAGE)
    health = storage.command("exec", NAME, "refresher", "health")
    wait_until(
        lambda: run(*health, check=False).returncode == 0,
        description=f"the pod lives: {storage.podman('logs', NAME).stdout[-3000:]}",
        every=0.2,
    )
    storage.podman("stop", "--time=90", NAME)
    return int(storage.podman("inspect", "--format={{.State.ExitCode}}", NAME).stdout)
