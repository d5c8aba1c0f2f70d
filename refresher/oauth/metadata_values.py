"""What a document of metadata holds, as far as it can be believed, sent to and shown."""

from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.domain.urls import endpoint_fault, is_link_local
from refresher.oauth.fault_words import WORDS
from refresher.oauth.transport import Reply

DEADLINE = 5.0
"""Seconds a server may take to show one document; a person who logs in may wait for it."""

LONGEST_URL = 2048
MOST_WORDS = 200
"""Values of a list that are kept; a server with many scopes has a hundred."""


def url_fault(url: object, client: Client, *, below: str | None = None) -> str | None:
    """What keeps URL, of a document for CLIENT, from being asked, or None.

    Args:
        below: the URL of whoever names it. Plain HTTP is taken only from one that has no TLS
            itself: metadata of a server elsewhere must not lead to a port of this machine.
    """
    if not isinstance(url, str) or len(url) > LONGEST_URL or not url.isascii():
        return "is no URL"
    fault = endpoint_fault(url, allow_plain_http=_allows_plain(client))
    if fault is not None:
        return fault
    if url.startswith("http:") and below is not None and not below.startswith("http:"):
        return "is http://, and whoever names it is https://"
    if is_link_local(urlsplit(url).hostname or ""):
        return "is a link-local address, where clouds keep metadata of their own"
    return None


def _allows_plain(client: Client) -> bool:
    return client.discovery is not None and client.discovery.allow_plain_http


def words_in(value: object) -> tuple[str, ...]:
    """The strings of a list that can be shown and sent as they are."""
    if not isinstance(value, list):
        return ()
    sound = [each for each in value if isinstance(each, str) and each.isascii()]
    return tuple(each for each in sound if each.isprintable() and each and " " not in each)[
        :MOST_WORDS
    ]


def why_unread(reply: Reply | NotSent | OutcomeUnknown) -> str:
    """Why REPLY is no document, as a person reads it."""
    if isinstance(reply, Reply):
        return f"it answers with {reply.status}" + (", cut off" if reply.broken else "")
    return WORDS.get(reply.reason, reply.reason)


def is_passing(reply: Reply | NotSent | OutcomeUnknown) -> bool:
    """Whether REPLY says nothing about what the server has: it may be better later."""
    return not isinstance(reply, Reply) or reply.status >= 500 or reply.broken is not None  # noqa: PLR2004  the class of status codes
