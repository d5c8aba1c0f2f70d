"""From the keys of a client that prove it to what its requests need."""

import ssl
from collections.abc import Collection, Iterator
from pathlib import Path

from refresher.domain.clients import Authentication
from refresher.domain.quirks import AssertionAudience, ClientAuthentication, Quirks
from refresher.domain.secret import Secret
from refresher.domain.service_accounts import read_private_key
from refresher.files import Unseen, read_file
from refresher.settings.document import ClientSection
from refresher.settings.layers import UNREAD, KeyPath, absolute
from refresher.settings.report import Report
from refresher.settings.secret_reader import SecretReader

LARGEST_CERTIFICATE = 1024 * 1024
"""Bytes of a client certificate with everything above it."""

USED_BY = {
    "second_client_secret": "client_secret_basic or client_secret_post",
    "client_private_key": "private_key_jwt",
    "client_key_id": "private_key_jwt",
    "client_certificate": "tls_client_auth or self_signed_tls_client_auth",
    "client_certificate_key": "tls_client_auth or self_signed_tls_client_auth",
}
"""What each key is for, but ``client_secret``."""


SIGNED_WITH = ("client_private_key", "client_key_id")


class AuthenticationBuilder:
    """Builds what one client proves itself with; whatever is wrong goes to the report.

    Args:
        base: the folder relative paths start at.
        signing: the clients that sign what their grants present, by name.
    """

    def __init__(
        self, *, base: Path, secrets: SecretReader, report: Report, signing: Collection[str]
    ) -> None:
        self._base = base
        self._secrets = secrets
        self._signing = signing
        self._report = report

    def build(self, path: KeyPath, section: ClientSection, quirks: Quirks) -> Authentication:
        """What the client at PATH has, as far as it is right."""
        private_key = self._secrets.read((*path, "client_private_key"), section.client_private_key)
        if private_key is not None and not _is_private_key(private_key):
            self._problem(
                (*path, "client_private_key"),
                "is no private key in PEM form without a passphrase: it begins with "
                "-----BEGIN PRIVATE KEY----- or the like; nor is it Google's JSON file of a "
                "service account",
            )
        certificate, certificate_key = self._certificate(path, section)
        found = Authentication(
            secret=self._secrets.read((*path, "client_secret"), section.client_secret),
            second_secret=self._secrets.read(
                (*path, "second_client_secret"), section.second_client_secret
            ),
            private_key=private_key,
            initial_access_token=self._secrets.read(
                (*path, "initial_access_token"), section.initial_access_token
            ),
            key_id=section.client_key_id,
            certificate=certificate,
            certificate_key=certificate_key,
        )
        self._check(path, section, quirks)
        return found

    def _check(self, path: KeyPath, section: ClientSection, quirks: Quirks) -> None:
        method = quirks.client_authentication
        is_doubtful = any(
            self._report.is_faulty((*path, key)) for key in ("client_authentication", "provider")
        )
        signs = path[-1] in self._signing
        for key, mend in () if is_doubtful else _missing(section, method, signs=signs):
            if not self._report.is_faulty((*path, key)):
                self._problem((*path, key), f"is missing: {mend}")
        if (
            method is ClientAuthentication.PRIVATE_KEY_JWT
            and quirks.assertion_audience is AssertionAudience.ISSUER
            and section.issuer is None
        ):
            self._problem(
                (*path, "issuer"), 'is missing: assertion_audience = "issuer" sends it; set it'
            )
        for key, methods in USED_BY.items():
            if signs and key in SIGNED_WITH:
                continue
            if getattr(section, key) is not None and method.value not in methods.split(" or "):
                self._report.warning(
                    (*path, key),
                    f'has no effect: client_authentication is "{method}", not {methods}',
                )

    def _certificate(self, path: KeyPath, section: ClientSection) -> tuple[str | None, str | None]:
        if section.client_certificate is None:
            return None, None
        file = absolute(self._base, section.client_certificate)
        beside = section.client_certificate_key
        key_file = None if beside is None else absolute(self._base, beside)
        key: KeyPath = (*path, "client_certificate")
        try:
            for each in filter(None, (file, key_file)):
                _, faults = read_file(each, largest=LARGEST_CERTIFICATE)
                if faults:
                    self._problem(key, f"others can change: {faults[0].text}")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(file, key_file, password=lambda: "")
        except Unseen as error:
            self._report.unseen(key, f"is {file}, which with its key {error}", of_service=False)
        except (ssl.SSLError, ValueError):
            self._problem(
                key,
                f"is {file}, which holds no certificate in PEM form with its private key, without "
                "a passphrase: set client_certificate_key where that is in another file",
            )
        return str(file), None if key_file is None else str(key_file)

    def _problem(self, path: KeyPath, text: str) -> None:
        self._report.problem(path, text)


def _missing(
    section: ClientSection, method: ClientAuthentication, *, signs: bool
) -> Iterator[tuple[str, str]]:
    """The keys that METHOD needs and SECTION lacks, each with the way out."""
    # A client without an id is given its secret when it is registered.
    if method.has_secret and section.client_secret is None and section.client_id is not None:
        yield "client_secret", 'set it, or client_authentication = "none" for a public client'
    signs |= method is ClientAuthentication.PRIVATE_KEY_JWT
    if signs and section.client_private_key is None:
        yield "client_private_key", "set the private key whose public half the server knows"
    if method.has_certificate and section.client_certificate is None:
        yield "client_certificate", "set the file of the certificate that the server knows"


def _is_private_key(secret: Secret) -> bool:
    text = read_private_key(secret)[0].reveal()
    is_sealed = "ENCRYPTED" in text
    return text == UNREAD or ("-----BEGIN" in text and "PRIVATE KEY-----" in text and not is_sealed)
