"""What commands can ask for: JSON in, JSON out, over the parts around an open vault.

A running daemon offers these on its control socket; a command without a daemon calls the
very same functions on a vault it opened itself.
"""

from refresher.app import answers, calls
from refresher.app.calls import Operation, Taking
from refresher.app.parameters import VISIBLE
from refresher.app.views import parked_views, view
from refresher.domain.grants import GrantKind
from refresher.domain.keys import Reader
from refresher.domain.seeds import Seed
from refresher.engine.administration import Administration, Changed
from refresher.engine.first_tokens import Authorized
from refresher.engine.keeping import Keeping
from refresher.engine.logins import Logins
from refresher.engine.revoking import Revoking
from refresher.vault.exporting import Exported
from refresher.vault.sealed_counts import SealedUnder
from refresher.vault.seeds import SeedResult
from refresher.vault.selecting import Selection


class Operations:
    """The operations by name, each a method that takes what one call asks for."""

    def __init__(
        self,
        administration: Administration,
        logins: Logins,
        revoking: Revoking,
        keeping: Keeping,
        about: answers.Daemon,
    ) -> None:
        self._administration = administration
        self._logins = logins
        self._revoking = revoking
        self._keeping = keeping
        self._about = about

    def by_name(self) -> dict[str, Operation]:
        """Every operation, as the control socket offers it."""
        return {
            "ping": Taking(calls.Ping, self.ping),
            "refresh": Taking(calls.Refresh, self.refresh),
            "pause": Taking(calls.Pause, self.pause),
            "resume": Taking(calls.Resume, self.resume),
            "export": Taking(calls.Export, self.export),
            "refresh_lost": Taking(calls.RefreshLost, self.refresh_lost),
            "login_target": Taking(calls.LoginBegin, self.login_target),
            "login_begin": Taking(calls.LoginBegin, self.login_begin),
            "login_finish": Taking(calls.LoginFinish, self.login_finish),
            "import": Taking(calls.Import, self.import_grants),
            "remove": Taking(calls.Remove, self.remove),
            "revoke": Taking(calls.Revoke, self.revoke),
            "set_token": Taking(calls.SetToken, self.set_token),
            "rotate_key": Taking(calls.RotateKey, self.rotate_key),
            "adopt_kept": Taking(calls.AdoptKept, self.adopt_kept),
            "drop_kept": Taking(calls.DropKept, self.drop_kept),
            "key_status": Taking(calls.KeyStatus, self.key_status),
        }

    async def ping(self, _: calls.Ping) -> answers.Daemon:
        """Who answers."""
        return self._about

    async def refresh(self, call: calls.Refresh) -> answers.Refreshed:
        """Make a grant due now; where it cannot be, ``stands`` says how it is."""
        grant = await self._administration.refresh(call.name)
        if grant is not None:
            return {"accepted": True}
        return {"accepted": False, "stands": view(await self._administration.grant(call.name))}

    async def pause(self, call: calls.Pause) -> answers.Ordered:
        """Send nothing for some grants; tells when the refresh token of a named one dies unused."""
        done = await self._administration.pause(selected(call), call.seconds)
        return await self._told(done)

    async def resume(self, call: calls.Resume) -> answers.Ordered:
        """End the pauses of some grants; they are due now."""
        return await self._told(await self._administration.resume(selected(call)))

    async def export(self, call: calls.Export) -> answers.Exported:
        """A page of grants as ``import`` takes them, and those left out.

        The answer holds refresh tokens: it goes to whoever asked, and nowhere else.
        """
        page = await self._administration.export(selected(call), call.after)
        return {
            "lines": [line_of(one) for one in page.exported],
            "left_out": [
                {"name": one.name, "why": one.why, "is_worth_a_try": one.is_worth_a_try}
                for one in page.left_out
            ],
            "last": page.last,
        }

    async def _told(self, done: Changed) -> answers.Ordered:
        grants: list[answers.OrderedView] = [
            {
                **view(grant),
                "exchange_out": await self._administration.is_out(grant),
                "refresh_token_dies_at": self._administration.refresh_token_dies_at(grant),
            }
            for grant in done.grants
        ]
        return {"count": done.count, "grants": grants}

    async def refresh_lost(self, call: calls.RefreshLost) -> answers.Asked:
        """Ask once more for grants that were finally rejected."""
        return {"asked": await self._administration.ask_lost(call.names, call.client)}

    async def login_target(self, call: calls.LoginBegin) -> answers.LoginTarget:
        """What a login would be for, and where its answer would come to.

        ``redirect_uri`` is null where only a device code can bring its tokens.
        """
        target = await self._logins.targets.find(call.name, client_name=call.client)
        if target.wants_device and call.redirect_uri is None:
            return {"client": target.client.name, "redirect_uri": None}
        return {
            "client": target.client.name,
            "redirect_uri": target.redirect_uri(call.redirect_uri),
        }

    async def login_begin(self, call: calls.LoginBegin) -> answers.LoginBegun:
        """Start a login; gives the URL to open, and what an answer to it must carry."""
        login = await self._logins.begin(
            call.name, redirect_uri=call.redirect_uri, client_name=call.client
        )
        return {
            "login": login.id,
            "client": login.client.name,
            "authorization_url": login.request.url,
            "redirect_uri": login.request.awaited.redirect_uri,
            "state": login.request.awaited.state.reveal(),
        }

    async def login_finish(self, call: calls.LoginFinish) -> answers.LoggedIn:
        """Redeem the code in what was pasted."""
        done = await self._logins.finish(call.login, call.pasted.reveal())
        return await authorized_view(done, self._administration)

    async def import_grants(self, call: calls.Import) -> answers.Imported:
        """Add grants, all or none."""
        seeds = [seed_of(grant) for grant in call.grants]
        done = await self._administration.import_grants(seeds, replace=call.replace)
        grants: list[answers.ImportedView] = [
            {
                **view(seeded.grant),
                "result": seeded.result.value,
                "exchange_out": seeded.result is SeedResult.ADOPTED
                and await self._administration.is_out(seeded.grant),
            }
            for seeded in done
        ]
        return {"grants": grants}

    async def remove(self, call: calls.Remove) -> answers.Removed:
        """Forget a grant; ``exchange_out`` says that an answer to it may still come."""
        grant = await self._administration.remove(call.name)
        out = await self._administration.is_out(grant)
        return {"removed": call.name, "exchange_out": out}

    async def revoke(self, call: calls.Revoke) -> answers.Revoked:
        """End an authorization; ``revoked`` once nothing of it is left open."""
        done = await self._revoking.revoke(call.name)
        return {
            **view(done.grant),
            "revoked": not done.parked and not done.is_out,
            "revocations": parked_views(done.parked),
            "result": done.result,
            "exchange_out": done.is_out,
            "exchange_unresolved": done.is_unresolved,
        }

    async def set_token(self, call: calls.SetToken) -> answers.GrantView:
        """Replace a static token."""
        grant = await self._administration.set_token(
            call.name,
            call.token,
            expires_at=call.expires_at,
            token_type=call.token_type or "Bearer",
        )
        return view(grant)

    async def adopt_kept(self, call: calls.AdoptKept) -> answers.GrantView:
        """Let a kept answer count for a grant, which is due then, if nothing newer is there."""
        return view(await self._keeping.adopt(call.id, call.name))

    async def drop_kept(self, call: calls.DropKept) -> answers.Dropped:
        """Forget a kept answer, and the only copy of what is in it."""
        dropped = await self._keeping.drop(call.id)
        return {"dropped": call.id, "grant": dropped.name}

    async def rotate_key(self, _: calls.RotateKey) -> answers.NewKey:
        """Bring in a vault key; ``key_status`` tells when it seals, and all else is under it."""
        return {"key": await self._administration.rotate_key()}

    async def key_status(self, _: calls.KeyStatus) -> answers.KeysView:
        """What is sealed under each key; ``resealing`` while something is to be brought over."""
        keys, is_resealing = await self._administration.sealed_under()
        return {"keys": [key_view(key) for key in keys], "resealing": is_resealing}


async def authorized_view(done: Authorized, administration: Administration) -> answers.LoggedIn:
    """What a login came to."""
    return {
        **view(done.grant),
        "exchange_out": await administration.is_out(done.grant),
        "account_before": done.account_before,
    }


def key_view(key: SealedUnder) -> answers.KeyView:
    """What is sealed under KEY; ``can_go`` where its line is needed by no part of the vault."""
    return {
        "line": key.line,
        "key": key.key_id,
        "sealed": dict(key.counts),
        "first_format": key.first_format,
        "seals": key.seals,
        "waits": key.waits,
        "unread_by": [_replica(one) for one in key.unread_by],
        "needed_by": [_replica(one) for one in key.needed_by],
        "can_go": key.can_go,
    }


def _replica(one: Reader) -> answers.ReplicaView:
    return {"replica": one.name, "instance": one.holder}


def selected(call: calls.Pause | calls.Resume | calls.Export) -> Selection:
    """The grants that CALL means."""
    return Selection(names=call.names, client=call.client)


def line_of(exported: Exported) -> answers.ExportedLine:
    """What EXPORTED is to `import`; a line holds what ``ImportedGrant`` knows, and its secrets."""
    grant, access_token = exported.grant, exported.access_token
    line: answers.ExportedLine = {
        "name": grant.name,
        "client": grant.client,
        "refresh_token": exported.refresh_token.reveal(),
        "scope": list(grant.scope),
        "labels": dict(grant.labels),
    }
    if access_token is None or not VISIBLE.fullmatch(access_token.reveal()):
        return line
    return {
        **line,
        "access_token": access_token.reveal(),
        "expires_at": grant.expires_at,
        "token_type": exported.token_type,
    }


def seed_of(grant: calls.ImportedGrant) -> Seed:
    """GRANT as the vault takes it."""
    return Seed(
        name=grant.name,
        kind=GrantKind.STATIC if grant.refresh_token is None else GrantKind.REFRESHABLE,
        client=grant.client,
        scope=tuple(grant.scope or ()),
        labels=grant.labels or {},
        refresh_token=grant.refresh_token,
        access_token=grant.access_token,
        expires_at=grant.expires_at,
        token_type=grant.token_type or "Bearer",
    )
