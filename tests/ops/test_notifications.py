"""Notifications: what is told, by whom it can be checked, and that nothing told is lost."""

import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from refresher import logs
from refresher.domain.notifications import Kind, Notification, Target
from refresher.domain.repairs import INCIDENT, VAULT
from refresher.domain.secret import Secret
from refresher.logs import Event, emit, subscribed
from refresher.ops.notifications import sending
from refresher.ops.notifications.bursts import LONGEST, NAMES, QUIET
from refresher.ops.notifications.outbox import MOST_IN_MEMORY, Memory
from refresher.ops.notifications.telling import KEPT_FOR, LONGEST_WAIT, MARGIN, Telling
from refresher.vault import outbox
from refresher.vault.vault import Vault
from tests.engine.world import Lines
from tests.support.waiting import eventually
from tests.vault.in_a_file import vault
from tests.vault.world import FakeClock, clock_of, opened, set_writable

__all__ = ["vault"]

SECRET = "whsec_c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMhISEhISE="
CANARY = "canary-77e1-do-not-show"
OVER = QUIET + MARGIN
"""Seconds after the last event of a burst from which on its message is sent."""


@dataclass
class Receiver:
    """Somebody who takes webhooks, and answers as told."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    """Answers to the next requests; 204 from then on."""
    requests: list[tuple[dict[str, str], str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((headers, await request.text()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    @property
    def webhook(self) -> Target:
        return Target(setting="notify[0]", url=Secret(self.url), key=Secret(SECRET))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{CANARY}"
    yield made
    await runner.cleanup()


@pytest.fixture(autouse=True)
def lines() -> Iterator[Lines]:
    """What is logged; never the URL, which may be all that it takes to post there."""
    captured = Lines()
    logs.configure(level="debug", output=captured.output, json_lines=True)
    yield captured
    structlog.reset_defaults()
    assert CANARY not in captured.output.getvalue()


@asynccontextmanager
async def office(vault: Vault, *targets: Target) -> AsyncIterator[Telling]:
    """A telling that hears everything, and that a test turns by hand."""
    made = Telling(outbox=vault.outbox, targets=targets, clock=vault.clock)
    with subscribed(made.hear):
        yield made


async def send_all(told: Telling, vault: Vault, after: float = OVER) -> None:
    """Keep what has happened, and send what is due AFTER so many seconds."""
    await told.keep()
    clock_of(vault).move(after)
    while await told.send_next(0) == 0:
        pass


def lose(name: str, client: str = "crm") -> None:
    emit(
        Event.GRANT_LOST,
        grant=name,
        client=client,
        reason="revoked:invalid_grant",
        repair=f"refresher login {name}",
    )


async def test_a_burst_is_one_signed_message(tmp_path: Path, receiver: Receiver) -> None:
    """Five thousand grants lost at once, and one of another client."""
    now = time.time()  # the library of the receivers looks at its own clock
    async with (
        opened(tmp_path, FakeClock(now)) as vault,
        office(vault, receiver.webhook) as told,
    ):
        for number in range(5_000):
            lose(f"g{number}")
            if number % 1_000 == 0:
                await send_all(told, vault, QUIET - 1)
        lose("alone", "erp")
        await send_all(told, vault)
    burst, alone = sorted(receiver.told, key=lambda each: -int(each["data"]["count"]))
    assert (burst["type"], burst["data"]["client"]) == ("grant.lost", "crm")
    assert (burst["data"]["count"], burst["data"]["reason"]) == (5_000, "revoked:invalid_grant")
    assert burst["data"]["grants"] == [f"g{number}" for number in range(NAMES)]
    assert burst["data"]["repair"] == (
        "refresher status --client crm lists them; the first: refresher login g0"
    )
    assert "5000 grants of client crm need a person (revoked:" in burst["text"]
    assert "and 4990 more" in burst["text"]
    del alone["timestamp"]
    assert alone == {
        "type": "grant.lost",
        "text": "grant alone of client erp needs a person (revoked:invalid_grant): "
        "refresher login alone",
        "data": {
            "client": "erp",
            "count": 1,
            "grants": ["alone"],
            "reason": "revoked:invalid_grant",
            "repair": "refresher login alone",
        },
    }
    for headers, body in receiver.requests:
        assert Webhook(SECRET).verify(body, headers) == json.loads(body)
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + " ", headers)


async def test_a_stream_of_events_is_told_every_minute(vault: Vault, receiver: Receiver) -> None:
    async with office(vault, receiver.webhook) as told:
        for number in range(int(2.5 * LONGEST)):
            lose(f"g{number}")
            await send_all(told, vault, 1.0)
        await send_all(told, vault)
    assert [each["data"]["count"] for each in receiver.told] == [60, 60, 30]


TOLD: dict[Event, tuple[dict[str, object], str]] = {
    Event.GRANT_RECOVERED: (
        {"grant": "acme", "client": "crm", "was": "reauthorization_required"},
        "grant acme of client crm is fresh again",
    ),
    Event.GRANT_ENDING: (
        {"grant": "acme", "client": "crm", "days": 7, "expires_at": 1_800_000_000.0}
        | {"repair": "refresher login acme"},
        (
            "the refresh token of grant acme of client crm will end within 7 days: refresher login "
            "acme"
        ),
    ),
    Event.INCIDENT_OPENED: (
        {"client": "crm", "count": 4, "since": 1.0, "repair": INCIDENT},
        f"the server refuses 4 grants of client crm that it served before: {INCIDENT}",
    ),
    Event.INCIDENT_CLOSED: (
        {"client": "crm", "count": 4, "since": 1.0},
        "none of the 4 grants of client crm that were refused is doubted any more",
    ),
    Event.CLIENT_REJECTED: (
        {"client": "crm", "error_code": "invalid_client", "repair": "correct client crm"},
        "the server refuses client crm itself (invalid_client): correct client crm",
    ),
    Event.VAULT_REFUSED: (
        {"reason": "disk full", "repair": VAULT},
        f"the vault cannot be written, and nothing is sent (disk full): {VAULT}",
    ),
}


@pytest.mark.parametrize("event", TOLD)
async def test_each_kind_has_its_words(vault: Vault, receiver: Receiver, event: Event) -> None:
    fields, text = TOLD[event]
    async with office(vault, receiver.webhook) as told:
        emit(event, **fields)
        await send_all(told, vault)
    [said] = receiver.told
    assert said["text"] == text
    assert said["type"] in set(Kind)


async def test_what_is_no_news_is_not_told(vault: Vault, receiver: Receiver) -> None:
    async with office(vault, receiver.webhook) as told:
        emit(Event.GRANT_RECOVERED, grant="acme", client="crm", was="degraded")
        emit(Event.GRANT_ENDING, grant="acme", client="crm", reason="no_refresh_token")
        emit(Event.GRANT_DEGRADED, grant="acme", client="crm")
        await send_all(told, vault)
    assert receiver.told == []


async def test_who_wants_some_events_gets_no_others(vault: Vault, receiver: Receiver) -> None:
    chosen = Target(
        setting="notify[0]",
        url=Secret(receiver.url),
        key=Secret(SECRET),
        kinds=frozenset({Kind.INCIDENT_OPENED}),
    )
    async with office(vault, chosen) as told:
        lose("acme")
        emit(Event.INCIDENT_OPENED, client="crm", count=3, since=1.0)
        await send_all(told, vault)
    assert [each["type"] for each in receiver.told] == ["incident.opened"]


async def test_a_message_is_tried_until_it_is_taken(
    vault: Vault, receiver: Receiver, lines: Lines
) -> None:
    """Under one id, said once while it fails; the others follow as soon as one is taken."""
    receiver.statuses = [500, 404, 302]
    async with office(vault, receiver.webhook) as told:
        lose("acme")
        await send_all(told, vault)
        lose("other", "erp")
        await send_all(told, vault)
        assert len(receiver.requests) == 3
        await send_all(told, vault, LONGEST_WAIT)
        assert await told.send_next(0) > 0
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 2
    assert len({body for _, body in receiver.requests}) == 2
    assert [line["error"] for line in lines.of(Event.NOTIFICATION_FAILED)] == ["http_500"]
    assert len(lines.of(Event.NOTIFICATION_SENT)) == 2
    assert await vault.outbox.first(0) is None


async def test_a_restart_loses_no_message(tmp_path: Path, receiver: Receiver) -> None:
    async with opened(tmp_path) as vault, office(vault, receiver.webhook) as told:
        lose("acme")
        await told.keep()
    assert receiver.told == []
    async with opened(tmp_path) as vault, office(vault, receiver.webhook) as told:
        await send_all(told, vault)
    assert [each["data"]["grants"] for each in receiver.told] == [["acme"]]


async def test_nobody_is_told_old_news(vault: Vault, receiver: Receiver, lines: Lines) -> None:
    receiver.statuses = [503] * 100
    async with office(vault, receiver.webhook) as told:
        lose("acme")
        await told.keep()
        for _ in range(100):
            await send_all(told, vault, LONGEST_WAIT)
    assert KEPT_FOR / LONGEST_WAIT / 1.25 < len(receiver.requests) < 100
    [line] = lines.of(Event.NOTIFICATION_DROPPED)
    assert (line["count"], line["setting"]) == (1, "notify[0]")
    assert await vault.outbox.first(0) is None


async def test_while_the_vault_refuses_messages_wait_in_memory(
    vault: Vault, receiver: Receiver
) -> None:
    receiver.statuses = [500]
    async with office(vault, receiver.webhook) as told:
        set_writable(vault, writable=False)
        emit(Event.VAULT_REFUSED, reason="disk full")
        lose("acme")
        await send_all(told, vault)
        await send_all(told, vault, LONGEST_WAIT)
        set_writable(vault, writable=True)
        assert await vault.outbox.first(0) is None
    assert sorted(each["type"] for each in receiver.told[1:]) == ["grant.lost", "vault.refused"]


async def test_there_is_no_room_for_everything(
    vault: Vault, receiver: Receiver, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go, and that is said."""
    monkeypatch.setattr(outbox, "MOST", 2)
    async with office(vault, receiver.webhook) as told:
        for number in range(3):
            lose("acme", f"c{number}")
            await told.keep()
        await send_all(told, vault)
    assert sorted(each["data"]["client"] for each in receiver.told) == ["c1", "c2"]
    assert [line["count"] for line in lines.of(Event.NOTIFICATION_DROPPED)] == [1]
    memory = Memory()
    note = Notification(target=0, made_at=0.0, due_at=0.0, body="{}")
    kept = [await memory.keep([note]) for _ in range(MOST_IN_MEMORY + 2)]
    assert [dropped for _, dropped in kept[-3:]] == [0, 1, 1]


async def test_what_waits_for_nobody_is_dropped(
    vault: Vault, receiver: Receiver, lines: Lines
) -> None:
    """A [[notify]] has left the settings; a daemon with none at all hears nothing."""
    second = Target(setting="notify[1]", command=("false",))
    async with office(vault, receiver.webhook, second) as told, anyio.create_task_group() as tasks:
        lose("acme")
        await told.keep()
        told.take_over([receiver.webhook])
        tasks.start_soon(told.run)
        await eventually(lambda: lines.of(Event.NOTIFICATION_DROPPED), "it is dropped")
        clock_of(vault).move(OVER)
        told.take_over([receiver.webhook])
        await eventually(lambda: receiver.told, "the other is sent")
        told.take_over([])
        lose("unheard")
        await told.keep()
        tasks.cancel_scope.cancel()
    assert await vault.outbox.first(1) is None


TAKES = """
import json, os, sys
told = json.load(sys.stdin)
with open("told", "w") as file:
    json.dump([told["type"], sorted(os.environ)], file)
sys.exit({code})
"""


def program(folder: Path, text: str) -> Target:
    (folder / "program.py").write_text(text)
    return Target(
        setting="notify[0]",
        command=(sys.executable, "program.py"),
        environment={"PATH": "/usr/bin:/bin"},
        folder=folder,
    )


@pytest.mark.parametrize("code", [0, 3])
async def test_a_command_gets_the_message(
    vault: Vault, tmp_path: Path, lines: Lines, code: int
) -> None:
    async with office(vault, program(tmp_path, TAKES.format(code=code))) as told:
        lose("acme")
        await send_all(told, vault)
    kind, environment = json.loads((tmp_path / "told").read_text())
    assert kind == "grant.lost"
    assert set(environment) <= {"PATH", "LC_CTYPE"}
    failed = [line["error"] for line in lines.of(Event.NOTIFICATION_FAILED)]
    assert failed == ([f"exit_{code}"] if code else [])


async def test_a_command_that_hangs_is_killed_with_its_children(
    vault: Vault, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "COMMAND_WITHIN", 1.0)
    hangs = "import os, time\nif os.fork() == 0: open('pid', 'w').write(str(os.getpid()))\n"
    async with office(vault, program(tmp_path, hangs + "time.sleep(600)")) as told:
        lose("acme")
        await send_all(told, vault)
        [line] = lines.of(Event.NOTIFICATION_FAILED)
        assert line["error"] == "timeout"

    def is_gone() -> bool:
        status = Path("/proc", (tmp_path / "pid").read_text(), "stat")
        return not status.exists() or status.read_text().split()[2] == "Z"

    await eventually(is_gone, "the child is killed too")


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (Target(setting="x", command=("/no/such/program",)), "not_started"),
        (Target(setting="x", command=("true",), folder=Path("/no/such")), "not_started"),
        (Target(setting="x", url=Secret("http://127.0.0.1:1/"), key=Secret(SECRET)), "unreachable"),
    ],
)
async def test_why_nobody_was_told_is_a_word(target: Target, fault: str) -> None:
    message = Notification(target=0, made_at=0.0, due_at=0.0, body="{}")
    assert await sending.send(target, message, 0.0) == fault


async def test_a_receiver_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "WITHIN", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        target = Target(setting="x", url=Secret(url), key=Secret(SECRET))
        message = Notification(target=0, made_at=0.0, due_at=0.0, body="{}")
        assert await sending.send(target, message, 0.0) == "timeout"
