"""The table of providers in ``refresher/providers/README.md``, from the catalogue."""

from collections.abc import Iterator

from refresher.cli.providers import span
from refresher.providers import Provider, all_providers
from refresher.providers.entries import NEVER

HEADS = ("Provider", "Rotation", "Access token", "Refresh token, unused", "At most", "Verified")

BY_OTHERS, BY_NOBODY = "²", "?"
"""Behind a value that somebody else than the provider wrote down, or nobody."""


def provider_rows() -> Iterator[tuple[str, ...]]:
    """A row a provider: what its tokens do, and what that was verified with."""
    for provider in all_providers():
        lifetimes = (
            "access_token_lifetime",
            "refresh_token_idle",
            "refresh_token_absolute",
        )
        yield (
            f"`{provider.name}`",
            _cell(provider, "rotation_varies" if provider.facts.rotation_varies else "rotation"),
            *(_cell(provider, key) for key in lifetimes),
            _verified(provider),
        )


def _cell(provider: Provider, key: str) -> str:
    value = provider.statements.get(key)
    if value is None:
        return ""
    shown = "varies" if key == "rotation_varies" else _in_words(value)
    source = provider.source_of(key)
    return shown + (BY_NOBODY if source is None else BY_OTHERS if source.secondary else "")


def _in_words(value: object) -> str:
    if value == NEVER:
        return "no end"
    return span(value) if isinstance(value, float) else str(value)


def _verified(provider: Provider) -> str:
    """With what, and how many statements of settings and facts that covers."""
    sources = [provider.source_of(key) for key in provider.statements]
    measured = sum(source is not None and source.measured for source in sources)
    own = sum(source is not None and not source.secondary for source in sources) - measured
    others = sum(source is not None and source.secondary for source in sources)
    tested = f"{provider.tested}; documents" if provider.tested else "documents only"
    counts = [f"{tested}: {own} of {len(sources)}"]
    counts += [f"{others} by others"] if others else []
    counts += [f"{measured} measured"] if measured else []
    counts += [f"needs {', '.join(provider.needs)}"] if provider.needs else []
    return ", ".join(counts)
