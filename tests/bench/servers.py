"""The servers of a figure seen from this program: the token endpoint, and Redis as it is read."""

import json
import socket
import subprocess
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis

from refresher.demo.private_server import PrivateValkey, free_port
from tests.bench.ground import ROOT, Look, await_count, cpu_seconds
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Mark:
    """One answer of the endpoint; wall times."""

    grant: int
    came: float
    answered: float


class Endpoint:
    """The token endpoint, asked over one kept-alive connection of our own."""

    def __init__(self, python: Path) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [str(python), "-m", "tests.bench.peers.endpoint", str(self.port)], cwd=ROOT
        )
        self._connection: socket.socket | None = None
        wait_until(self._connect, description="the endpoint listens")

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def answered(self) -> int:
        """How many exchanges it has answered with tokens."""
        return self.counts()["answered"]

    def counts(self) -> dict[str, int]:
        """Answers with tokens, with 429, and to tokens that were not the current ones."""
        counts: dict[str, int] = json.loads(self._ask("/counts"))
        return counts

    def marks(self) -> list[Mark]:
        """Every answer with tokens, in order."""
        values = array("d")
        values.frombytes(self._ask("/marks"))
        return [
            Mark(int(values[n]), values[n + 1], values[n + 2]) for n in range(0, len(values), 3)
        ]

    def limit(self, rate: float) -> None:
        """Answer RATE requests a second from now on, and the rest with 429."""
        self._ask(f"/limit/{rate}")

    def stop(self) -> None:
        """End it.

        Raises:
            AssertionError: somebody presented a refresh token that was not the current one.
        """
        wrong = self.counts()["wrong"]
        assert self._connection is not None
        self._connection.close()
        self._process.kill()
        self._process.wait()
        assert wrong == 0, f"{wrong} requests presented a wrong refresh token"

    def _connect(self) -> bool:
        assert self._process.poll() is None, "the endpoint ended"
        try:
            self._connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        except ConnectionRefusedError:
            return False
        return True

    def _ask(self, path: str) -> bytes:
        assert self._connection is not None
        self._connection.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._connection.recv(65_536)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"Content-Length: ")[2])
        pieces, size = [body], len(body)
        while size < length:
            pieces.append(self._connection.recv(1_048_576))
            size += len(pieces[-1])
        return b"".join(pieces)


def look_when(endpoint: Endpoint, pid: int, count: Callable[[], float], at_least: float) -> Look:
    """The answers of ENDPOINT and the clocks, once COUNT says AT_LEAST that.

    Args:
        pid: the process that is measured.
    """
    await_count(count, at_least)
    answers = endpoint.answered()
    return Look(answers, cpu_seconds(pid), time.monotonic(), cpu_seconds(endpoint.pid))


def connect(valkey: PrivateValkey) -> Any:
    """A connection to VALKEY."""
    return redis.Redis(port=valkey.port, socket_timeout=None)


class Readers:
    """A consumer of every token, as long as the block lasts: when each new one could be read.

    A message is published by the script that writes the token, so who hears it can read it.
    """

    def __init__(self, valkey: PrivateValkey, version: int) -> None:
        self._valkey = connect(valkey)
        self._version = version
        self._messages = self._valkey.pubsub(ignore_subscribe_messages=True)
        self._messages.psubscribe("refresher:token:*")
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self.renewed: dict[int, float] = {}
        """When the first token newer than the vault's first could be read, by grant."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._valkey.close()

    def _listen(self) -> None:
        while not self._ends.is_set():
            message = self._messages.get_message(timeout=0.2)
            if message is None:
                continue
            heard = time.time()
            token = json.loads(message["data"])
            if token.get("version", 0) > self._version:
                number = int(message["channel"].rpartition(b":g")[2])
                self.renewed.setdefault(number, heard)
