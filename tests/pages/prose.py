"""The sentences, tables and links of a page of Markdown."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.pages.reading import ROOT

LONGEST_MEAN = 18.0
"""Words of a sentence, on the average of a page: what is read once and understood."""


def without_blocks(text: str) -> str:
    """TEXT without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def sentences(text: str) -> list[str]:
    """The sentences of TEXT's paragraphs and lists.

    One ends at a full stop, a question mark or a colon before a block or list, and with its
    paragraph or item. What stands in backquotes is one word.
    """
    prose = re.sub(r"^\|.*$|<!--.*?-->|^#+ .*$", "", without_blocks(text), flags=re.MULTILINE)
    prose = re.sub(r"`[^`]*`", "CODE", prose)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    pieces = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", prose, flags=re.MULTILINE)
    return [
        sentence
        for piece in pieces
        for sentence in re.split(r"(?<=[.?!])\W*\s+", " ".join(piece.split()))
        if re.search(r"\w", sentence)
    ]


def mean_length(text: str) -> float:
    """Words a sentence of TEXT has on the average."""
    found = sentences(text)
    return sum(len(sentence.split()) for sentence in found) / len(found)


def rows(text: str) -> set[str]:
    """The rows of TEXT's tables, their heads left out."""
    tables = re.findall(r"^\|[^\n]*\n\|[ :|-]+\|\n((?:\|.*\n?)+)", text, flags=re.MULTILINE)
    return {row for table in tables for row in table.splitlines()}


def headings(page: Path) -> set[str]:
    """What a link can name behind ``#`` on PAGE, as GitHub makes it."""
    found = re.findall(r"^#+ (.*)$", without_blocks(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}


def broken_links(page: Path) -> Iterator[str]:
    """Links of PAGE to files and headings that are not there; those to the web are not asked."""
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text())):
        place, _, heading = link.partition("#")
        if "://" in place:
            continue
        target = (page.parent / place).resolve() if place else page
        is_there = target.is_file() and target.is_relative_to(ROOT)
        if not is_there or (heading and heading not in headings(target)):
            yield link
