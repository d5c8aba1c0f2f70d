"""From sections of the settings to seeds: what the settings say a grant should be."""

from collections.abc import Mapping

from refresher.domain.grants import LABEL_RULE, is_valid_label
from refresher.domain.renewal import NO_TERMS
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.providers import find_provider
from refresher.settings.catalogued import with_refresh_token_scope
from refresher.settings.clients import check_name, warn_of_scope
from refresher.settings.document import ClientSection, GrantSection
from refresher.settings.kinds import kind_of, terms_of
from refresher.settings.layers import KeyPath
from refresher.settings.report import Report, suggestion
from refresher.settings.secret_reader import SecretReader
from refresher.text import is_plain


def read_seeds(
    grants: Mapping[str, GrantSection],
    clients: Mapping[str, ClientSection],
    secrets: SecretReader,
    report: Report,
) -> list[Seed]:
    """A seed for each of GRANTS whose token is read; what is wrong with one is reported."""
    seeds = [
        _seed(name, section, clients, secrets, report)
        for name, section in grants.items()
        if _is_whole(name, section, secrets)
    ]
    _refuse_shared_refresh_tokens(seeds, report)
    return seeds


def _is_whole(name: str, section: GrantSection, secrets: SecretReader) -> bool:
    """Whether the seed lacks nothing: one whose token was left unread would be another seed."""
    has_token = section.refresh_token is not None or section.static_token is not None
    return not has_token or secrets.reads(("grants", name))


def _seed(
    name: str,
    section: GrantSection,
    clients: Mapping[str, ClientSection],
    secrets: SecretReader,
    report: Report,
) -> Seed:
    path: KeyPath = ("grants", name)
    check_name(path, name, report)
    _check_labels(path, section, report)
    _check_kind(path, section, report)
    client = _check_client(path, section, clients, report)
    provider = find_provider(client.provider) if client and client.provider else None
    warn_of_scope((*path, "scope"), section.scope, provider, report)
    kind = kind_of(section, client)
    scope = with_refresh_token_scope(section.scope, provider) if section.scope else ()
    if kind.renews_itself:
        scope = section.scope or (client.scope if client else ())
    return Seed(
        name=name,
        kind=kind,
        client=section.client,
        scope=scope,
        terms=terms_of(section) if kind.renews_itself else NO_TERMS,
        labels=section.labels,
        refresh_token=secrets.read((*path, "refresh_token"), section.refresh_token),
        access_token=secrets.read((*path, "static_token"), section.static_token),
        expires_at=section.expires_at,
        token_type=section.token_type or "Bearer",
    )


def _check_labels(path: KeyPath, section: GrantSection, report: Report) -> None:
    for label, value in section.labels.items():
        if not is_valid_label(label):
            report.problem((*path, "labels", label), f"is no label: use {LABEL_RULE}")
        elif not is_plain(value):
            report.problem((*path, "labels", label), "holds a control character: take it out")


def _check_kind(path: KeyPath, section: GrantSection, report: Report) -> None:
    if section.static_token is None:
        if report.is_faulty((*path, "static_token")):
            return
        for key in ("expires_at", "token_type"):
            if getattr(section, key) is not None:
                report.problem((*path, key), "belongs to a static_token: the server tells it here")
        return
    if section.refresh_token is not None:
        report.problem(
            (*path, "static_token"),
            "and refresh_token are both set: a grant is either static or refreshed; keep one",
        )
    if section.scope:
        report.problem(
            (*path, "scope"), "belongs to a login: a static_token has the scope it was made with"
        )


def _check_client(
    path: KeyPath,
    section: GrantSection,
    clients: Mapping[str, ClientSection],
    report: Report,
) -> ClientSection | None:
    key = (*path, "client")
    if section.client is None:
        is_static = section.static_token is not None
        if not (is_static or report.is_faulty(key) or report.is_faulty((*path, "static_token"))):
            report.problem(key, "is missing: name one of clients, or set a static_token")
        return None
    if section.client not in clients and not report.is_faulty(("clients", section.client)):
        known = f"known: {', '.join(sorted(clients))}" if clients else "no client is known"
        report.problem(key, f"names {section.client}, {known}{suggestion(section.client, clients)}")
    return clients.get(section.client)


def _refuse_shared_refresh_tokens(seeds: list[Seed], report: Report) -> None:
    """Two grants that spend one refresh token would destroy each other."""
    owners: dict[tuple[str | None, Secret], str] = {}
    for seed in seeds:
        if seed.refresh_token is None:
            continue
        owner = owners.setdefault((seed.client, seed.refresh_token), seed.name)
        if owner != seed.name:
            report.problem(
                ("grants", seed.name, "refresh_token"),
                f"is the one of grant {owner} of the same client: give each grant its own",
            )
