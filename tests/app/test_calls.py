"""What comes over the control socket is checked there, whoever sends it, and named in a 400."""

import asyncio
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from refresher import logs
from refresher.app import calls
from refresher.app.calls import Call, read_call
from refresher.app.looks import Looks
from refresher.app.operations import Operations
from refresher.cli.entry import Exit, report
from refresher.errors import ControlError, ParameterRefused
from refresher.ops.control import ControlServer
from refresher.ops.control_client import ControlClient
from refresher.ops.health import Verdict
from refresher.ops.protocol import TYPES
from refresher.vault.vault import Vault
from tests.engine.office import REVOCABLE, open_office
from tests.vault.in_a_file import vault
from tests.vault.world import make_seed, sow, static_seed

__all__ = ["vault"]

CANARY = "canary-5f1c"
GRANT = {"name": "new", "client": "crm", "refresh_token": CANARY}
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("refresh", {}, "name", "is missing"),
    ("refresh", {"name": None}, "name", "has the wrong type"),
    ("refresh", {"name": 7}, "name", "has the wrong type"),
    ("refresh", {"name": ["acme"]}, "name", "has the wrong type"),
    ("refresh", {"name": "acme", "force": True}, "force", "is no parameter"),
    ("pause", {}, "", "takes names or a client"),
    ("pause", {"names": ["acme"], "client": "crm"}, "", "takes names or a client"),
    ("pause", {"names": ["acme"], "seconds": 0}, "seconds", "is no duration"),
    ("pause", {"names": ["acme"], "seconds": "2h"}, "seconds", "has the wrong type"),
    ("resume", {"client": 7}, "client", "has the wrong type"),
    ("resume", {"names": ["a b"]}, "names[0]", "is outside the alphabet"),
    ("resume", {"names": ["acme"], "seconds": 9}, "seconds", "is no parameter"),
    ("export", {"names": ["acme", "a b"]}, "names[1]", "is outside the alphabet"),
    ("export", {"after": "1"}, "after", "has the wrong type"),
    ("refresh_lost", {"names": "acme"}, "names", "has the wrong type"),
    ("refresh_lost", {"names": ["acme", "a b"]}, "names[1]", "is outside the alphabet"),
    ("refresh_lost", {"client": {}}, "client", "has the wrong type"),
    ("overview", {"limit": 101}, "limit", "must be from 1 to 100"),
    ("grants", {"limit": 501}, "limit", "must be from 1 to 500"),
    ("grants", {"limit": 0}, "limit", "must be from 1 to 500"),
    ("grants", {"after": 7}, "after", "has the wrong type"),
    ("grants", {"state": CANARY}, "state", "must be one of pending, fresh"),
    ("grants", {"state": "removed"}, "state", "must be one of pending, fresh"),
    ("grants", {"state": ["fresh"]}, "state", "must be one of pending, fresh"),
    ("grant", {"name": 1}, "name", "has the wrong type"),
    ("revocations", {"name": 1}, "name", "has the wrong type"),
    ("ping", {"name": "acme"}, "name", "is no parameter"),
    ("rotate_key", {"key": CANARY}, "key", "is no parameter"),
    ("key_status", {"name": "acme"}, "name", "is no parameter"),
    ("login_target", {"client": "crm"}, "name", "is missing"),
    ("login_begin", {"client": "crm"}, "name", "is missing"),
    ("login_begin", {"name": "", "client": "crm"}, "name", "is outside the alphabet"),
    ("login_begin", {"name": "x" * 129, "client": "crm"}, "name", "is outside the alphabet"),
    ("login_begin", {"name": "bad name *\n", "client": "crm"}, "name", "is outside the alphabet"),
    ("login_begin", {"name": "acme", "redirect_uri": "\x1b[2J"}, "redirect_uri", "holds a control"),
    ("login_finish", {"pasted": CANARY}, "login", "is missing"),
    ("login_finish", {"login": "x", "pasted": 7}, "pasted", "has the wrong type"),
    ("import", {}, "grants", "is missing"),
    ("import", {"grants": "x"}, "grants", "has the wrong type"),
    ("import", {"grants": [CANARY]}, "grants[0]", "has the wrong type"),
    ("import", {"grants": [GRANT], "replace": "yes"}, "replace", "has the wrong type"),
    ("import", {"grants": [{"client": "x"}]}, "grants[0].name", "is missing"),
    ("import", {"grants": [GRANT, {**GRANT, "name": "two\nlines"}]}, "grants[1].name", "alphabet"),
    ("import", {"grants": [{**GRANT, "client": "a b"}]}, "grants[0].client", "alphabet"),
    ("import", {"grants": [{**GRANT, "refresh_token": 7}]}, "grants[0].refresh_token", "wrong"),
    ("import", {"grants": [{**GRANT, "refresh_token": " "}]}, "grants[0].refresh_token", "empty"),
    ("import", {"grants": [{**GRANT, "refresh_token": "\ud800"}]}, "grants[0].refresh_token",
     "half of a surrogate pair"),
    ("import", {"grants": [{**GRANT, "access_token": "a b"}]}, "grants[0].access_token",
     "is no token"),
    ("import", {"grants": [{**GRANT, "expires_at": -1}]}, "grants[0].expires_at", "is no time"),
    ("import", {"grants": [{**GRANT, "expires_at": True}]}, "grants[0].expires_at", "wrong type"),
    ("import", {"grants": [{**GRANT, "scope": [1]}]}, "grants[0].scope", "must be a string"),
    ("import", {"grants": [{**GRANT, "labels": {"UPPER case": "x"}}]}, "grants[0].labels", "a-z"),
    ("import", {"grants": [{**GRANT, "labels": {"team": 1}}]}, "grants[0].labels", "strings"),
    ("import", {"grants": [{**GRANT, "labels": {"team": "\x1b]0;x\x07"}}]}, "grants[0].labels",
     "control character"),
    ("import", {"grants": [{**GRANT, "labels": {"team": "a\u202eb"}}]}, "grants[0].labels",
     "control character"),
    ("import", {"grants": [{**GRANT, "labels": [CANARY]}]}, "grants[0].labels", "wrong type"),
    ("import", {"grants": [{"name": "new"}]}, "grants[0]", "has neither"),
    ("import", {"grants": [{"name": "new", "refresh_token": "x"}]}, "grants[0]", "no client"),
    ("kept", {"after": "1"}, "after", "has the wrong type"),
    ("kept", {"after": -(2**80)}, "after", "must be from 0 to 9007199254740991"),
    ("changes", {"after": 2**63}, "after", "must be from 0 to 9007199254740991"),
    ("export", {"after": 2**63}, "after", "must be from 0 to 9007199254740991"),
    ("changes", {"name": "a b"}, "name", "is outside the alphabet"),
    ("adopt_kept", {"id": "x"}, "id", "is no id of a kept answer"),
    ("adopt_kept", {"id": "1", "name": "a b"}, "name", "is outside the alphabet"),
    ("drop_kept", {"id": 1}, "id", "has the wrong type"),
    ("remove", {"name": "a\u2028b"}, "name", "is outside the alphabet"),
    ("revoke", {}, "name", "is missing"),
    ("set_token", {"name": "pat"}, "token", "is missing"),
    ("set_token", {"name": "pat", "token": ""}, "token", "is empty"),
    ("set_token", {"name": "pat", "token": "über"}, "token", "is no token"),
    ("set_token", {"name": "pat", "token": "x", "token_type": "a\nb"}, "token_type", "control"),
    ("set_token", {"name": "pat", "token": "x", "expires_at": 1.8e12}, "expires_at", "is no time"),
    ("set_token", {"name": "pat", "token": "x", "expires_at": "9"}, "expires_at", "wrong type"),
]  # fmt: skip


@pytest.fixture
def socket() -> Iterator[Path]:
    # pytest's own folders can be too long for a socket's path
    folder = Path(tempfile.mkdtemp(prefix="calls-"))
    yield folder / "s"
    shutil.rmtree(folder)


def offered(vault: Vault) -> Any:
    office = open_office(vault, clients={"crm": REVOCABLE})
    parts = (office.administration, office.logins, office.revoking, office.keeping)
    return Operations(*parts, {"pid": 7}).by_name() | Looks(vault, {}).by_name()


async def test_a_wrong_parameter_is_a_400_that_names_it(vault: Vault, socket: Path) -> None:
    await sow(vault, make_seed(), static_seed())
    before = await vault.grants()
    output = io.StringIO()
    logs.configure(level="debug", output=output, json_lines=True)
    server = ControlServer(socket, operations=offered(vault), is_ready=Verdict)
    try:
        async with server.serving():
            for operation, parameters, named, fault in WRONG:
                status, answer = await post(socket, operation, parameters)
                assert status == answer["status"] == 400, (operation, answer)
                assert answer["type"] == TYPES + "ParameterRefused", (operation, answer)
                assert answer["parameter"] == named, (operation, answer)
                assert answer["detail"].startswith(named)
                assert fault in answer["detail"]
                assert CANARY not in str(answer)
            with pytest.raises(ControlError) as caught:
                await ControlClient(socket).call("refresh", name="a b")
    finally:
        structlog.reset_defaults()
    assert report(caught.value) is Exit.USAGE
    assert await vault.grants() == before
    assert "operation.failed" not in output.getvalue()
    assert CANARY not in output.getvalue()


async def test_every_operation_has_wrong_parameters_above(vault: Vault) -> None:
    assert set(offered(vault)) == {operation for operation, *_ in WRONG}


async def post(socket: Path, operation: str, parameters: Mapping[str, Any]) -> tuple[int, Any]:
    """The status and the object that answer one request."""
    body = json.dumps(parameters).encode()
    reader, writer = await asyncio.open_unix_connection(socket)
    head = f"POST /v1/{operation} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ParameterRefused) as caught:
        read_call(calls.SetToken, {"name": "a b", "colour": "red"})
    told = str(caught.value).split("; ")
    assert [line.split()[0] for line in told] == ["name", "token", "colour"]


async def test_a_ping_says_who_answers(vault: Vault) -> None:
    assert await offered(vault)["ping"]({}) == {"pid": 7}


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=9)
    | st.sampled_from([CANARY, "acme", "\x1b[31m", "\x9b2J", "a\u2066b", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "client", "labels", CANARY]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = sorted({name for model in Call.__subclasses__() for name in model.model_fields})


@settings(max_examples=100, deadline=None, database=None)
@given(
    st.sampled_from(Call.__subclasses__()),
    st.dictionaries(st.sampled_from(FIELDS), JSONS, max_size=6),
)
def test_whatever_is_asked_is_taken_or_refused(
    model: type[Call], parameters: dict[str, Any]
) -> None:
    assert refusal_of(model, parameters).isprintable()


def refusal_of(model: type[Call], parameters: dict[str, Any]) -> str:
    try:
        read_call(model, parameters)
    except ParameterRefused as refused:
        return str(refused)
    return ""
