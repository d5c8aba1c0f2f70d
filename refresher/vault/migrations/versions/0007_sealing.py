"""Sealed values of a second format.

No table changes. The revision keeps an older refresher away, which would take every value of
the new format for one of a lost key and pause its grant.
"""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Leave it to ``resealing``, which brings every value to the new format."""
