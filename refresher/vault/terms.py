"""Between the terms of a grant that renews itself and the columns of its row."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from refresher.domain.renewal import NO_TERMS, SubjectTokenType, Terms


def terms_values(terms: Terms) -> dict[str, Any]:
    """The columns of TERMS."""
    told = {
        "subject_token": terms.subject_token.value,
        "audience": list(terms.audience),
        "resource": list(terms.resource),
    }
    return {"subject": terms.subject, "terms": None if terms == NO_TERMS else told}


def terms_of(row: sa.RowMapping | Mapping[str, Any]) -> Terms:
    """The terms in ROW.

    Raises:
        ValueError: they are damaged.
    """
    told = row["terms"]
    if told is None:
        return NO_TERMS
    try:
        return Terms(
            subject=row["subject"],
            subject_token=SubjectTokenType(told["subject_token"]),
            audience=_words(told["audience"]),
            resource=_words(told["resource"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def _words(told: Any) -> tuple[str, ...]:
    if not isinstance(told, list):
        raise TypeError("no list")
    for word in told:
        word.encode()  # half of a surrogate pair is a ValueError
    return tuple(told)
