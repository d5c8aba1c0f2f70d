"""The failures in the order of their numbers, and the tests that show each."""

from collections.abc import Sequence

from tests.matrix.answer_failures import CLASSIFICATION, PUBLICATION, TIME
from tests.matrix.apart_failures import APART
from tests.matrix.exchange_failures import CONCURRENCY, LOST_ROTATIONS
from tests.matrix.failure import Failure
from tests.matrix.server_failures import ENDINGS, FINAL_WORDS, LATE_ANSWERS, ODD_ANSWERS

FAILURES: tuple[Failure, ...] = (
    *CONCURRENCY,
    *LOST_ROTATIONS,
    *CLASSIFICATION,
    *TIME,
    *PUBLICATION,
    *APART,
    *LATE_ANSWERS,
    *ODD_ANSWERS,
    *FINAL_WORDS,
    *ENDINGS,
)

NEEDS_ROOT = frozenset({"tests/system/test_vault_faults.py::test_a_full_disk_loses_nothing"})
"""Tests that may be skipped: the others of their row show it, less closely."""


def node_ids(failures: Sequence[Failure]) -> list[str]:
    """Every test of FAILURES once, in the order of the files."""
    return sorted({node_id for failure in failures for node_id in failure.node_ids})
