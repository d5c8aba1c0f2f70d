"""The daemon, composed with a probe that kills it at a named boundary of one refresh.

The probe is armed once every grant has settled, so that recovery from the kill before is
never disturbed. Production code has no switch for this: the probe wraps the parts the
daemon is composed of.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from refresher import logs
from refresher.app.parts import Parts
from refresher.app.standby import run_daemon
from refresher.domain.clients import Client
from refresher.domain.outcomes import Outcome
from refresher.domain.renewal import Renewal
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.publication.publisher import Publisher
from refresher.settings.loading import load
from refresher.vault.opening import open_vault
from refresher.vault.vault import Vault
from tests.support.forked import take_streams

BOUNDARIES = (
    "before_claim",
    "after_claim",
    "after_send",
    "after_answer",
    "inside_commit",
    "after_commit",
    "inside_publish",
    "after_publish",
)

AFTER_SEND = 0.06
"""Seconds after the request began: it has left, and may or may not have been processed."""

INSIDE_PUBLISH = 0.0004


class Probe:
    """Kills this very process when the daemon reaches the boundary."""

    def __init__(self, boundary: str) -> None:
        self._boundary = boundary
        self._committed = False
        self._open_exchanges = 0
        self.is_armed = False

    def reach(self, boundary: str) -> None:
        """Die here, if this is the place."""
        if "publish" in boundary and self._open_exchanges:
            return  # a status that goes out in the middle of the next exchange
        if self.is_armed and boundary == self._boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    def reach_soon(self, boundary: str, seconds: float) -> None:
        """Die SECONDS from now, if this is the place."""
        if self.is_armed and boundary == self._boundary:
            asyncio.get_running_loop().call_later(seconds, self.reach, boundary)

    async def open_vault(self, path: Path, key_file: Path, **options: Any) -> Vault:
        """The vault with claim, commit and its SQL transaction probed."""
        vault = await open_vault(path, key_file, **options)
        claim, commit = vault.claim, vault.commit

        async def probed_claim(*arguments: Any, **options: Any) -> Any:
            await self._arm_once_settled(vault)
            self.reach("before_claim")
            claims = await claim(*arguments, **options)
            self._open_exchanges += len(claims)
            if claims:
                self.reach("after_claim")
            return claims

        async def probed_commit(*arguments: Any) -> Any:
            self._committed = True
            committed = await commit(*arguments)
            self._open_exchanges -= 1
            self.reach("after_commit")
            return committed

        @sa.event.listens_for(Engine, "commit")
        def committing(_: sa.Connection) -> None:
            if self._committed:
                self.reach("inside_commit")
                self._committed = False

        vault.claim = probed_claim  # type: ignore[method-assign]  # the probe is a wrapper
        vault.commit = probed_commit  # type: ignore[method-assign, assignment]  # the probe is a wrapper
        return vault

    def token_endpoint(self) -> TokenEndpoint:
        """The token endpoint, probed after the send and after the answer."""
        reach, reach_soon = self.reach, self.reach_soon

        class Probed(TokenEndpoint):
            async def refresh(
                self,
                client: Client,
                renewal: Renewal,
                *,
                scope: tuple[str, ...] = (),
                redirect_uri: str | None = None,
                patience: Patience,
            ) -> Outcome:
                reach_soon("after_send", AFTER_SEND)
                outcome = await super().refresh(
                    client,
                    renewal,
                    scope=scope,
                    redirect_uri=redirect_uri,
                    patience=patience,
                )
                reach("after_answer")
                return outcome

        return Probed()

    def publisher(self, **parts: Any) -> Publisher:
        """The publisher, probed while a batch is on its way and after it."""
        publisher = Publisher(**parts)
        publish: Callable[..., Awaitable[Any]] = publisher.publish

        async def probed(*arguments: Any, **options: Any) -> Any:
            self.reach_soon("inside_publish", INSIDE_PUBLISH)
            report = await publish(*arguments, **options)
            self.reach("after_publish")
            return report

        publisher.publish = probed  # type: ignore[method-assign]  # the probe is a wrapper
        return publisher

    async def _arm_once_settled(self, vault: Vault) -> None:
        if not self.is_armed:
            grants = await vault.grants()
            self.is_armed = all(
                grant.intent is None and grant.due_at is not None and grant.failures == 0
                for grant in grants
                if grant.state != "reauthorization_required"
            )


def run_probed(config: Path, boundary: str, log: Path) -> None:
    """Be a daemon that dies at BOUNDARY, its output in LOG; the whole of a forked process."""
    with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
        take_streams(nothing, output, output)
    logs.configure(level="debug", json_lines=True)
    probe = Probe(boundary)
    parts = Parts(
        open_vault=probe.open_vault,
        token_endpoint=probe.token_endpoint,
        publisher=probe.publisher,
    )

    async def run() -> None:
        await run_daemon(load(config).settings, lambda: load(config).settings, parts=parts)

    anyio.run(run)
