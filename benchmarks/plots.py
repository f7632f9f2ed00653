"""Lines over a logarithmic size axis, as SVG written by hand: no plotting library is needed to run the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 400, 70, 150, 40, 50


def plot(title: str, unit_x: str, unit_y: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Points (x, y), both positive, of each named line, on logarithmic axes."""
    points = [p for line in lines.values() for p in line]
    x0, x1 = log10(min(x for x, _ in points)) - 0.1, log10(max(x for x, _ in points)) + 0.1
    y0, y1 = floor(log10(min(y for _, y in points))), ceil(log10(max(y for _, y in points)))
    y1 += y1 == y0
    width, height = _W - _LEFT - _RIGHT, _H - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + width * (log10(x) - x0) / (x1 - x0), _TOP + height * (1 - (log10(y) - y0) / (y1 - y0))

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_W}" height="{_H}" viewBox="0 0 {_W} {_H}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{_W}" height="{_H}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{title}</text>',
    ]
    for decade in range(y0, y1 + 1):
        y = at(10**x0, 10.0**decade)[1]
        out.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + width}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    for x in sorted({x for x, _ in points}):
        px = at(x, 10.0**y0)[0]
        out.append(f'<line x1="{px:.1f}" y1="{_TOP + height}" x2="{px:.1f}" y2="{_TOP + height + 5}" stroke="#333"/>')
        out.append(f'<text x="{px:.1f}" y="{_TOP + height + 19}" text-anchor="middle">{x:.3g}</text>')
    out.append(f'<path d="M{_LEFT} {_TOP}V{_TOP + height}H{_LEFT + width}" fill="none" stroke="#333"/>')
    out.append(f'<text x="{_LEFT + width / 2}" y="{_H - 10}" text-anchor="middle">{unit_x}</text>')
    out.append(f'<text x="16" y="{_TOP + height / 2}" text-anchor="middle" transform="rotate(-90 16 {_TOP + height / 2})">{unit_y}</text>')
    for k, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[k % len(_COLOURS)]
        where = [at(x, y) for x, y in sorted(line)]
        out.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in where)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in where]
        y = _TOP + 16 * k
        out.append(f'<rect x="{_W - _RIGHT + 14}" y="{y}" width="12" height="4" fill="{colour}"/>')
        out.append(f'<text x="{_W - _RIGHT + 32}" y="{y + 6}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])
