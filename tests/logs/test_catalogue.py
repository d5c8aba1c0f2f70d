"""The catalogue is closed, unknown fields are blanked, and a frame tells no secret."""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from refresher import logs
from refresher.logs import EVENTS, FIELDS, Event, emit
from tests.support.log_output import LogOutput

ROOT = Path(__file__).parent.parent.parent


@cache
def trees() -> Sequence[ast.Module]:
    """Every module of the program but the catalogue itself."""
    return [
        ast.parse(path.read_text())
        for path in (ROOT / "refresher").rglob("*.py")
        if path.name != "catalogue.py"
    ]


def dotted(node: ast.expr) -> str:
    """NODE as it is written, if that is a name or an attribute of one."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(ast.Name(name), attribute):
            return f"{name}.{attribute}"
        case _:
            return ""


def emitted_fields(tree: ast.Module) -> Iterator[str]:
    """What calls of ``emit`` in TREE name; of ``**more``, the keys of every dictionary beside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in {"emit", "logs.emit"}:
            for keyword in node.keywords:
                if keyword.arg is not None:
                    yield keyword.arg


def spread_fields(tree: ast.Module) -> Iterator[str]:
    """Keys of the dictionaries that TREE spreads into calls of ``emit``."""
    spreads = any(
        isinstance(node, ast.Call)
        and dotted(node.func) == "emit"
        and any(keyword.arg is None for keyword in node.keywords)
        for node in ast.walk(tree)
    )
    if spreads:
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                for key in node.keys:
                    if isinstance(key, ast.Constant) and key.value in FIELDS:
                        yield str(key.value)


def test_the_code_emits_every_event_and_no_other() -> None:
    named = {
        node.attr
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and dotted(node.value) in {"Event", "logs.Event"}
    }
    assert named == set(Event.__members__)


def test_the_code_uses_every_field_and_no_other() -> None:
    used = {field for tree in trees() for field in (*emitted_fields(tree), *spread_fields(tree))}
    by_emit_itself = {"uid", "pid"}
    assert used | by_emit_itself == FIELDS


def test_every_event_is_expected_by_a_test() -> None:
    named: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        if path.name != "test_catalogue.py":
            named.update(re.findall(r'"[a-z_.]+"|\.[A-Z_]+\b', path.read_text()))
    unnamed = {one for one in Event if not {f'"{one.value}"', f".{one.name}"} & named}
    assert unnamed == set()


def test_every_event_has_its_entry() -> None:
    assert set(EVENTS) == set(Event)


@pytest.mark.parametrize("event", Event, ids=str)
def test_events_are_named_subject_dot_participle(event: Event) -> None:
    subject, _, participle = event.value.partition(".")
    assert subject.isidentifier()
    assert participle.isidentifier()


def test_a_field_outside_the_catalogue_is_blanked() -> None:
    output = LogOutput()
    logs.configure(output=output, json_lines=True)
    assert "password" not in FIELDS
    emit(Event.DAEMON_STARTED, pid=1, password="canary")
    line = json.loads(output.getvalue())
    assert line["password"] == "***"
    assert line["pid"] == 1


def test_frames_tell_where_and_never_what() -> None:
    with pytest.raises(ValueError, match="canary") as caught:
        int("canary")
    told = logs.frames(caught.value)
    assert len(told) == 1
    assert "canary" not in told[0].partition(" ")[2]
    assert "test_catalogue.py" in told[0]


def test_a_subscriber_hears_what_no_line_is_written_of() -> None:
    output, heard = LogOutput(), list[tuple[Event, object]]()
    logs.configure(level="error", output=output, json_lines=True)
    with logs.subscribed(lambda event, fields: heard.append((event, fields["count"]))):
        emit(Event.MIRROR_REPAIRED, count=2)
    emit(Event.MIRROR_REPAIRED, count=3)
    assert heard == [(Event.MIRROR_REPAIRED, 2)]
    assert output.getvalue() == ""


def test_a_subscriber_that_fails_hears_no_more_and_hurts_nobody() -> None:
    output, heard = LogOutput(), list[Event]()

    def broken(event: Event, _: object) -> None:
        raise RuntimeError("canary")

    logs.configure(output=output, json_lines=True)
    with logs.subscribed(broken), logs.subscribed(lambda event, _: heard.append(event)):
        emit(Event.VAULT_OPENED)
        emit(Event.VAULT_OPENED)
    assert heard.count(Event.VAULT_OPENED) == 2
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    told = [line for line in lines if line["event"] == "operation.failed"]
    assert [(line["task"], line["error"]) for line in told] == [
        ("subscriber of the log", "RuntimeError")
    ]
    assert "canary" not in output.getvalue()
