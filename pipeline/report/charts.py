"""Charts as inline SVG, made by hand: bars, histograms with thresholds, lines, heat maps.

They are whole without a script, and print; histograms and lines carry their numbers for ``charts.js``.

Colours and type come from the page's style sheet through class names, so a chart follows light and dark and prints.
Each is named by its title and says what it shows in its description, for those who do not see it.
They are drawn about as wide as they are shown, so that type keeps its size; text is escaped by markupsafe.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipeline.text.formats import short, tick

WIDTH, NARROW = 460, 330  # of bars and lines, two beside each other on a page; of histograms, three
_LABEL, _NOTE = 130, 70  # columns left and right of horizontal bars
_ROW = 24
_LINE = 13  # least distance of two labels above each other
_CELL = 24  # height of a cell of a heat map, and its width at most
_LETTER = 7.0  # width of a letter, about, at 12 pixels

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: ``parts`` are (class, value) drawn one after the other; ``note`` stands at its end."""

    label: str
    parts: Sequence[tuple[str, float]]
    note: str


@dataclass(frozen=True)
class Mark:
    """A threshold in a histogram: documents on the ``drops`` side ("below" or "above") of ``at`` fail it.

    ``curve``: what it would let through elsewhere, as sections.signals writes it.
    """

    at: float
    label: str
    drops: str
    curve: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Series:
    """A line: ``points`` as (x, y) in the order of x; ``kind`` is its class. Not ``joined``: a dot at each point.

    ``fine`` are the points that zooming shows, where they are more.
    """

    name: str
    kind: str
    points: Sequence[tuple[float, float]]
    joined: bool = True
    fine: Sequence[tuple[float, float]] = ()


def bars(title: str, description: str, rows: Sequence[Bar], whole: float) -> Markup:
    """Horizontal bars on a common scale where ``whole`` fills the width."""
    room = WIDTH - _LABEL - _NOTE
    parts = []
    for index, row in enumerate(rows):
        y = index * _ROW
        parts.append(_text(_LABEL - 8, y + 16, row.label, "label end"))
        x = float(_LABEL)
        for kind, value in row.parts:
            width = room * value / whole if whole else 0.0
            if width > 0:
                parts.append(_rect(x, y + 4, max(width, 0.75), _ROW - 9, kind))
            x += width
        parts.append(_text(WIDTH, y + 16, row.note, "note end"))
    return _svg(title, description, len(rows) * _ROW, parts)


def meter(parts: Sequence[tuple[str, float]], whole: float) -> Markup:
    """A bar without text for a table's cell, as wide as the cell; the numbers beside it say the same."""
    drawn, x = [], 0.0
    for kind, value in parts:
        width = 100 * value / whole if whole else 0.0
        if width > 0:
            drawn.append(_rect(x, 0, max(width, 0.5), 10, kind))
        x += width
    return Markup(
        '<svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(Markup("").join(drawn))


def histogram(
    title: str,
    description: str,
    edges: Sequence[float],
    layers: Sequence[tuple[str, Sequence[int]]],
    marks: Sequence[Mark],
    log: bool,
) -> Markup:
    """Stacked columns between ``edges`` (ascending; above 0 where ``log``), thresholds as lines through them.

    ``layers`` are (class, height of each column), the lowest first.
    """
    left, right, height = 38, 8, 110
    scale = _scale(edges[0], edges[-1], left, NARROW - right, log)
    places = [scale(min(max(mark.at, edges[0]), edges[-1])) for mark in marks]
    labels = [f"◂ {mark.label}" if mark.drops == "below" else f"{mark.label} ▸" for mark in marks]
    rows = _stagger(places, labels)
    bottom = 8 + _LINE * (max(rows, default=-1) + 1) + height
    heights = [sum(column) for column in zip(*(values for _, values in layers), strict=True)]
    ticks = nice_ticks(0, max(heights, default=0) or 1, 3)
    peak = max(ticks[-1], max(heights, default=0))
    parts = [_y_axis(ticks, lambda value: bottom - height * value / peak, left, NARROW - right)]
    base = [0.0] * len(heights)
    for kind, values in layers:
        path = []
        for index, value in enumerate(values):
            if value:
                x, x_end = scale(edges[index]), scale(edges[index + 1])
                gap = 0.5 if x_end - x > 3 else 0.0
                y = bottom - height * base[index] / peak
                y_end = bottom - max(height * (base[index] + value) / peak, 0.8 if not base[index] else 0)
                path.append(f"M{_n(x)} {_n(y)}V{_n(y_end)}H{_n(x_end - gap)}V{_n(y)}Z")
            base[index] += value
        if path:
            parts.append(Markup('<path class="{}" d="{}"/>').format(kind, "".join(path)))
    ticks_x = log_ticks(edges[0], edges[-1]) if log else nice_ticks(edges[0], edges[-1], 5)
    parts += _x_axis(ticks_x, scale, bottom)
    for mark, x, label, row in zip(marks, places, labels, rows, strict=True):
        shift, side = (-4, "end") if _reads_left(x) else (4, "start")
        drawn = _line(x, 2 + _LINE * row, x, bottom, "mark")
        drawn += _text(x + shift, 11 + _LINE * row, label, f"marklabel {side}")
        parts.append(Markup("<g{}>{}</g>").format(_data("curve", mark.curve), drawn))
    data = {
        "x": [left, NARROW - right, rounded(edges[0]), rounded(edges[-1]), int(log)],
        "edges": [rounded(edge) for edge in edges],
        "layers": [(kind, list(values)) for kind, values in layers],
    }
    return _svg(title, description, bottom + 22, parts, NARROW, data)


def lines(
    title: str, description: str, series: Sequence[Series], x_label: str, y_label: str, log_x: bool = False
) -> Markup:
    """Lines over a common pair of axes, each named at its end, those without a name not at all.

    Raises ValueError if there is no point at all.
    """
    points = [point for entry in series for point in entry.points]
    if not points:
        raise ValueError(f"{title}: nothing to draw")
    left, top, height = 44, 22, 190
    labels = [_series_label(entry) for entry in series if entry.points]
    right = 20 + _LETTER * max(map(len, labels))  # what the lines are named by stands there
    bottom = top + height
    ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points), 5)
    low, high = min(ticks[0], min(y for _, y in points)), max(ticks[-1], max(y for _, y in points))
    x_scale = _scale(*_range(points), left, WIDTH - right, log_x)
    y_scale = _scale(low, high, bottom, top, False)
    parts = [_y_axis(ticks, y_scale, left, WIDTH - right)]
    parts += _x_axis(log_ticks(*_range(points)) if log_x else nice_ticks(*_range(points), 5), x_scale, bottom)
    ends: list[float] = []
    for entry in sorted(series, key=lambda entry: entry.points[-1][1] if entry.points else 0.0, reverse=True):
        if not entry.points:
            continue
        if entry.joined:
            path = "L".join(f"{_n(x_scale(x))} {_n(y_scale(y))}" for x, y in entry.points)
            parts.append(Markup('<path class="line {}" d="M{}"/>').format(entry.kind, path))
        for x, y in entry.points[:-1] if not entry.joined else ():
            parts.append(_dot(x_scale(x), y_scale(y), entry.kind))
        x, y = entry.points[-1]
        parts.append(_dot(x_scale(x), y_scale(y), entry.kind))
        if not entry.name:
            continue
        label_y = max([y_scale(y) + 4, *(end + _LINE for end in ends)])
        ends.append(label_y)
        parts.append(_text(x_scale(x) + 7, label_y, _series_label(entry), f"seriesname {entry.kind}"))
    data = {
        "x": [left, WIDTH - right, *_range(points), int(log_x)],
        "y": [bottom, top, low, high],
        "series": [_series_data(entry) for entry in series if entry.points],
    }
    named = [_text(0, 10, y_label, "axis"), _text(WIDTH - right, bottom + 32, x_label, "axis end")]
    plot = Markup('<g class="plot">{}</g>').format(Markup("").join(parts))
    return _svg(title, description, bottom + 36, [plot, *named], data=data)


def _series_data(entry: Series) -> dict[str, Any]:
    points = [(rounded(x), rounded(y)) for x, y in entry.fine or entry.points if math.isfinite(y)]
    return {"name": entry.name, "kind": entry.kind, "joined": entry.joined, "points": points}


def rounded(value: float) -> float:
    """To nine significant digits, whole numbers as such: a page reads no number more closely."""
    return round(value) if float(value).is_integer() else float(f"{value:.9g}")


def heat_map(
    title: str,
    description: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    whole: float,
) -> Markup:
    """A cell for each of ``values`` [rows][columns], the darker the nearer to ``whole``; its number is its title."""
    left, top = 8 + _LETTER * max(map(len, rows)), 16
    wide = min(_CELL, (NARROW - left) / len(columns))
    parts = [_text(left + wide * (at + 0.5), 11, name, "axis middle") for at, name in enumerate(columns)]
    for at, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = top + _CELL * at
        parts.append(_text(left - 5, y + _CELL / 2 + 4, name, "axis end"))
        for place, value in enumerate(row):
            share = min(1.0, max(0.0, value / whole)) if whole else 0.0
            cell = Markup('<g class="cell" fill-opacity="{:.3f}"><title>{}: {:.3f}</title>{}</g>')
            box = _rect(left + wide * place, y, wide - 1, _CELL - 1, "box")
            parts.append(cell.format(share, f"{name}.{columns[place]}", value, box))
    return _svg(title, description, top + _CELL * len(rows), parts, NARROW)


_ALONE = (
    'xmlns="http://www.w3.org/2000/svg" style="background:#fff;font:12px sans-serif"',
    "<style>text{fill:#444}.line{fill:none;stroke:#2563a8;stroke-width:2}.train{stroke:#888}.dot{stroke:none;"
    "fill:#2563a8}.kept{fill:#2563a8}.other{fill:#bbb}.grid,.tick{stroke:#ddd}.end{text-anchor:end}"
    ".middle{text-anchor:middle}</style>",
)


def alone(chart: Markup) -> str:
    """``chart`` as a file of its own, with its style, for where the page's style sheet and script are not."""
    # a Markup would escape what it is joined with; what a script reads is of no use there
    head, body = re.sub(r' data-\w+="[^"]*"', "", str(chart)).split(">", 1)
    return head.replace("<svg ", f"<svg {_ALONE[0]} ", 1) + ">" + _ALONE[1] + body


def image(chart: Markup) -> str:
    """``chart`` as a data URI that carries its own style."""
    return f"data:image/svg+xml;base64,{b64encode(alone(chart).encode()).decode()}"


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About ``wanted`` round values (1, 2 or 5 times a power of ten apart) within [low, high]; at least one."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / wanted))
    step = next((step * factor for factor in (1, 2, 5) if span / (step * factor) <= wanted), step * 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)] or [low]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], thinned to at most six; 1, 2 and 5 times them where there are few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / 6))
    ticks = [10.0**power for power in range(first, last + 1, stride)]
    if len(ticks) < 3:
        ticks = [f * 10.0**p for p in range(first - 1, last + 1) for f in (1, 2, 5) if low <= f * 10.0**p <= high]
    return ticks or [low]


def _series_label(entry: Series) -> str:
    return f"{entry.name} {short(entry.points[-1][1])}" if entry.name else ""


def _range(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(x for x, _ in points), max(x for x, _ in points)


def _scale(low: float, high: float, start: float, end: float, log: bool) -> Scale:
    """The function that carries [low, high] onto [start, end]."""
    if log:
        low, high = math.log(low), math.log(high)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return start + (end - start) * ((math.log(value) if log else value) - low) / span

    return place


def _reads_left(x: float) -> bool:
    """Whether the label of a line at ``x`` stands to its left, because there is little room to its right."""
    return x > NARROW * 0.6


def _stagger(places: Sequence[float], labels: Sequence[str]) -> list[int]:
    """The row of each label, so that labels of neighbouring lines do not run into each other; labels go by place."""
    taken: list[float] = []  # where the last label in each row ends
    rows = []
    for x, label in zip(places, labels, strict=True):
        width = _LETTER * len(label) + 8
        start = x - width if _reads_left(x) else x
        row = next((row for row, end in enumerate(taken) if end <= start), len(taken))
        taken[row : row + 1] = [start + width]
        rows.append(row)
    return rows


def _y_axis(ticks: Sequence[float], scale: Scale, left: float, right: float) -> Markup:
    parts = []
    for value in ticks:
        y = scale(value)
        parts += [_line(left, y, right, y, "grid"), _text(left - 6, y + 4, tick(value), "axis end")]
    return Markup("").join(parts)


def _x_axis(ticks: Sequence[float], scale: Scale, bottom: float) -> list[Markup]:
    parts = []
    for value in ticks:
        x = scale(value)
        parts += [_line(x, bottom, x, bottom + 4, "tick"), _text(x, bottom + 17, tick(value), "axis middle")]
    return parts


def _svg(
    title: str,
    description: str,
    height: float,
    parts: Sequence[Markup],
    width: int = WIDTH,
    data: Mapping[str, Any] | None = None,
) -> Markup:
    """``data`` is what the page's script reads of the chart."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img"{}><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(width, _n(height), _data("chart", data), title, description, Markup("").join(parts))


def _data(name: str, value: Mapping[str, Any] | None) -> Markup:
    """An attribute that holds ``value`` as JSON, escaped as any other; nothing for None."""
    if value is None:
        return Markup("")
    return Markup(' data-{}="{}"').format(name, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, _n(x), _n(y), text)


def _dot(x: float, y: float, kind: str) -> Markup:
    return Markup('<circle class="dot {}" cx="{}" cy="{}" r="2.5"/>').format(kind, _n(x), _n(y))


def _line(x: float, y: float, x_end: float, y_end: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, _n(x), _n(y), _n(x_end), _n(y_end))


def _rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, _n(x), _n(y), _n(width), _n(height)
    )


def _n(value: float) -> str:
    """A coordinate, to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")
