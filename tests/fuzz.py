"""Ask a real daemon's control socket for whatever its description allows: ``python -m tests.fuzz``.

Schemathesis makes requests from ``/openapi.json``, those that it allows and those that it does
not, and judges the answers: no 500, nothing undescribed, nothing wrong taken, and nothing right
refused. Prints one JSON line.
"""

import argparse
import json
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.rig import Rig

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "unsupported_method",
)


@contextmanager
def over_tcp(path: Path) -> Iterator[int]:
    """A port of loopback behind which the Unix socket PATH is: Schemathesis knows TCP alone."""

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            """One connection, to the end of both directions."""
            with socket.socket(socket.AF_UNIX) as inner:
                inner.connect(str(path))
                back = threading.Thread(target=pump, args=(inner, self.request))
                back.start()
                pump(self.request, inner)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """All that comes from SOURCE, to SINK."""
    with suppress(OSError):
        while some := source.recv(65_536):
            sink.sendall(some)
        sink.shutdown(socket.SHUT_WR)


def fuzz(folder: Path, *, examples: int, seed: int | None = None) -> str:
    """Ask for each operation up to so many EXAMPLES; what Schemathesis printed.

    Raises:
        AssertionError: some answer was wrong, or the daemon met a bug.
    """
    with Rig(folder, rotation="none", server={"rotation": "none"}) as rig:
        rig.import_grants(3)
        rig.daemon.start()
        with over_tcp(folder / "refresher.sock") as port:
            base = f"http://127.0.0.1:{port}"
            chosen = [] if seed is None else ["--seed", str(seed)]
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "schemathesis.cli", "run", f"{base}/openapi.json"),
                    *("--url", base, "--checks", ",".join(CHECKS), "--no-color"),
                    *("--max-examples", str(examples), "--phases", "coverage,fuzzing"),
                    *("--generation-database", "none", "--request-timeout", "60", *chosen),
                ],
                check=False,
                capture_output=True,
                text=True,
                cwd=folder,
            )
        assert done.returncode == 0, done.stdout + done.stderr
        bugs = [line for line in rig.daemon.events() if line["event"] == "operation.failed"]
        assert not bugs, bugs
        assert rig.daemon.process is not None
        assert rig.daemon.process.poll() is None, "the daemon has ended"
    return done.stdout


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        printed = fuzz(Path(folder), examples=asked.examples, seed=asked.seed)
    told = [line.strip() for line in printed.splitlines() if line.strip()]
    sys.stdout.write(json.dumps({"examples": asked.examples, "told": told[-3:]}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
