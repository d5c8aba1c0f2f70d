"""What Python and the libraries say becomes a line of ours: few, and without their texts."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from refresher import logs
from refresher.logs import libraries
from tests.support.log_output import LogOutput

CANARY = "canary-77aa01"


@pytest.fixture
def output() -> Iterator[LogOutput]:
    root, hooks = logging.getLogger(), (threading.excepthook, sys.unraisablehook)
    before = (root.handlers[:], root.level)
    made = LogOutput()
    logs.configure(output=made, json_lines=True)
    libraries.take_over()
    yield made
    logging.captureWarnings(capture=False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()


def complaints(output: LogOutput) -> list[dict[str, Any]]:
    assert CANARY not in output.getvalue()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def complain(name: str, text: str, *arguments: object) -> None:
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger(name).exception(text, *arguments)


def test_a_flood_of_one_kind_is_one_line(output: LogOutput) -> None:
    for number in range(1000):
        complain("asyncio", f"socket.accept() out of system resource {CANARY} {number}")
    [line] = complaints(output)
    assert (line["event"], line["name"], line["error"]) == (
        "library.complained",
        "asyncio",
        "ValueError",
    )
    assert line["count"] == 1
    assert line["traceback"][0].endswith(" complain")


def test_what_was_left_out_is_counted(output: LogOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        complain("aiohttp.server", "Error handling request from %s", CANARY)
    monkeypatch.setattr(libraries, "NOT_AGAIN_FOR", 0.0)
    complain("aiohttp.server", "Error handling request from %s", CANARY)
    assert [(line["reason"], line["count"]) for line in complaints(output)] == [
        ("Error handling request from", 1),
        ("Error handling request from", 3),
    ]


def test_kinds_without_end_are_few_lines(output: LogOutput) -> None:
    for number in range(1000):
        complain(f"library{number}", CANARY)
    assert len(complaints(output)) == libraries.MOST_KINDS + 1


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("asyncio", f"Exception in callback put({CANARY})\nhandle: <x>", "Exception in callback"),
        ("asyncio", f"{CANARY} was never read", None),
        ("redis", "connected to redis", None),
        ("asyncio", "Task exception was never retrieved", "Task exception was never retrieved"),
    ],
)
def test_a_text_is_told_by_its_first_words(
    output: LogOutput, name: str, text: str, reason: str | None
) -> None:
    logging.getLogger(name).error(text)
    [line] = complaints(output)
    assert line["reason"] == reason


def test_threads_finalizers_and_warnings_are_told(
    output: LogOutput, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError(CANARY)

    class Finalized:
        def __del__(self) -> None:
            raise ValueError(CANARY)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Finalized()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn(CANARY, RuntimeWarning, stacklevel=1)
    assert [line["name"] for line in complaints(output)] == ["python", "python", "py.warnings"]
    assert capfd.readouterr().err == ""
