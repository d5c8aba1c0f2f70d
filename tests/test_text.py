"""What is taken in, and how anything is shown: on terminals, in tables and in log lines."""

from typing import Any

import click
import pytest
import structlog

from refresher import logs
from refresher.cli.saying import say
from refresher.cli.status import drawing
from refresher.logs import Event, emit
from refresher.logs.rendering import INDENT
from refresher.text import is_plain, plain
from tests.support.log_output import LogOutput

HOSTILE = [
    pytest.param("\x1b]0;owned\x07", id="title of the terminal"),
    pytest.param("\x1b[2J\x1b[31mred", id="ANSI"),
    pytest.param("\x9b31mred", id="C1 CSI"),
    pytest.param("\x9d0;owned\x9c", id="C1 OSC"),
    pytest.param("over\rwritten", id="carriage return"),
    pytest.param("gone\b\b\b\bback", id="backspace"),
    pytest.param("two\nlines", id="newline"),
    pytest.param("a\0b\x7f", id="NUL and DEL"),
    pytest.param("a\u2028b\u2029c", id="separators"),
    pytest.param("a\u202eb\u202c", id="override"),
    pytest.param("a\u2066b\u2069", id="isolate"),
    pytest.param("a\u200fb\u061c", id="marks"),
    pytest.param("\ud800", id="half of a pair"),
]
MARKUP = ["[/x]", "[link=https://evil.example]click[/link]", "[bold]", "\\[x]", ":smile:", "[["]
HARMLESS = ["", "é ü ß", "東京", "a b", "[/x]", "family \U0001f469\u200d\U0001f4bb", "a\u00a0b"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_refused_and_shown_as_escapes(text: str) -> None:
    assert not is_plain(text)
    assert plain(text).isprintable()
    assert plain(text) != text


@pytest.mark.parametrize("text", HARMLESS)
def test_what_people_write_is_taken(text: str) -> None:
    assert is_plain(text)


def table_of(value: str) -> str:
    """What a table on a terminal shows of a grant with VALUE wherever others may write."""
    view: dict[str, Any] = {
        "name": value,
        "client": value,
        "state": "fresh",
        "reason": value,
        "repair": value,
        "expires_at": None,
        "next_attempt_at": None,
        "labels": {"team": value},
        "since": 0,
        "failures": 0,
        "refresh_token": True,
    }
    parked: dict[str, object] = {
        "count": 1,
        "since": 0,
        "attempts": 1,
        "next_attempt_at": 0,
        "until": 0,
    }
    _, [rows] = drawing.table([view], 0, None)
    parked |= {"name": value, "client": value}
    return click.unstyle("\n".join([*rows, *drawing.parked([parked], 0, None)]))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_shows_no_control_characters(text: str) -> None:
    shown = table_of(text)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count(plain(text)) == 7


@pytest.mark.parametrize("text", MARKUP)
def test_a_table_reads_no_markup(text: str) -> None:
    assert table_of(text).count(text) == 7


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "console"])
def test_a_log_line_is_plain(text: str, as_json: bool) -> None:  # noqa: FBT001  parametrized
    """One line, but that a terminal gets what is longer in lines that begin with blanks."""
    output = LogOutput()
    logs.configure(output=output, json_lines=as_json)
    try:
        emit(Event.SETTINGS_REFUSED, reason=text, problems=[text, f"{text}!"])
    finally:
        structlog.reset_defaults()
    line, *more = output.getvalue().removesuffix("\n").split("\n")
    assert all(each.isprintable() for each in (line, *more))
    assert "settings.refused" in line
    assert all(each.startswith(INDENT) for each in more)
    assert not (as_json and more)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_command_says_no_control_characters(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(f"first {text}", err=True)
    lines = capsys.readouterr().err.split("\n")
    assert all(line.isprintable() for line in lines)
