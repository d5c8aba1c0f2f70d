"""What a session prints: the machine, the table, and one JSON object."""

import json
from collections.abc import Mapping, Sequence

from tests.bench.session import Found, Row


def table(rows: Sequence[Row]) -> str:
    """ROWS in columns; what there is to add stands below each."""
    heads = Row("against / at", "measured", "goal")
    first = max(len(row.what) for row in (heads, *rows))
    second = max(len(row.measured) for row in (heads, *rows))
    lines = []
    for row in (heads, *rows):
        lines.append(f"  {row.what:<{first}}  {row.measured:<{second}}  {row.goal}".rstrip())
        if row.more:
            lines.append(f"  {'':<{first}}  {row.more}")
    return "\n".join(lines)


def as_json(found: Mapping[int, Found]) -> str:
    """The figures as one object on one line."""
    return json.dumps({"figures": {str(number): each.data for number, each in found.items()}})
