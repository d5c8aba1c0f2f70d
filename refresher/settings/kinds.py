"""What renews a grant, as the settings say it: its kind, and what each kind needs.

Every message names the way out.
"""

from collections.abc import Mapping

from refresher.domain.clients import SUBJECT, Client
from refresher.domain.grants import GrantKind
from refresher.domain.quirks import ClientAuthentication
from refresher.domain.renewal import SubjectTokenType, Terms
from refresher.providers import find_provider
from refresher.settings.document import ClientSection, Document, GrantSection
from refresher.settings.layers import KeyPath
from refresher.settings.report import Report, suggestion
from refresher.settings.values import GRANT_TYPES

OF_KINDS: Mapping[str, frozenset[GrantKind]] = {
    "audience": frozenset({GrantKind.CLIENT, GrantKind.ASSERTION, GrantKind.EXCHANGE}),
    "resource": frozenset({GrantKind.CLIENT, GrantKind.ASSERTION, GrantKind.EXCHANGE}),
    "subject": frozenset({GrantKind.ASSERTION, GrantKind.EXCHANGE}),
    "subject_token": frozenset({GrantKind.EXCHANGE}),
}
"""The kinds of grant that each of these keys is for."""


def kind_of(section: GrantSection, client: ClientSection | None) -> GrantKind:
    """What renews the grant of SECTION: what it says, what it has, or what its provider wants."""
    if section.grant_type is not None:
        return section.grant_type
    if section.static_token is not None:
        return GrantKind.STATIC
    provider = find_provider(client.provider) if client and client.provider else None
    wanted = provider.facts.grant_type if provider else None
    if wanted is None or section.refresh_token is not None:
        return GrantKind.REFRESHABLE
    return GRANT_TYPES[wanted]


def terms_of(section: GrantSection) -> Terms:
    """What the grant of SECTION asks for, where it renews itself."""
    return Terms(
        subject=section.subject,
        subject_token=section.subject_token or SubjectTokenType.ACCESS_TOKEN,
        audience=section.audience,
        resource=section.resource,
    )


def signing_clients(document: Document) -> frozenset[str]:
    """The clients of which a grant presents what they sign, by name."""
    return frozenset(
        section.client
        for section in document.grants.values()
        if section.client is not None
        and kind_of(section, document.clients.get(section.client)) is GrantKind.ASSERTION
    )


def check_kinds(document: Document, clients: Mapping[str, Client], report: Report) -> None:
    """Report what a grant lacks for its kind, and what has no meaning for it."""
    for name, section in document.grants.items():
        path: KeyPath = ("grants", name)
        kind = kind_of(section, document.clients.get(section.client or ""))
        _check_keys(path, section, kind, report)
        if kind is GrantKind.EXCHANGE:
            _check_subject(path, section, document, report)
        if (client := clients.get(section.client or "")) is not None:
            _check_client(path, section, kind, client, report)


def _check_keys(path: KeyPath, section: GrantSection, kind: GrantKind, report: Report) -> None:
    for key, kinds in OF_KINDS.items():
        if getattr(section, key) and kind not in kinds:
            names = [name for name, each in GRANT_TYPES.items() if each in kinds]
            report.problem((*path, key), f"belongs to a grant_type of {' or '.join(names)}")
    if not kind.renews_itself:
        if section.grant_type is not None and section.static_token is not None:
            report.problem(
                (*path, "grant_type"), "has no meaning for a static_token: take one of the two away"
            )
        return
    for key in ("refresh_token", "static_token"):
        if getattr(section, key) is not None:
            report.problem(
                (*path, key), "is not needed: its grant_type renews it; take one of the two away"
            )


def _check_subject(
    path: KeyPath, section: GrantSection, document: Document, report: Report
) -> None:
    key, subject = (*path, "subject"), section.subject
    if subject is None:
        if not report.is_faulty(key):
            report.problem(key, "is missing: name the grant whose token is exchanged")
        return
    theirs = document.grants.get(subject)
    if subject == path[-1]:
        report.problem(key, "is the grant itself: name the one whose token is exchanged")
    elif theirs is None:
        mend = suggestion(subject, document.grants)
        report.warning(key, f"is {subject}, no grant of the settings: is it imported?{mend}")
    elif kind_of(theirs, document.clients.get(theirs.client or "")) is GrantKind.EXCHANGE:
        report.problem(
            key, f"is {subject}, which is exchanged itself: name the grant that one exchanges"
        )
    elif section.subject_token is SubjectTokenType.REFRESH_TOKEN and theirs.static_token:
        report.problem((*path, "subject_token"), f"is refresh_token, and {subject} has none")


def _check_client(
    path: KeyPath, section: GrantSection, kind: GrantKind, client: Client, report: Report
) -> None:
    is_public = client.quirks.client_authentication is ClientAuthentication.NONE
    if kind is GrantKind.CLIENT and is_public:
        report.problem(
            (*path, "grant_type"),
            f"is client_credentials, and client {client.name} proves itself with nothing "
            '(client_authentication = "none"): set its client_secret',
        )
    if SUBJECT in client.endpoints.token and section.subject is None:
        report.problem(
            (*path, "subject"),
            f"is missing: the token_endpoint of client {client.name} has it as {SUBJECT}",
        )
