"""A log that nobody reads costs lines, counted and told later, and holds up nobody."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from refresher import logs
from refresher.logs import Event, emit, writer
from tests.support.waiting import wait_until

SMALL = 20_000
"""Bytes of lines kept of each kind here."""


@pytest.fixture(autouse=True)
def _small_queues(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(writer, "ROUTINE_BYTES", SMALL)
    monkeypatch.setattr(writer, "URGENT_BYTES", SMALL)
    yield
    structlog.reset_defaults()


class Pipe:
    """A full pipe that the log is written to, and that is read when the test likes."""

    def __init__(self, *, blocking: bool = True) -> None:
        self.reader, self._writer = os.pipe()
        self.stream = os.fdopen(self._writer, "w")
        self.received = b""
        os.set_blocking(self._writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self._writer, b"\n" * 1000)
        os.set_blocking(self._writer, blocking)

    def read(self) -> None:
        """Read on in a thread until the log closes its end."""
        while content := os.read(self.reader, 4096):
            self.received += content

    def lines(self) -> list[dict[str, Any]]:
        """What came, each line whole."""
        return [json.loads(line) for line in self.received.split(b"\n") if line]


@pytest.fixture(params=[True, False], ids=["blocking", "not blocking"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    made = Pipe(blocking=request.param)
    logs.configure(output=made.stream, json_lines=True)
    emit(Event.DAEMON_STARTED, pid=-1)
    [used] = logs._writers
    wait_until(lambda: not used._routine.lines, description="its thread is held up")
    yield made
    logs.configure(output=io.StringIO(), json_lines=True)
    os.close(made.reader)
    made.stream.close()


def read_to_the_end(pipe: Pipe) -> list[dict[str, Any]]:
    """Everything that is written once somebody reads."""
    reading = threading.Thread(target=pipe.read, daemon=True)
    reading.start()
    assert logs.flush(within=30)
    os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.stream.fileno())
    reading.join(30)
    assert not reading.is_alive()
    return pipe.lines()


def test_a_pipe_that_nobody_reads_costs_lines_of_routine_first(pipe: Pipe) -> None:
    """Nobody waits, the order holds, one line tells the gap, and no warning is missing."""
    for number in range(3000):
        emit(Event.DAEMON_STARTED, pid=number)
        if number % 100 == 0:
            emit(Event.DAEMON_STALLED, count=number)
    assert not logs.flush(within=0.01)
    lines = read_to_the_end(pipe)
    assert [line["count"] for line in lines if line["event"] == "daemon.stalled"] == list(
        range(0, 3000, 100)
    )
    routine = [line["pid"] for line in lines if line["event"] == "daemon.started"]
    assert routine == list(range(-1, len(routine) - 1))
    [gap] = [line["count"] for line in lines if line["event"] == "log.interrupted"]
    assert gap == 3001 - len(routine) > 0


def test_warnings_are_bounded_too(pipe: Pipe) -> None:
    for number in range(3000):
        emit(Event.DAEMON_STALLED, count=number)
    emit(Event.DAEMON_READY, instance="after them")
    lines = read_to_the_end(pipe)
    urgent = [line for line in lines if line["event"] == "daemon.stalled"]
    [gap] = [line["count"] for line in lines if line["event"] == "log.interrupted"]
    assert gap == 3000 - len(urgent) > 0
    assert [line["event"] for line in lines].count("daemon.ready") == 1


class Refusing(io.StringIO):
    """A stream on a disk that is full for a while."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_disk_that_is_full_for_a_while_costs_nothing() -> None:
    output = Refusing()
    logs.configure(output=output, json_lines=True)
    emit(Event.DAEMON_STARTED, pid=1)
    emit(Event.DAEMON_STARTED, pid=2)
    assert not logs.flush(within=0.01)
    output.is_full = False
    emit(Event.DAEMON_READY, instance="i")
    assert logs.flush(within=30)
    events = [json.loads(line)["event"] for line in output.getvalue().splitlines()]
    assert events == ["daemon.started", "daemon.started", "daemon.ready"]


def test_a_line_is_not_cut_where_the_disk_was_full(tmp_path: Path) -> None:
    """The system took half of a line: the other half follows, not the line again."""

    class Half(io.StringIO):
        def fileno(self) -> int:
            return 1 << 20

    taken = bytearray()
    answers = iter([5, None, 3])

    def write(_: int, text: memoryview) -> int:
        answer = next(answers, len(text))
        if answer is None:
            raise OSError(28, "full")
        taken.extend(text[:answer])
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        logs.configure(output=Half(), json_lines=True)
        emit(Event.DAEMON_STARTED, pid=1)
        assert logs.flush(within=30)
        logs.configure(output=io.StringIO(), json_lines=True)
    assert json.loads(taken)["pid"] == 1


@pytest.mark.parametrize("ending", ["broken pipe", "closed stream"])
def test_a_reader_that_is_gone_fails_nobody(ending: str) -> None:
    reader, end = os.pipe()
    stream = os.fdopen(end, "w")
    logs.configure(output=stream, json_lines=True)
    if ending == "broken pipe":
        os.close(reader)
    else:
        stream.close()
    for number in range(3000):
        emit(Event.DAEMON_STARTED, pid=number)
    assert not logs.flush(within=0.01)
    logs.configure(output=io.StringIO(), json_lines=True)
    if ending == "broken pipe":
        stream.close()
    else:
        os.close(reader)


LAST_WORDS = """
import sys
from refresher import logs
from refresher.logs import Event, emit
logs.configure(json_lines=True)
for number in range(int(sys.argv[1])):
    emit(Event.DAEMON_STARTED, pid=number)
"""


def test_the_end_of_a_process_waits_for_its_last_lines() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LAST_WORDS, "2000"], stdout=subprocess.PIPE, check=True, timeout=50
    )
    assert [json.loads(line)["pid"] for line in ended.stdout.splitlines()] == list(range(2000))


def test_the_end_of_a_process_waits_for_no_reader() -> None:
    """Nobody reads the pipe: the process ends all the same, and well."""
    reader, end = os.pipe()
    try:
        process = subprocess.Popen([sys.executable, "-c", LAST_WORDS, "2000"], stdout=end)
        assert process.wait(50) == 0
    finally:
        os.close(reader)
        os.close(end)
