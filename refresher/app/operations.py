"""What commands can ask for: JSON in, JSON out, over the parts around an open vault.

A running daemon offers these on its control socket; a command without a daemon calls the
very same functions on a vault it opened itself.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from refresher.domain.grants import Grant, GrantKind, Seed
from refresher.domain.repairs import repair
from refresher.domain.secret import Secret
from refresher.engine.administration import Administration
from refresher.engine.logins import Logins
from refresher.engine.revoking import Revoking
from refresher.vault.revocations import Parked
from refresher.vault.sealed_counts import SealedUnder
from refresher.vault.seeds import SeedResult

JSON = Any
"""Whatever ``json`` reads and writes."""

Operation = Callable[[Mapping[str, JSON]], Awaitable[JSON]]


class Operations:
    """The operations by name, each a method that takes the parameters of one call."""

    def __init__(
        self,
        administration: Administration,
        logins: Logins,
        revoking: Revoking,
        about: Mapping[str, JSON],
    ) -> None:
        self._administration = administration
        self._logins = logins
        self._revoking = revoking
        self._about = about

    def by_name(self) -> dict[str, Operation]:
        """Every operation, as the control socket offers it."""
        return {
            "status": self.status,
            "refresh": self.refresh,
            "refresh_lost": self.refresh_lost,
            "login_target": self.login_target,
            "login_begin": self.login_begin,
            "login_finish": self.login_finish,
            "import": self.import_grants,
            "remove": self.remove,
            "revoke": self.revoke,
            "set_token": self.set_token,
            "rotate_key": self.rotate_key,
            "key_status": self.key_status,
        }

    async def status(self, _: Mapping[str, JSON]) -> JSON:
        """Every grant, what has still to be revoked, and who answers."""
        grants = await self._administration.grants()
        return {
            "daemon": dict(self._about),
            "grants": [view(grant) for grant in grants],
            "revocations": parked_views(await self._revoking.parked()),
        }

    async def refresh(self, parameters: Mapping[str, JSON]) -> JSON:
        """Make ``name`` due now; ``accepted`` is false where no refresh is possible."""
        grant = await self._administration.refresh(parameters["name"])
        return {"accepted": grant is not None}

    async def refresh_lost(self, parameters: Mapping[str, JSON]) -> JSON:
        """Ask once more for the grants ``names`` or of ``client`` that were finally rejected."""
        asked = await self._administration.ask_lost(
            parameters.get("names"), parameters.get("client")
        )
        return {"asked": asked}

    async def login_target(self, parameters: Mapping[str, JSON]) -> JSON:
        """What a login of ``name`` would be for, and where its answer would come to."""
        target = await self._logins.target(
            parameters["name"],
            redirect_uri=parameters.get("redirect_uri"),
            client_name=parameters.get("client"),
        )
        return {"client": target.client.name, "redirect_uri": target.redirect_uri}

    async def login_begin(self, parameters: Mapping[str, JSON]) -> JSON:
        """Start a login; gives the URL to open, and what an answer to it must carry."""
        login = await self._logins.begin(
            parameters["name"],
            redirect_uri=parameters.get("redirect_uri"),
            client_name=parameters.get("client"),
        )
        return {
            "login": login.id,
            "client": login.client.name,
            "authorization_url": login.request.url,
            "redirect_uri": login.request.redirect_uri,
            "state": login.request.state.reveal(),
        }

    async def login_finish(self, parameters: Mapping[str, JSON]) -> JSON:
        """Redeem the code in ``pasted``."""
        done = await self._logins.finish(parameters["login"], parameters["pasted"])
        return view(done.grant) | {
            "exchange_out": await self._administration.is_out(done.grant),
            "account_before": done.account_before,
        }

    async def import_grants(self, parameters: Mapping[str, JSON]) -> JSON:
        """Add ``grants``, all or none."""
        seeds = [read_seed(grant) for grant in parameters["grants"]]
        done = await self._administration.import_grants(
            seeds, replace=parameters.get("replace", False)
        )
        return [
            {
                **view(seeded.grant),
                "result": seeded.result.value,
                "exchange_out": seeded.result is SeedResult.ADOPTED
                and await self._administration.is_out(seeded.grant),
            }
            for seeded in done
        ]

    async def remove(self, parameters: Mapping[str, JSON]) -> JSON:
        """Forget ``name``; ``exchange_out`` says that an answer to it may still come."""
        grant = await self._administration.remove(parameters["name"])
        out = await self._administration.is_out(grant)
        return {"removed": parameters["name"], "exchange_out": out}

    async def revoke(self, parameters: Mapping[str, JSON]) -> JSON:
        """End the authorization of ``name``; ``revoked`` once nothing of it is left open."""
        done = await self._revoking.revoke(parameters["name"])
        return view(done.grant) | {
            "revoked": not done.parked and not done.is_out,
            "revocations": parked_views(done.parked),
            "result": done.result,
            "exchange_out": done.is_out,
            "exchange_unresolved": done.is_unresolved,
        }

    async def set_token(self, parameters: Mapping[str, JSON]) -> JSON:
        """Replace the static token of ``name``."""
        grant = await self._administration.set_token(
            parameters["name"],
            Secret(parameters["token"]),
            expires_at=parameters.get("expires_at"),
            token_type=parameters.get("token_type") or "Bearer",
        )
        return view(grant)

    async def rotate_key(self, _: Mapping[str, JSON]) -> JSON:
        """Let a new vault key seal; ``key_status`` tells when all else is under it."""
        return {"key": await self._administration.rotate_key()}

    async def key_status(self, _: Mapping[str, JSON]) -> JSON:
        """What is sealed under each key; ``resealing`` while something is to be brought over."""
        keys, is_resealing = await self._administration.sealed_under()
        return {"keys": [key_view(key) for key in keys], "resealing": is_resealing}


def view(grant: Grant) -> dict[str, JSON]:
    """GRANT as people and programs see it: everything but its secrets."""
    return {
        "name": grant.name,
        "client": grant.client,
        "kind": grant.kind.value,
        "state": grant.state.value,
        "reason": grant.reason,
        "since": grant.since,
        "version": grant.version,
        "issued_at": grant.issued_at,
        "expires_at": grant.expires_at,
        "next_attempt_at": grant.due_at,
        "failures": grant.failures,
        "exchange_open": grant.intent is not None,
        "refresh_token": grant.refresh_token_fingerprint is not None,
        "refresh_token_expires_at": grant.refresh_token_expires_at,
        "scope": list(grant.scope),
        "authorized_by": grant.authorized_by,
        "labels": dict(grant.labels),
        "repair": repair(grant),
    }


def parked_views(parked: Iterable[Parked]) -> list[JSON]:
    """What has still to be revoked, by the grant it is of, the oldest first."""
    by_grant: dict[str, list[Parked]] = {}
    for one in parked:
        by_grant.setdefault(one.uid, []).append(one)
    return [
        {
            "name": several[0].name,
            "client": several[0].client,
            "count": len(several),
            "since": min(one.parked_at for one in several),
            "attempts": max(one.attempts for one in several),
            "next_attempt_at": min(one.due_at for one in several),
            "until": max(one.ends_at for one in several),
        }
        for several in by_grant.values()
    ]


def key_view(key: SealedUnder) -> dict[str, JSON]:
    """What is sealed under KEY; ``can_go`` where its line is needed by no part of the vault."""
    return {
        "line": key.line,
        "key": key.key_id,
        "sealed": dict(key.counts),
        "first_format": key.first_format,
        "can_go": key.line not in {None, 1} and not key.total,
    }


def read_seed(content: Mapping[str, JSON]) -> Seed:
    """The seed in CONTENT, an object the command has validated."""
    refresh_token = content.get("refresh_token")
    access_token = content.get("access_token")
    return Seed(
        name=content["name"],
        kind=GrantKind.REFRESHABLE if refresh_token else GrantKind.STATIC,
        client=content.get("client"),
        scope=tuple(content.get("scope") or ()),
        labels=content.get("labels") or {},
        refresh_token=Secret(refresh_token) if refresh_token else None,
        access_token=Secret(access_token) if access_token else None,
        expires_at=content.get("expires_at"),
        token_type=content.get("token_type") or "Bearer",
    )
