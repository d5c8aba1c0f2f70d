"""Whom TLS trusts: one context a CA bundle, made anew when the bundle is replaced."""

import os
import re
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from refresher.logs import Event, emit
from refresher.oauth.transport.faults import is_out_of_descriptors

Identity = tuple[int, ...]
"""What changes when a file is replaced. Its time is not enough: secret stores swap symlinks
between files that were written at the same second."""

SYSTEM_BUNDLE = ssl.get_default_verify_paths().cafile
"""What the system trusts; replaced when its packages are, while the daemon runs for months."""

_BEGIN, _END = b"-----BEGIN ", b"-----END "


@dataclass(slots=True)
class _Trusted:
    """The last good context of one bundle."""

    context: ssl.SSLContext
    looked_at: Identity | None
    """The file that was read last, for better or worse; None when there was none."""


class Trust:
    """TLS contexts, kept as long as their CA bundle stays the same."""

    def __init__(self) -> None:
        self._trusted: dict[str | None, _Trusted] = {}

    def context(self, ca_bundle: str | None) -> ssl.SSLContext:
        """The context that trusts CA_BUNDLE, or with None what the system trusts.

        A bundle that was replaced counts from the next connection. One that is missing,
        empty or half written keeps the last good context: whoever replaces it is still at it.

        Raises:
            OSError: the bundle cannot be read, and never could be.
            ValueError: it is half written, and never was whole.
        """
        trusted = self._trusted.get(ca_bundle)
        try:
            identity = _identity(ca_bundle)
            if trusted is not None and trusted.looked_at == identity:
                return trusted.context
            context = _load(ca_bundle)
        except (OSError, ValueError) as error:
            if trusted is None:
                raise
            if not is_out_of_descriptors(error):
                self._doubt(ca_bundle, trusted)
            return trusted.context
        self._trusted[ca_bundle] = _Trusted(context, identity)
        return context

    def _doubt(self, ca_bundle: str | None, trusted: _Trusted) -> None:
        """Say once that a bundle cannot be used, and look again when it changes."""
        try:
            identity = _identity(ca_bundle)
        except (OSError, ValueError):
            identity = None
        if identity == trusted.looked_at:
            return
        trusted.looked_at = identity
        reason = "a CA bundle cannot be used: the one before is still trusted"
        emit(Event.SETTINGS_DOUBTED, reason=reason, path=ca_bundle)


def _identity(ca_bundle: str | None) -> Identity | None:
    path = ca_bundle or SYSTEM_BUNDLE
    if path is None:
        return None
    found = os.stat(path)  # noqa: PTH116  a microsecond, on the way of every exchange
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("a CA bundle is no regular file")  # to read a FIFO would stop the loop
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _load(ca_bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_bundle)
    if ca_bundle is not None and not _is_whole(Path(ca_bundle).read_bytes()):
        raise ValueError("a CA bundle ends within a certificate")
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_whole(pem: bytes) -> bool:
    """Whether PEM ends after a certificate; OpenSSL overlooks a last one that only begins."""
    _, _, tail = pem.rpartition(_END)
    after = tail.partition(b"\n")[2]
    return pem.count(_BEGIN) == pem.count(_END) and not re.search(rb"^-", after, re.MULTILINE)
