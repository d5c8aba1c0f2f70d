"""The first ten minutes of the README, done: what every command of them prints today."""

import os
import pty
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from refresher.cli.sandbox import PORT, REDIRECT_URI, REDIS_PORT
from refresher.demo.private_server import free_port
from tests.support.waiting import wait_until

FOLDER = "/home/you/practice"
"""Where the README's reader sits."""

REDIS = f'[redis]\nurl = "redis://127.0.0.1:{REDIS_PORT}/0"\n\n'
"""What the sandbox prints only where its Redis is not at the usual port."""

READY = ("daemon.ready", "redis.connected", "mirror.rebuilt")
"""Events after which nothing more is said until a command comes."""

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What moves the cursor of a terminal and colours it."""

TOOLS = {
    "redis-cli": """
from redis import Redis
with Redis(port={redis_port}, decode_responses=True) as redis:
    print(redis.execute_command(*sys.argv[1:]))
""",
    "curl": """
from urllib.request import Request, urlopen
_, _, header, url = sys.argv
with urlopen(Request(url, headers=dict([header.split(": ")]))) as answer:
    print(answer.read().decode())
""",
}
"""As much of the shell's tools as the page needs: the machine of a test has perhaps none."""


def started(
    *words: str, output: int | IO[bytes], env: Mapping[str, str], folder: Path | None = None
) -> subprocess.Popen[str]:
    """A command of ours, started; whoever calls ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "refresher", *words],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Practice:
    """A folder in which the reader's commands run, on ports that are free here.

    Attributes:
        said: what each command printed, by the name of its sample, as the reader sees it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[str, str] = {}
        ports = (PORT, REDIS_PORT, int(REDIRECT_URI.split(":")[2].partition("/")[0]))
        self._ports = {f":{port}": f":{free_port()}" for port in ports}
        # A browser would have to be clicked; consent() follows the address instead.
        self.environment = {
            **{name: value for name, value in os.environ.items() if "REFRESHER" not in name},
            "BROWSER": "true",
            "COLUMNS": "100",
            "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "REFRESHER_LOG__FORMAT": "console",
        }

    def here(self, text: str) -> str:
        """TEXT of a page with this machine's ports."""
        for documented, real in self._ports.items():
            text = text.replace(documented, real)
        return text

    def documented(self, text: str) -> str:
        """TEXT that was printed here, with the ports and the folder of the page."""
        for documented, real in self._ports.items():
            text = text.replace(real, documented)
            text = text.replace(real.replace(":", "%3A"), documented.replace(":", "%3A"))
        text = text.replace(str(self.folder), FOLDER).replace(REDIS, "")
        return "\n".join(line.rstrip() for line in CODES.sub("", text).splitlines()).strip("\n")

    def port(self, documented: int) -> str:
        return self._ports[f":{documented}"][1:]

    def started(self, output: int | IO[bytes], *words: str) -> subprocess.Popen[str]:
        """A command of ours in this folder."""
        return started(*words, output=output, env=self.environment, folder=self.folder)

    def command(self, *words: str) -> str:
        """What a command of ours prints; it must end well."""
        with self.started(subprocess.PIPE, *words) as process:
            said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    def script(self, *command: str) -> str:
        """What a program of the reader's prints."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return self.documented(done.stdout)

    @contextmanager
    def serving(self, sample: str, words: tuple[str, ...], *marks: str) -> Iterator[str]:
        """A command that goes on, until the block ends; what it says until all MARKS came."""
        log = self.folder / f"{sample}.log"
        with log.open("wb") as output:
            process = self.started(output, *words)
        try:
            wait_until(
                lambda: _holds(log.read_text(), marks) or process.poll(),
                description=f"{sample} is ready",
            )
            said = log.read_text()
            assert process.poll() is None, said
            yield said
        finally:
            process.terminate()
            process.wait(timeout=60)

    def log_in(self) -> str:
        """What ``login`` prints once its address was followed, as by a browser."""
        log = self.folder / "login.log"
        with log.open("wb") as output:
            process = self.started(output, "login", "practice")
        try:
            wait_until(
                lambda: re.search(r"http://\S+\s", log.read_text()) or process.poll(),
                description="login shows its address",
            )
            found = re.search(r"http://\S+", log.read_text())
            assert found, log.read_text()
            with urllib.request.urlopen(found[0], timeout=30) as page:  # noqa: S310  loopback
                assert page.status == 200
            assert process.wait(timeout=60) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
        return log.read_text()


@contextmanager
def practised(folder: Path) -> Iterator[Practice]:
    """Everything of the ten minutes done in FOLDER, the daemon still running in the block."""
    practice = Practice(folder)
    (folder / "bin").mkdir()
    for name, program in TOOLS.items():
        tool = folder / "bin" / name
        code = program.format(redis_port=practice.port(REDIS_PORT))
        tool.write_text(f"#!{sys.executable}\nimport sys{code}")
        tool.chmod(0o700)
    said = practice.said

    def sample(name: str, words: str, printed: str) -> None:
        said[name] = f"$ {words}\n{practice.documented(printed)}"

    sandbox = ("sandbox", "--port", practice.port(PORT), "--redis", practice.port(REDIS_PORT))
    with practice.serving("sandbox", sandbox, 'client = "sandbox"\n') as printed:
        sample("sandbox", "refresher sandbox --redis", printed)
        sample("init", "refresher init", practice.command("init"))
        _, _, pasted = printed.partition("\n\n")
        with (folder / "refresher.toml").open("a") as settings:
            settings.write("\n" + practice.here(pasted))
        sample("check", "refresher check", practice.command("check"))
        with practice.serving("run", ("run",), *READY) as log:
            sample("run", "refresher run", log)
            shortened = re.sub(r"(&redirect_uri=)\S+", r"\1...", practice.log_in())
            sample("login", "refresher login practice", shortened)
            sample("status", "refresher status", practice.command("status"))
            token = practice.command("token", "practice")
            sample("token", "refresher token practice", token)
            yield practice


def demonstrated(seconds: int) -> str:
    """What a terminal shows at the end of a demo of so many SECONDS."""
    ours, theirs = pty.openpty()
    with started(
        *("demo", "--for", f"{seconds}s"),
        output=theirs,
        env={**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        assert process.wait(timeout=60) == 0, shown.decode()
    os.close(ours)
    text = CODES.sub("", shown.decode()).replace("\r", "")
    last = " " + text[text.rindex("GRANT ") :]
    return "$ refresher demo\n" + "\n".join(line.rstrip() for line in last.splitlines() if line)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where the other end is closed
        return b""


def samples(*, demo_seconds: int) -> Mapping[str, str]:
    """What every sample of the README is today, by its name."""
    # No longer than the folder that the page names, or a line of the log is broken elsewhere.
    with tempfile.TemporaryDirectory(prefix="") as name, practised(Path(name)) as practice:
        return {**practice.said, "demo": demonstrated(demo_seconds)}


def shape(sample: str) -> list[str]:
    """What must stay the same of SAMPLE: its lines without times, numbers and random parts.

    Whether a grant of the demo has been refreshed yet is a matter of time, too.
    """
    text = re.sub(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "T", sample)
    text = re.sub(r"[█░]+", "=", text)
    text = re.sub(r"\bat-[\w-]+|\b[0-9a-f]{16}\b", "R", text)
    text = re.sub(r"-?\d+(\.\d+)?|\bNone\b", "0", text).replace("refreshed", "-")
    return sorted({re.sub(r" +", " ", line).strip() for line in text.splitlines() if line.strip()})


def _holds(text: str, marks: Sequence[str]) -> bool:
    """Whether TEXT, whose last line is whole, has all MARKS."""
    return text.endswith("\n") and all(mark in text for mark in marks)
