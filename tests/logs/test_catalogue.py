"""The catalogue is closed, unknown fields are blanked, and a frame tells no secret."""

import json

import pytest

from refresher import logs
from refresher.logs import EVENTS, FIELDS, Event, emit
from tests.support.log_output import LogOutput


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
