"""The first settings file, as ``refresher init`` writes it."""

from importlib import resources


def template() -> str:
    """A commented TOML file that loads as it is and has an example of every section."""
    return resources.files(__package__).joinpath("template.toml").read_text("utf-8")
