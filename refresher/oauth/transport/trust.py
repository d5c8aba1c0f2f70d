"""Whom TLS trusts, and as whom we come: contexts, made anew when one of their files is replaced."""

import os
import re
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from refresher.domain.clients import Client
from refresher.logs import Event, emit
from refresher.oauth.transport.faults import is_out_of_descriptors

Identity = tuple[int, ...]
"""What changes when a file is replaced. Its time is not enough: secret stores swap symlinks
between files that were written at the same second."""

SYSTEM_BUNDLE: str | None = ssl.get_default_verify_paths().cafile
"""What the system trusts; replaced when its packages are, while the daemon runs for months."""

Shown = tuple[str, str | None]
"""The files of a client certificate and of its private key; None: in the same file."""

_BEGIN, _END = b"-----BEGIN ", b"-----END "


@dataclass(slots=True)
class _Trusted:
    """The last good context of one bundle."""

    context: ssl.SSLContext
    looked_at: Identity | None
    """The file that was read last, for better or worse; None when there was none."""


class CertificateUnusable(Exception):
    """Raised when a client certificate or its key cannot be used, and never could be."""


class Trust:
    """TLS contexts, kept as long as the files that they are made of stay the same."""

    def __init__(self) -> None:
        self._trusted: dict[tuple[str | None, Shown | None], _Trusted] = {}

    def context(self, ca_bundle: str | None, shown: Shown | None = None) -> ssl.SSLContext:
        """The context that trusts CA_BUNDLE, or with None what the system trusts.

        A file that was replaced counts from the next connection. One that is missing, empty or
        half written keeps the last good context: whoever replaces it is still at it.

        Args:
            shown: the certificate that proves who we are (RFC 8705).

        Raises:
            OSError: the bundle cannot be read, and never could be.
            ValueError: it is half written, and never was whole.
            CertificateUnusable: the same of the certificate or its key.
        """
        key = (ca_bundle, shown)
        trusted = self._trusted.get(key)
        try:
            identity = _identity(ca_bundle, shown)
            if trusted is not None and trusted.looked_at == identity:
                return trusted.context
            context = _load(ca_bundle, shown)
        except (OSError, ValueError, CertificateUnusable) as error:
            if trusted is None:
                raise
            if not is_out_of_descriptors(error):
                self._doubt(ca_bundle, shown, trusted)
            return trusted.context
        self._trusted[key] = _Trusted(context, identity)
        return context

    def _doubt(self, ca_bundle: str | None, shown: Shown | None, trusted: _Trusted) -> None:
        """Say once that files cannot be used, and look again when one changes."""
        try:
            identity = _identity(ca_bundle, shown)
        except (OSError, ValueError):
            identity = None
        if identity == trusted.looked_at:
            return
        trusted.looked_at = identity
        if shown is None:
            reason = "a CA bundle cannot be used: the one before is still trusted"
        else:
            reason = "a client certificate, its key or a CA bundle cannot be used: those before are"
        path = ca_bundle if shown is None else shown[0]
        emit(Event.SETTINGS_DOUBTED, reason=reason, path=path)


def identity_of(client: Client) -> Shown | None:
    """The certificate that CLIENT shows, where that is how it proves itself."""
    known = client.authentication
    if known.certificate is None or not client.quirks.client_authentication.has_certificate:
        return None
    return known.certificate, known.certificate_key


def _identity(ca_bundle: str | None, shown: Shown | None) -> Identity | None:
    bundle = ca_bundle or SYSTEM_BUNDLE
    identity = () if bundle is None else _identity_of_file(bundle)
    for file in filter(None, shown or ()):
        identity += _identity_of_file(file)
    return identity or None


def _identity_of_file(path: str) -> Identity:
    found = os.stat(path)  # noqa: PTH116  a microsecond, on the way of every exchange
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("a CA bundle is no regular file")  # to read a FIFO would stop the loop
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _load(ca_bundle: str | None, shown: Shown | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle)
    if ca_bundle is not None and not _is_whole(Path(ca_bundle).read_bytes()):
        raise ValueError("a CA bundle ends within a certificate")
    context.set_alpn_protocols(["http/1.1"])
    if shown is not None:
        try:
            # Without a password for a key that is sealed OpenSSL would ask the terminal.
            context.load_cert_chain(*shown, password=lambda: "")
        except (OSError, ValueError) as error:
            if is_out_of_descriptors(error):
                raise
            raise CertificateUnusable from error
    return context


def _is_whole(pem: bytes) -> bool:
    """Whether PEM ends after a certificate; OpenSSL overlooks a last one that only begins."""
    _, _, tail = pem.rpartition(_END)
    after = tail.partition(b"\n")[2]
    return pem.count(_BEGIN) == pem.count(_END) and not re.search(rb"^-", after, re.MULTILINE)
