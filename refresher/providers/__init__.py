"""The catalogue of providers: what each of them does and wants, as data, no code for any.

An entry is a file of ``catalogue/``; its name is the provider's. README.md says what stands
in one and how to add one. Only the entries that somebody asks for are read.
"""

import tomllib
from functools import cache
from importlib import resources

from refresher.providers.entries import Facts, Provider, RevocationEntry, Source, Variable
from refresher.providers.needs import NEEDS

__all__ = [
    "NEEDS",
    "Facts",
    "Provider",
    "RevocationEntry",
    "Source",
    "Variable",
    "all_providers",
    "find_provider",
    "provider_names",
    "read_entry",
]

_SUFFIX = ".toml"
_FOLDER = resources.files(__name__).joinpath("catalogue")


@cache
def provider_names() -> tuple[str, ...]:
    """The name of every provider, in alphabetical order; reads no entry."""
    files = (file.name for file in _FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)))


@cache
def find_provider(name: str) -> Provider | None:
    """The provider NAME, or None if the catalogue has no such entry."""
    if name not in provider_names():
        return None
    return read_entry(name, _FOLDER.joinpath(name + _SUFFIX).read_text("utf-8"))


def all_providers() -> tuple[Provider, ...]:
    """Every provider of the catalogue, by name; reads every entry."""
    found = (find_provider(name) for name in provider_names())
    return tuple(provider for provider in found if provider is not None)


def read_entry(name: str, text: str) -> Provider:
    """The provider NAME that TEXT, the content of an entry, describes.

    Raises:
        pydantic.ValidationError: TEXT has a key that is not known, or a value of a wrong type.
        tomllib.TOMLDecodeError: TEXT is not TOML.
    """
    return Provider(name=name, **tomllib.loads(text))
