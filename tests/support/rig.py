"""What the fault commands share: a server, a Redis, one daemon's folder, and the verdicts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from refresher.demo.private_server import PrivateValkey
from refresher.sandbox.exchange_log import ExchangeRecord, overlaps
from tests.support.daemon import CLIENT, DaemonProcess
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import PATIENCE, wait_until


class Rig:
    """A sandbox and a Valkey that run, and a daemon that is prepared; a context manager.

    Args:
        rotation: what the settings say of the server.
        more: further lines of the client's settings.
        server: fields of ``SandboxOptions``.
    """

    def __init__(
        self, folder: Path, *, rotation: str, server: Mapping[str, Any], more: str = ""
    ) -> None:
        self.valkey = PrivateValkey()
        self.valkey.start()
        self.sandbox = SandboxProcess(**server)
        self.daemon = DaemonProcess(folder)
        client = CLIENT.format(
            name="box",
            base_url=self.sandbox.base_url,
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation=rotation,
            more=more,
        )
        self.daemon.prepare(redis_url=self.valkey.url, clients=client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            self.daemon.kill()
        self.sandbox.stop()
        self.valkey.stop()

    def import_grants(self, count: int) -> None:
        """COUNT new grants, ``g0`` and so on."""
        lines = [
            json.dumps({"name": f"g{n}", "client": "box", "refresh_token": grant["refresh_token"]})
            for n, grant in enumerate(self.sandbox.mint(count))
        ]
        self.daemon.command("import", "-", text="\n".join(lines))

    def grants(self) -> list[dict[str, Any]]:
        """What ``status`` says of every grant."""
        answer = self.daemon.command("status", "--json", check=None)
        grants: list[dict[str, Any]] = json.loads(answer.stdout)["grants"]
        return grants

    def await_all_fresh(self, within: float = PATIENCE) -> None:
        """Return when every grant is fresh."""
        wait_until(
            lambda: all(grant["state"] == "fresh" for grant in self.grants()),
            within=within,
            every=0.5,
            description="every grant is fresh",
        )

    def await_exchange(self) -> None:
        """Return when the server has a request whose answer has not left."""
        seen = len(self.sandbox.log())
        wait_until(
            lambda: any(
                record.answered_at is None and record.gone_at is None
                for record in self.sandbox.log(after=seen)
            ),
            every=0.005,
            description="an exchange is in flight",
        )

    def lost(self) -> int:
        """Grants revoked at the server or lost by the daemon's own word."""
        revoked = [one for one in self.sandbox.families() if one["revoked_at"] is not None]
        return max(len(revoked), len(self.daemon.events("grant.lost")))


def hits(log: Sequence[ExchangeRecord], ended_at: float) -> bool:
    """Whether a process that ended then had an exchange in flight, by the server's log."""
    return any(
        record.arrived_at <= ended_at
        and (record.answered_at is None or record.answered_at > ended_at)
        and ended_at - record.arrived_at < 1.0
        for record in log
    )


def overlaps_of_the_living(
    log: Sequence[ExchangeRecord], ends: Sequence[float]
) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
    """Overlapping pairs with no end between them: both came from a process that ran."""
    return [
        (first, second)
        for first, second in overlaps(log)
        if not any(first.arrived_at <= at <= second.arrived_at for at in ends)
    ]
