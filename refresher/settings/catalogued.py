"""What a client has from the catalogue, with its own tenant and region filled in.

Each message names the way out: what to set, to what, with an example.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refresher.domain.quirks import Placement
from refresher.providers import NEEDS, Provider, find_provider, provider_names
from refresher.providers.entries import BASE_URL, Variable, filled
from refresher.settings.document import ClientSection
from refresher.settings.layers import KeyPath
from refresher.settings.report import Report, suggestion

ENDPOINTS = (
    *("authorization_endpoint", "token_endpoint", "refresh_endpoint", "exchange_endpoint"),
    *("device_authorization_endpoint", "revocation_endpoint", "introspection_endpoint"),
    *("registration_endpoint", "pushed_authorization_request_endpoint"),
)

IN_BODIES = {Placement.FORM, Placement.JSON}

FILLED_IN = ("tenant", "region")
"""Keys of a client that are the variables of an entry; base_url has rules of its own."""


@dataclass(frozen=True, slots=True)
class Catalogued:
    """What the provider of a client, if it has one, says in place of the client."""

    provider: Provider | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """By key; one whose variables are missing is not there."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Of quirks and policy."""
    base_url: Variable | None = None


def read_catalogued(path: KeyPath, section: ClientSection, report: Report) -> Catalogued:
    """What the provider that SECTION, at PATH, names says; what is wrong with that is reported."""
    provider = _provider(path, section, report)
    given = {key: value for key in FILLED_IN if (value := getattr(section, key)) is not None}
    if provider is None:
        if not report.is_faulty((*path, "provider")):
            _warn_of_idle(path, given, "a provider of the catalogue", report)
        return Catalogued()
    known = {key: each for key, each in provider.variables.items() if key in FILLED_IN}
    idle = given.keys() - known.keys()
    if section.base_url is not None and not _has_paths(section, provider):
        idle |= {BASE_URL}
    _warn_of_idle(path, sorted(idle), f"a provider with one, as {provider.name} is not", report)
    values = {key: each.default for key, each in known.items() if each.default is not None}
    values |= {key: value for key, value in given.items() if key in known}
    wanted = _wanted(section, provider)
    needed = provider.variables_in(wanted)
    for key, variable in known.items():
        _check(path, key, variable, values.get(key), is_needed=key in needed, report=report)
    _check_placement(path, section, provider, report)
    _check_redirect_uris(path, section, provider, report)
    usable = {
        key: filled(value, values)
        for key, value in wanted.items()
        if provider.variables_in(value) <= values.keys() | {BASE_URL}
    }
    return Catalogued(
        provider=provider,
        endpoints={key: usable[key] for key in ENDPOINTS if key in usable},
        keys={key: value for key, value in usable.items() if key not in ENDPOINTS},
        base_url=provider.variables.get(BASE_URL),
    )


def with_refresh_token_scope(scope: Sequence[str], provider: Provider | None) -> tuple[str, ...]:
    """SCOPE and what makes a refresh token come at PROVIDER, if that is a value of the scope."""
    needed = provider.facts.refresh_token_scope if provider else None
    return (*scope, needed) if needed is not None and needed not in scope else tuple(scope)


def _provider(path: KeyPath, section: ClientSection, report: Report) -> Provider | None:
    if section.provider is None:
        return None
    provider = find_provider(section.provider)
    if provider is None:
        known = provider_names()
        mend = suggestion(section.provider, known) or ": `refresher providers` lists it"
        report.problem(
            (*path, "provider"),
            f"is none of the {len(known)} in the catalogue{mend}; without a provider set "
            "token_endpoint",
        )
    elif provider.needs:
        wanted = ", ".join(f"{need} ({NEEDS[need]})" for need in provider.needs)
        report.problem(
            (*path, "provider"),
            f"is {provider.name}, which does not work yet: it wants {wanted}; until then publish "
            "a token made elsewhere as the static_token of a grant",
        )
        return None
    return provider


def _wanted(section: ClientSection, provider: Provider) -> dict[str, Any]:
    """What PROVIDER says that SECTION does not say itself; tables are joined."""
    return {
        key: value
        for key, value in provider.defaults.items()
        if getattr(section, key) is None or isinstance(value, Mapping)
    }


def _has_paths(section: ClientSection, provider: Provider) -> bool:
    ours = (getattr(section, key) for key in ENDPOINTS)
    return BASE_URL in provider.variables or any(each and each.startswith("/") for each in ours)


def _warn_of_idle(path: KeyPath, keys: Iterable[str], wanted: str, report: Report) -> None:
    for key in keys:
        report.warning((*path, key), f"has no effect without {wanted}: take it away")


def _check(
    path: KeyPath,
    key: str,
    variable: Variable,
    value: str | None,
    *,
    is_needed: bool,
    report: Report,
) -> None:
    if value is None:
        if is_needed and not report.is_faulty((*path, key)):
            report.problem(
                (*path, key),
                f'is missing: set {variable.meaning}, such as "{variable.example}"',
            )
    elif variable.pattern is not None and not re.fullmatch(variable.pattern, value):
        report.problem(
            (*path, key),
            f'is not {variable.meaning}: write it like "{variable.example}"; if it is right, '
            "leave it out and write the endpoints themselves",
        )


def _check_placement(
    path: KeyPath, section: ClientSection, provider: Provider, report: Report
) -> None:
    documented, given = provider.defaults.get("placement"), section.quirks.get("placement")
    if given in {None, documented} or documented not in IN_BODIES:
        return
    if given not in IN_BODIES:
        report.problem(
            (*path, "placement"), f"is {given}, which {provider.name} refuses: take it away"
        )
    else:
        report.warning(
            (*path, "placement"),
            f"is {given}, and {provider.name} wants {documented}: take it away",
        )


def _check_redirect_uris(
    path: KeyPath, section: ClientSection, provider: Provider, report: Report
) -> None:
    if not provider.facts.https_redirect_uri:
        return
    for position, uri in enumerate(section.redirect_uris):
        if uri.lower().startswith("http:"):
            report.problem(
                (*path, "redirect_uris", position),
                f"is http://, which {provider.name} refuses for this machine as well: register one "
                "with https://; a login then asks for the address the browser was sent to",
            )
