"""The description that the control socket serves: it is true, and changes on purpose only."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest

from refresher import errors
from refresher.app.looks import Looks
from refresher.app.operations import Operations
from refresher.app.servers import Servers
from refresher.errors import ControlError, ControlUnavailable, DaemonStarting, RefresherError
from refresher.ops.asking import ask
from refresher.ops.control import DESCRIPTION, ControlServer
from refresher.ops.control_client import ControlClient
from refresher.ops.health import Verdict
from refresher.ops.problems import PROBLEMS, type_of
from tests import openapi
from tests.fuzz import fuzz
from tests.ops.conftest import folder

__all__ = ["folder"]


def kept() -> Any:
    return json.loads(DESCRIPTION.read_text())


def test_routes_fields_and_codes_are_the_ones_that_were_promised() -> None:
    """Whoever changes one on purpose runs ``python -m tests.openapi`` and looks at the file."""
    assert openapi.text() == DESCRIPTION.read_text()


def test_the_description_is_valid() -> None:
    openapi_spec_validator.validate(kept())


def test_every_operation_is_described() -> None:
    parts: Any = object()
    offered = Operations(parts, parts, parts, parts, {}).by_name() | Looks(parts, {}).by_name()
    offered |= Servers({}, parts, parts).by_name()
    described = {path.removeprefix("/v1/") for path in kept()["paths"] if path.startswith("/v1/")}
    assert described == set(offered)


def test_every_problem_has_a_repair_and_an_error_as_its_status() -> None:
    for kind, problem in PROBLEMS.items():
        assert problem.status >= HTTPStatus.BAD_REQUEST, kind
        assert problem.title, kind
        assert problem.repair, kind


def test_an_error_is_told_as_its_own_type_or_the_next_wider_one() -> None:
    assert type_of(errors.UnknownGrant("acme")) == "UnknownGrant"
    assert type_of(errors.NotThisAnswer("no")) == "NotThisAnswer"
    assert type_of(errors.GrantSetAside("no")) == "GrantSetAside"
    assert type_of(errors.SettingsError(["no"])) == "RefresherError"


def subclasses(kind: type[RefresherError]) -> set[type[RefresherError]]:
    return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))


def test_the_types_are_errors_that_there_are() -> None:
    """Or faults: a name that nobody raises is found here."""
    never_sent = {ControlError, ControlUnavailable, DaemonStarting}
    known = {each.__name__ for each in subclasses(RefresherError) - never_sent}
    faults = {name for name in PROBLEMS if name not in known}
    assert faults <= {
        "UnknownOperation",
        "MalformedRequest",
        "WrongMethod",
        "RequestTimeout",
        "RequestTooLarge",
        "InternalError",
        "Stopped",
    }


async def test_the_socket_serves_its_description(folder: Path) -> None:
    server = ControlServer(folder / "s", operations={}, is_ready=Verdict)
    async with server.serving():
        answer = await ask(folder / "s", "GET", "/openapi.json")
    assert answer.status == HTTPStatus.OK
    assert json.loads(answer.body) == kept()


async def test_a_daemon_of_before_is_named_so(folder: Path) -> None:
    """Its answers have another form: the command says what to do, and guesses nothing."""

    async def wrapped(_: object) -> Any:
        return {"result": {"pid": 7}}

    server = ControlServer(folder / "s", operations={"ping": wrapped}, is_ready=Verdict)
    async with server.serving():
        with pytest.raises(ControlError, match="is older than this command: restart it"):
            await ControlClient(folder / "s").call("ping")


def test_a_daemon_answers_as_its_description_says(tmp_path: Path) -> None:
    """The short form of ``python -m tests.fuzz``."""
    assert "passed" in fuzz(tmp_path, examples=2)
