"""What an entry must be beside well-typed; the tests run this over every one of them."""

import re
from collections.abc import Iterator

from refresher.domain.grants import is_valid_name
from refresher.domain.quirks import Placement, RotationProfile
from refresher.providers import Provider
from refresher.providers.entries import BASE_URL
from refresher.settings.catalogued import ENDPOINTS
from refresher.settings.wire import (
    FIELDS,
    SENT_IN_AUTHORIZATION_REQUESTS,
    SENT_IN_TOKEN_REQUESTS,
)

IN_URLS = {Placement.QUERY, Placement.GET}


def faults(provider: Provider) -> list[str]:
    """What is wrong with PROVIDER, in words; nothing for a good one."""
    return [*_sources(provider), *_variables(provider), *_facts(provider), *_words(provider)]


def _sources(provider: Provider) -> Iterator[str]:
    for source in provider.sources:
        unknown = set(source.says) - set(provider.statements)
        if unknown:
            yield f"{source.url} says {sorted(unknown)}, which the entry does not"
    for key in ENDPOINTS:
        url = getattr(provider.settings, key, None)
        # Secrets go to whatever host stands there; a path is on the customer's own.
        if url and not url.startswith("/") and provider.source_of(key) is None:
            yield f"{key} has no source: leave it out"
    for key in ("placement", "refresh_placement"):
        # Proxies log URLs, and secrets would be in them.
        if getattr(provider.settings, key) in IN_URLS and provider.source_of(key) is None:
            yield f"{key} in a URL needs a source"


def _variables(provider: Provider) -> Iterator[str]:
    used = provider.variables_in(provider.statements)
    if used != set(provider.variables):
        yield f"uses the variables {sorted(used)}, and describes {sorted(provider.variables)}"
    for name, variable in provider.variables.items():
        if name == BASE_URL:
            if variable.pattern is not None or not variable.example.startswith("https://"):
                yield "base_url has the rules of an endpoint, and an https example"
            continue
        if name not in {"tenant", "region"}:
            yield f"{name} is no key of a client"
        for value in filter(None, (variable.example, variable.default)):
            if not re.fullmatch(variable.pattern or "", value):
                yield f"{name} = {value} does not match its own pattern"
        if re.fullmatch(variable.pattern or "", "https://acme.example/"):
            yield f"{name} takes a URL"


def _facts(provider: Provider) -> Iterator[str]:
    facts = provider.facts
    for key in ("default_expires_in", "no_expiry"):
        is_set = key in provider.settings.model_fields_set
        if is_set and facts.access_token_lifetime is not None:
            yield f"{key} is the access_token_lifetime: write one"
    if facts.has_refresh_token is False and (facts.refresh_token_idle or facts.rotation):
        yield "has no refresh token, and says how it lives"
    is_careful = facts.rotation is None or facts.rotation.profile is RotationProfile.STRICT
    if not is_careful and provider.source_of("rotation") is None:
        yield "a rotation that lets a refresh token be sent again needs a source"
    if facts.rotation is not None and facts.rotation_varies is not None:
        yield "rotation is known, and varies"


def _words(provider: Provider) -> Iterator[str]:
    if not is_valid_name(provider.name):
        yield "has a name that no client could have"
    sent = {*SENT_IN_TOKEN_REQUESTS, *SENT_IN_AUTHORIZATION_REQUESTS}
    for key, known in (("parameter_names", sent), ("answer_names", set(FIELDS))):
        for name in (getattr(provider.settings, key) or {}).keys() - known:
            yield f"{key} has {name}, which the standard does not"
    for text in (provider.console, *provider.notes):
        if not text.endswith((".", "?")) or "\n" in text:
            yield f"{text!r} is no sentence"
