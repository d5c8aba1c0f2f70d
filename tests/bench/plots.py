"""Plots as SVG: a bar for each value, and a mark at its goal."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from tests.bench.session import Bar

WIDTH, LABEL, STEP = 640, 200, 34


def draw(path: Path, title: str, unit: str, bars: Sequence[Bar]) -> None:
    """Write BARS to PATH."""
    room = WIDTH - LABEL - 70
    most = max(max(bar.value, bar.goal or 0.0) for bar in bars) or 1.0
    height = 60 + STEP * len(bars)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
    parts = [
        f'{svg} font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
        f'<text x="10" y="38" fill="#555">{escape(unit)}; the line is the goal</text>',
    ]
    for number, bar in enumerate(bars):
        top, length = 50 + STEP * number, room * bar.value / most
        at = f'y="{top}" width="{length:.1f}" height="22"'
        parts += [
            f'<text x="10" y="{top + 16}">{escape(bar.label)}</text>',
            f'<rect x="{LABEL}" {at} fill="#4878a8"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{top + 16}">{bar.value:.3g}</text>',
        ]
        if bar.goal is not None:
            x = LABEL + room * bar.goal / most
            ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{top + 25}"'
            parts.append(f'<line {ends} stroke="#b03030" stroke-width="2"/>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")
