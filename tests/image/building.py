"""The image of the Dockerfile, built without a registry of images."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("python3-venv", "python3-pip", "python-is-python3", "ca-certificates")
IMAGE = "localhost/refresher:test"


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run COMMAND.

    Raises:
        AssertionError: it failed, and CHECK; with what it printed.
    """
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    shown = " ".join(map(str, command))
    assert not check or done.returncode == 0, f"{shown}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


@dataclass(frozen=True, slots=True)
class Storage:
    """A FOLDER with images, containers and volumes of its own, gone with it."""

    folder: Path

    @property
    def _options(self) -> tuple[str, ...]:
        return (f"--root={self.folder}/storage", f"--runroot={self.folder}/run")

    def command(self, *arguments: str) -> list[str]:
        """The command line of podman with ARGUMENTS."""
        return ["podman", *self._options, "--runtime=runc", *arguments]

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman."""
        return run(*self.command(*arguments), check=check)

    def buildah(self, command: str, *arguments: str | Path) -> str:
        """Run COMMAND of buildah; what it printed."""
        return run("buildah", *self._options, command, *arguments).stdout.strip()

    def size_of(self, image: str) -> int:
        """Bytes of IMAGE."""
        return int(json.loads(self.podman("image", "inspect", image).stdout)[0]["Size"])


def base_name() -> str:
    """The image that every stage of the Dockerfile builds on."""
    (name,) = {*re.findall(r"^FROM (\S+)", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)}
    return str(name)


def make_base(storage: Storage, root: Path) -> str:
    """A Debian with Python, kept at ROOT, under the name of the Dockerfile's base; that name."""
    if not root.exists():
        options = ("--variant=minbase", f"--include={','.join(PACKAGES)}", "--quiet")
        run("mmdebstrap", *options, "trixie", root)
    container = storage.buildah("from", "scratch")
    storage.buildah("copy", "--quiet", container, root, "/")
    storage.buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    name = f"docker.io/library/{base_name()}"
    storage.buildah("commit", "--quiet", "--rm", container, name)
    return name


def certificates(folder: Path) -> list[str]:
    """What lets the build ask the registry that pip here asks, by the certificates used here."""
    found = run(sys.executable, "-m", "pip", "config", "list").stdout
    bundle = re.search(r"^\S+\.cert='(.+)'$", found, re.MULTILINE)
    if bundle is None:
        return []
    (folder / "pip.conf").write_text("[global]\ncert = /etc/pip.pem\n")
    return [f"--volume={folder}/pip.conf:/etc/pip.conf:ro", f"--volume={bundle[1]}:/etc/pip.pem:ro"]


def build(storage: Storage, root: Path) -> int:
    """Build the image; how many bytes it adds to its base."""
    base = make_base(storage, root)
    # Of the two formats only Docker's has health checks.
    options = ("--format=docker", "--pull=never", "--network=host", f"--tag={IMAGE}")
    storage.buildah("build", *options, *certificates(storage.folder), CHECKOUT)
    return storage.size_of(IMAGE) - storage.size_of(base)
