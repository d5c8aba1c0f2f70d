"""Looking at a client's servers without spending anything.

Every request is a GET that carries neither credentials nor parameters: no refresh token, no
code and no attempt at a password is used up, and nothing of the client is told.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.findings import Finding, Level
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.domain.repairs import PLAIN_TO_TLS, UNREACHABLE
from refresher.oauth.documents import read_fields
from refresher.oauth.ends import read_instant
from refresher.oauth.metadata import places
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply
from refresher.times import dated, duration

ANSWER_WITHIN = 10.0
"""Seconds a server may take for one of these requests."""

CLOCK_TOLERANCE = 60.0
"""Seconds between a server's clock and ours that pass: its ``Date`` has whole seconds, and a
cache on the way may be as old."""

NOT_FOUND = frozenset({404, 410})

WORDS = {
    "dns": "its host name is not found",
    "refused": "nothing listens there",
    "connect_timeout": "no connection within 5 s",
    "disconnected": "the connection is closed at once",
    "proxy": "the proxy does not let it through",
    "ca_bundle": "the ca_bundle cannot be read",
    "tls": "TLS could not be agreed on",
    "tls_certificate": "its TLS certificate is not accepted",
    "tls_certificate_expired": "its TLS certificate has expired",
    "tls_certificate_untrusted": "its TLS certificate is of an authority unknown here",
    "tls_certificate_self_signed": "its TLS certificate is self-signed",
    "tls_certificate_hostname": "its TLS certificate is for another host",
    "tls_to_plain_port": "the port speaks plain HTTP",
    "plain_to_tls_port": "the port speaks TLS",
    "timeout": f"no answer within {ANSWER_WITHIN:g} s",
}
"""Reasons of ``transport.faults`` as a person reads them."""


async def probe(endpoint: TokenEndpoint, client: Client, clock: Clock) -> list[Finding]:
    """What there is to say of the servers of CLIENT: its endpoints, their clock, the metadata."""
    metadata, found = await _metadata(endpoint, client)
    for setting, url in _endpoints(client):
        reply = await endpoint.get(client, url, patience=Patience(ANSWER_WITHIN))
        found.append(_reached(client, setting, url, reply, metadata))
        if setting == "token_endpoint" and isinstance(reply, Reply):
            found += _clock(client, reply, clock.now())
    return found


def _endpoints(client: Client) -> Iterator[tuple[str, str]]:
    yield "token_endpoint", client.endpoints.token
    if client.endpoints.authorization is not None:
        yield "authorization_endpoint", client.endpoints.authorization


def _reached(
    client: Client,
    setting: str,
    url: str,
    reply: Reply | NotSent | OutcomeUnknown,
    metadata: dict[str, object],
) -> Finding:
    """What the answer of one endpoint says."""
    subject, where = f"client {client.name}", f"its {setting} at {_shown(url)}"
    way = "" if client.route.proxy is None else " through its proxy"
    if not isinstance(reply, Reply):
        told = WORDS.get(reply.reason, reply.reason)
        return Finding(
            subject=subject,
            text=f"{where} cannot be reached{way}: {told}",
            level=Level.PROBLEM,
            mend=_mend(reply.reason, setting),
        )
    answers = f"{where} answers{way} with {reply.status}"
    if reply.status in NOT_FOUND and metadata.get(setting) != url:
        return Finding(
            subject=subject,
            text=f"{answers}: there may be nothing at this path",
            level=Level.DOUBT,
            mend=f"compare {setting} with the provider's documentation; some servers answer so "
            "to anything but a POST, and then it is right",
        )
    if 300 <= reply.status < 400 and setting == "token_endpoint":  # noqa: PLR2004  redirects
        return Finding(
            subject=subject,
            text=f"{answers}: it redirects, and a redirect is never followed with a secret",
            level=Level.DOUBT,
            mend=f"set {setting} to where it leads",
        )
    if reply.status >= 500:  # noqa: PLR2004  the class of status codes
        return Finding(
            subject=subject,
            text=f"{answers}: the server fails",
            level=Level.DOUBT,
            mend="wait, and look at the status page of the provider",
        )
    return Finding(subject=subject, text=answers)


def _mend(reason: str, setting: str) -> str:
    if reason == "plain_to_tls_port":
        known = PLAIN_TO_TLS
    else:
        known = UNREACHABLE.get(reason, "check its token_endpoint and the network")
    return known.replace("token_endpoint", setting)


def _clock(client: Client, reply: Reply, now: float) -> Iterator[Finding]:
    """How far the clock of the server is from ours, where it tells."""
    date = read_instant(reply.headers.get("Date"))
    if date is None:
        return
    ahead = now - date
    subject = f"client {client.name}"
    if abs(ahead) <= CLOCK_TOLERANCE:
        yield Finding(subject=subject, text="the clock of its server and ours agree")
        return
    yield Finding(
        subject=subject,
        text=f"our clock is {duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} its "
        f"server's, which says {dated(date, now)}",
        level=Level.PROBLEM,
        mend="set this machine's clock (timedatectl set-ntp true); if it is right, the server's is "
        "wrong, or a cache answers for it",
    )


async def _metadata(
    endpoint: TokenEndpoint, client: Client
) -> tuple[dict[str, object], list[Finding]]:
    """The metadata of the issuer of CLIENT, and what they say against its settings."""
    if client.endpoints.issuer is None:
        return {}, []
    fields = await _document(endpoint, client, client.endpoints.issuer)
    subject = f"client {client.name}"
    if fields is None:
        return {}, [Finding(subject=subject, text=f"{client.endpoints.issuer} shows no metadata")]
    if fields.get("issuer") != client.endpoints.issuer:
        return {}, [
            Finding(
                subject=subject,
                text=f"the metadata of {client.endpoints.issuer} name another issuer",
                level=Level.PROBLEM,
                mend="write its issuer exactly as they do; a login ends there otherwise",
            )
        ]
    differing = [
        Finding(
            subject=subject,
            text=f"the metadata of its issuer name another {setting}: {_shown(str(named))}",
            level=Level.DOUBT,
            mend=f"set {setting} to it, unless {_shown(url)} is meant",
        )
        for setting, url in _endpoints(client)
        if (named := fields.get(setting, url)) != url
    ]
    agree = Finding(subject=subject, text="the metadata of its issuer name the same endpoints")
    return fields, differing or [agree]


async def _document(
    endpoint: TokenEndpoint, client: Client, issuer: str
) -> dict[str, object] | None:
    """The first document of metadata that ISSUER shows."""
    for url in places(issuer):
        reply = await endpoint.get(client, url, patience=Patience(ANSWER_WITHIN))
        if isinstance(reply, Reply) and reply.status == 200:  # noqa: PLR2004  OK
            fields = read_fields(reply.body)
            if fields is not None:
                return dict(fields)
    return None


def _shown(url: str) -> str:
    """URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
