"""Looking at a client's servers without spending anything.

Every request is a GET that carries neither credentials nor parameters: no refresh token, no
code and no attempt at a password is used up, and nothing of the client is told.
"""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.completion import completed, doubts
from refresher.domain.discovery import Known
from refresher.domain.findings import Finding, Level
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.domain.repairs import PLAIN_TO_TLS, UNREACHABLE
from refresher.errors import DiscoveryFailed
from refresher.oauth.ends import read_instant
from refresher.oauth.fault_words import WORDS
from refresher.oauth.metadata import discover
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import Reply
from refresher.times import dated, duration

ANSWER_WITHIN = 10.0
"""Seconds a server may take for one of these requests."""

CLOCK_TOLERANCE = 60.0
"""Seconds between a server's clock and ours that pass: its ``Date`` has whole seconds, and a
cache on the way may be as old."""

SHOWN = ("token_endpoint", "authorization_endpoint")
"""Endpoints that are looked at."""

NOT_FOUND = frozenset({404, 410})


async def probe(endpoint: TokenEndpoint, client: Client, clock: Clock) -> list[Finding]:
    """What there is to say of the servers of CLIENT: its endpoints, their clock, the metadata."""
    client, metadata, found = await _discovered(endpoint, client, clock.now())
    for setting, url in _endpoints(client):
        reply = await endpoint.get(client, url, patience=Patience(ANSWER_WITHIN))
        found.append(_reached(client, setting, url, reply, metadata))
        if setting == "token_endpoint" and isinstance(reply, Reply):
            found += _clock(client, reply, clock.now())
    return found


def _endpoints(client: Client) -> Iterator[tuple[str, str]]:
    if client.endpoints.token:
        yield "token_endpoint", client.endpoints.token
    if client.endpoints.authorization is not None:
        yield "authorization_endpoint", client.endpoints.authorization


def _reached(
    client: Client,
    setting: str,
    url: str,
    reply: Reply | NotSent | OutcomeUnknown,
    metadata: Mapping[str, str],
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


async def _discovered(
    endpoint: TokenEndpoint, client: Client, now: float
) -> tuple[Client, Mapping[str, str], list[Finding]]:
    """CLIENT with what its server tells now, the endpoints told, and what is to be said of both."""
    wanted, subject = client.discovery, f"client {client.name}"
    if wanted is None or wanted.source is None:
        return client, {}, []
    try:
        metadata = await discover(endpoint, client, now)
    except DiscoveryFailed as error:
        text, _, mend = str(error).partition(": ")
        level = Level.DOUBT if error.passes and client.endpoints.token else Level.PROBLEM
        return client, {}, [Finding(subject=subject, text=text, level=level, mend=mend)]
    told = metadata.endpoints
    if not told:
        return client, {}, [Finding(subject=subject, text=f"{metadata.issuer} shows no metadata")]
    found = [
        Finding(
            subject=subject,
            text=f"the metadata of its issuer name another {setting}: {_shown(told[setting])}",
            level=Level.DOUBT,
            mend=f"set {setting} to it, or take it away, unless {_shown(url)} is meant",
        )
        for setting, url in _endpoints(client)
        if setting in wanted.told and told.get(setting, url) != url
    ]
    if not found:
        ours = all(key in wanted.told for key in told if key in SHOWN)
        same = "name the same endpoints" if ours else "name its endpoints"
        found = [Finding(subject=subject, text=f"the metadata of its issuer {same}")]
    if wanted.issuer is None:
        text = f"{wanted.source} names the authorization server {metadata.issuer}"
        found.insert(0, Finding(subject=subject, text=text))
    client = completed(client, Known(metadata))
    for doubt in doubts(client, Known(metadata), now):
        text, _, mend = doubt.partition(": ")
        found.append(Finding(subject=subject, text=text, level=Level.DOUBT, mend=mend))
    return client, told, found


def _shown(url: str) -> str:
    """URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
