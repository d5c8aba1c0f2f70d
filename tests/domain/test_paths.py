"""The diagrams of the page about answers are the transition table, arrow for arrow."""

import re

from tests.domain.paths import PREDECESSOR, Edge, exchanges, outcome_names, passages_of_time
from tests.pages.reading import ROOT, blocks_of

PAGE = (ROOT / "refresher/oauth/README.md").read_text()
SECTION = PAGE.partition("\n## The paths of a grant\n")[2]
MEANINGS = {
    word: set(re.findall(r"\b[A-Z]\w+", meaning)) or {word}
    for word, meaning in re.findall(r"^\| `(\w+)` \| (.*) \|$", SECTION, flags=re.MULTILINE)
}


def drawn() -> list[Edge]:
    """Every arrow of the diagrams, once for each outcome that its word stands for."""
    arrows = [
        arrow
        for diagram in blocks_of("mermaid", SECTION)
        for arrow in re.findall(r"^    (\w+) --> (\w+): (\w+)$", diagram, flags=re.MULTILINE)
    ]
    lines = sum(len(diagram.splitlines()) - 1 for diagram in blocks_of("mermaid", SECTION))
    assert len(arrows) == lines, "a line of a diagram is no arrow"
    return [(before, what, after) for before, after, word in arrows for what in MEANINGS[word]]


def test_the_diagrams_are_the_transition_table() -> None:
    shown, there_is = drawn(), exchanges() | passages_of_time()
    assert {*shown} == there_is


def test_every_outcome_has_a_word() -> None:
    assert set.union(*MEANINGS.values()) == outcome_names() | {PREDECESSOR, "time"}
