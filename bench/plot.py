"""Pictures of figures, as SVG that is read in light and in dark: bars, ranges and curves. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LABEL = 170
"""Room for the names at the left."""
VALUE = 110
"""Room for the number after the longest bar."""
ROW = 24
TOP = 44
CURVE_HEIGHT = 300
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px } .small { font-size: 11px; fill: #57606a }
.other { fill: #a8b1bb } .ours { fill: #2563eb } .spread, .axis { stroke: #57606a; stroke-width: 1 }
.grid { stroke: #d0d7de; stroke-width: 1 } .line { fill: none; stroke-width: 2 }
.s0 { stroke: #2563eb; fill: #2563eb } .s1 { stroke: #d97706; fill: #d97706 }
.s2 { stroke: #059669; fill: #059669 } .s3 { stroke: #9333ea; fill: #9333ea } .line { fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9da7b3 } .other { fill: #57606a } .ours { fill: #5b9bff }
.spread, .axis { stroke: #9da7b3 } .grid { stroke: #30363d }
.s0 { stroke: #5b9bff; fill: #5b9bff } .s1 { stroke: #f0a840; fill: #f0a840 }
.s2 { stroke: #3fc98f; fill: #3fc98f } .s3 { stroke: #c084fc; fill: #c084fc } .line { fill: none } }
</style>"""


@dataclass(frozen=True)
class Bar:
    """A row of a chart.

    Args:
        label: Whose figure it is.
        value: The figure, or the low end of a range.
        spread: Lowest and highest round; the high end of a range stands here alone. Nothing where there is none.
        ours: Whether it stands out.
    """

    label: str
    value: float
    spread: Sequence[float] = ()
    ours: bool = False


def bars(title: str, rows: Sequence[Bar], show: str = "{:,.0f}") -> str:
    """Horizontal bars from zero, with their numbers, and whiskers from the lowest to the highest round."""
    longest = max([bar.value for bar in rows] + [end for bar in rows for end in bar.spread] + [1e-9])
    room = WIDTH - LABEL - VALUE
    parts = []
    for place, bar in enumerate(rows):
        y, width = TOP + place * ROW, bar.value / longest * room
        kind = "ours" if bar.ours else "other"
        parts += [
            _label(bar.label, y),
            f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{max(width, 1):.1f}" height="{ROW - 8}" rx="2"/>',
        ]
        end = width
        if len(bar.spread) == 2:
            low, high = (LABEL + value / longest * room for value in bar.spread)
            middle = y + (ROW - 8) / 2
            parts.append(f'<line class="spread" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>')
            end = max(width, high - LABEL)
        parts.append(f'<text x="{LABEL + end + 6:.1f}" y="{y + 12}">{show.format(bar.value)}</text>')
    return _picture(title, TOP + len(rows) * ROW, parts)


def ranges(title: str, rows: Sequence[Bar]) -> str:
    """From one figure of a row to another, as from a median to a p99, on a scale of powers of ten."""
    low = math.floor(math.log10(min([bar.value for bar in rows] + [1.0])))
    high = math.ceil(math.log10(max([bar.spread[0] for bar in rows] + [1.0])))
    room = WIDTH - LABEL - VALUE

    def place(value: float) -> float:
        return LABEL + (math.log10(max(value, 10.0**low)) - low) / max(high - low, 1) * room

    bottom = TOP + len(rows) * ROW
    parts = []
    for power in range(low, high + 1):
        x = place(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>')
        label = f"{10.0**power:,.{max(0, -power)}f}"
        parts.append(f'<text class="small" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{label}</text>')
    for number, bar in enumerate(rows):
        y, start, end = TOP + number * ROW, place(bar.value), place(bar.spread[0])
        kind = "ours" if bar.ours else "other"
        parts += [
            _label(bar.label, y),
            f'<rect class="{kind}" x="{start:.1f}" y="{y + 3}" width="{max(end - start, 2):.1f}" height="10" rx="5"/>',
            f'<text x="{end + 6:.1f}" y="{y + 12}">{_short(bar.value)} / {_short(bar.spread[0])}</text>',
        ]
    return _picture(title, bottom + 20, parts)


def curves(title: str, series: Mapping[str, Sequence[tuple[float, float]]], along: str, *, unit: str = "") -> str:
    """Curves over a scale of powers of ten, from zero upwards."""
    xs = [x for points in series.values() for x, _ in points]
    top = max([y for points in series.values() for _, y in points] + [1e-9]) * 1.1
    left, right = math.log10(min(xs)), math.log10(max(xs))
    room = WIDTH - 80 - VALUE

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - left) / max(right - left, 1e-9) * room
        return 80 + across, TOP + CURVE_HEIGHT * (1 - y / top)

    bottom = TOP + CURVE_HEIGHT
    parts = [f'<line class="axis" x1="80" y1="{bottom}" x2="{80 + room}" y2="{bottom}"/>']
    for quarter in range(1, 5):
        y = place(10.0**left, top * quarter / 4.4)[1]
        parts.append(f'<line class="grid" x1="80" y1="{y:.1f}" x2="{80 + room}" y2="{y:.1f}"/>')
        label = f"{top * quarter / 4.4:,.3g}" if top < 1000 else f"{top * quarter / 4.4:,.0f}"
        parts.append(f'<text class="small" x="74" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    parts += [
        f'<text class="small" x="{place(x, 0)[0]:.1f}" y="{bottom + 16}" text-anchor="middle">{x:,.0f}</text>'
        for x in sorted(set(xs))
    ]
    for number, (name, points) in enumerate(series.items()):
        spots = [place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline class="line s{number % 4}" points="{path}"/>')
        parts += [f'<circle class="s{number % 4}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
        parts.append(f'<text x="{spots[-1][0] + 8:.1f}" y="{spots[-1][1] + 4:.1f}">{escape(name)}</text>')
    parts.append(
        f'<text class="small" x="{80 + room / 2}" y="{bottom + 34}" text-anchor="middle">{escape(along)}</text>'
    )
    if unit:
        parts.append(f'<text class="small" x="80" y="{TOP - 8}">{escape(unit)}</text>')
    return _picture(title, bottom + 42, parts)


def _short(value: float) -> str:
    """A number with some three digits."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _label(text: str, y: float) -> str:
    return f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(text)}</text>'


def _picture(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 8:.0f}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", STYLE,
                      f'<text class="title" x="8" y="20">{escape(title)}</text>', *parts, "</svg>", ""])  # fmt: skip
