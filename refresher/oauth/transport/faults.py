"""What broke, in a closed vocabulary: from the library's exceptions to reasons.

The exceptions may quote the URL, and with it secrets, so only these words get out.
"""

import errno
import ssl

import aiohttp
from aiohttp.http import HttpProcessingError

from refresher.domain.outcomes import OutcomeUnknown
from refresher.oauth.transport.connections import INTERIM, MALFORMED, Kept
from refresher.oauth.transport.replies import Reply
from refresher.oauth.transport.second_reader import find_status

TRANSPORT_FAULTS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError, EOFError)
"""All that networks and servers can make the library raise; time-outs are OSErrors. Anything
else is a bug, and the engine's supervision treats it as an unknown outcome."""

CERTIFICATE_FAULTS = {
    10: "tls_certificate_expired",
    18: "tls_certificate_self_signed",
    19: "tls_certificate_self_signed",
    20: "tls_certificate_untrusted",
    62: "tls_certificate_hostname",
    64: "tls_certificate_hostname",
}
"""OpenSSL's X509_V_ERR numbers that tell an operator what to mend."""

NO_DESCRIPTORS = "no_descriptors"

PLAIN_TO_TLS = "plain_to_tls_port"

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
"""What OpenSSL says, by its release, when no TLS record came back."""

_TLS_ALERT = b"\x15\x03"
"""How a server that speaks TLS refuses a plain request (RFC 8446 5.1)."""

_TLS_PORT_PHRASES = (
    b"plain http request was sent to https port",  # nginx
    b"speaking plain http to an ssl-enabled server port",  # Apache
    b"client sent an http request to an https server",  # Go, Caddy, Traefik
    b"combination of host and port requires tls",  # Tomcat
    b"http request was sent to an https port",  # HAProxy, lighttpd and their relatives
)


def is_out_of_descriptors(error: BaseException | None) -> bool:
    """Whether ERROR, or what it came from, is EMFILE or ENFILE."""
    for _ in range(10):  # a chain of causes could be a ring
        if error is None:
            return False
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    return False


def reason_not_sent(error: Exception, proxied: str | None) -> str:
    """Why a request never left; PROXIED is the proxy's URL."""
    if is_out_of_descriptors(error):
        return NO_DESCRIPTORS
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            number = getattr(cause, "verify_code", 0)
            return CERTIFICATE_FAULTS.get(number, "tls_certificate")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return _tls_fault(error, proxied)
        case TimeoutError():
            return "connect_timeout"
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            return "proxy"
        case _ if proxied is not None:
            return "proxy"
        case aiohttp.InvalidURL() | ValueError():
            return "invalid_url"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "refused"
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError()):
            return "disconnected"
        case aiohttp.ServerDisconnectedError():
            return "disconnected"
        case _:
            return "unreachable"


def _tls_fault(error: Exception, proxied: str | None) -> str:
    cause = getattr(error, "os_error", error)
    if getattr(cause, "reason", None) not in _NO_TLS:
        return "tls"
    # A proxy that is spoken to in TLS answers first: its port may be the plain one.
    return "proxy" if (proxied or "").lower().startswith("https:") else "tls_to_plain_port"


def unanswered(kept: Kept | None, error: Exception | None, *, timed_out: bool) -> OutcomeUnknown:
    """The outcome of a request that left and of which no answer could be read."""
    received = b"" if kept is None else bytes(kept.received)
    refusal = None if kept is None else kept.refusal
    if refusal == INTERIM:
        return OutcomeUnknown(reason=INTERIM)
    if received.startswith(_TLS_ALERT):
        return OutcomeUnknown(reason=PLAIN_TO_TLS)
    if refusal is None and isinstance(error, HttpProcessingError | ValueError):
        refusal = MALFORMED
    may_hold_tokens = b"token" in received.lower()
    return OutcomeUnknown(
        reason=refusal or ("timeout" if timed_out else "disconnected"),
        status=find_status(received) if may_hold_tokens else None,
        body=received or None,
        may_hold_tokens=may_hold_tokens,
    )


def speaks_of_tls(reply: Reply) -> bool:
    """Whether REPLY says that its port wants TLS."""
    if reply.status != 400:  # noqa: PLR2004  what all of them answer with
        return False
    beginning = reply.body[:4096].lower()
    return any(phrase in beginning for phrase in _TLS_PORT_PHRASES)
