"""The catalogue is closed, unknown fields are blanked, and a log never fails its caller."""

import io
import json

import pytest

from refresher import logs
from refresher.logs import EVENTS, FIELDS, Event, emit


class Refusing(io.StringIO):
    """A stream on a disk that is full for a while."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_every_event_has_its_entry() -> None:
    assert set(EVENTS) == set(Event)


@pytest.mark.parametrize("event", Event, ids=str)
def test_events_are_named_subject_dot_participle(event: Event) -> None:
    subject, _, participle = event.value.partition(".")
    assert subject.isidentifier()
    assert participle.isidentifier()


def test_a_field_outside_the_catalogue_is_blanked() -> None:
    output = io.StringIO()
    logs.configure(output=output, json_lines=True)
    assert "password" not in FIELDS
    emit(Event.DAEMON_STARTED, pid=1, password="canary")
    line = json.loads(output.getvalue())
    assert line["password"] == "***"
    assert line["pid"] == 1


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    output = Refusing()
    logs.configure(output=output, json_lines=True)
    emit(Event.DAEMON_STARTED, pid=1)
    emit(Event.DAEMON_STARTED, pid=2)
    output.is_full = False
    emit(Event.DAEMON_READY, instance="i")
    events = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["daemon.ready", "log.interrupted"]
    assert events[1]["count"] == 2


def test_frames_tell_where_and_never_what() -> None:
    with pytest.raises(ValueError, match="canary") as caught:
        int("canary")
    told = logs.frames(caught.value)
    assert len(told) == 1
    assert "canary" not in told[0].partition(" ")[2]
    assert "test_logs.py" in told[0]
