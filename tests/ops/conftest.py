"""What the tests of this room share: short socket paths, logs to read, a planted canary."""

import io
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from refresher import logs
from refresher.ops.health import Judge, Verdict
from tests.support.log_output import LogOutput

CANARY = "canary-4c1d9e-do-not-show"


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders can be too long for a socket's path
    made = Path(tempfile.mkdtemp(prefix="ops-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def log_output() -> Iterator[io.StringIO]:
    output = LogOutput()
    logs.configure(level="debug", output=output, json_lines=True)
    yield output
    structlog.reset_defaults()


@pytest.fixture
def no_canary_anywhere(
    log_output: io.StringIO,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    shown = capfd.readouterr()
    assert CANARY not in log_output.getvalue() + caplog.text + shown.out + shown.err


@pytest.fixture
def healthy() -> Judge:
    return Verdict
