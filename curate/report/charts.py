"""Charts as inline SVG: nothing to load, nothing to run, readable by a screen reader, the same bytes each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from curate.report.wording import percent

LABEL_PX, BAR_PX, ROW_PX, VALUE_PX = 150, 210, 20, 160
LABEL_CHARS = 22
CELL_PX, CELL_LABEL_CHARS = 34, 20
CHAR_PX = 7  # of a letter in the charts' font, generously


def bars(
    rows: Sequence[Mapping[str, object]], *, title: str, unit: str = "", top: float | None = None, css: str = "bar"
) -> str:
    """Return a horizontal bar chart.

    Args:
        rows: `label`, `value` and, where known, `low`, `high` (drawn as a whisker) and `note`.
        title: what a screen reader says.
        unit: "%" multiplies by 100; anything else is written behind the number.
        top: value at full width; default: the largest.
        css: class of the bars.
    """
    if not rows:
        return ""
    numbers = [_number(row.get(key)) or 0.0 for row in rows for key in ("value", "high")]
    full = top or max([*numbers, 1e-12])
    height = len(rows) * ROW_PX + 4
    parts = [
        (
            f'<svg class="chart" role="img" aria-label="{escape(title, quote=True)}" '
            f'viewBox="0 0 {LABEL_PX + BAR_PX + VALUE_PX} {height}" width="{LABEL_PX + BAR_PX + VALUE_PX}">'
        )
    ]
    for index, row in enumerate(rows):
        parts.append(_bar(row, index * ROW_PX + 2, full, unit, css))
    return "".join([*parts, "</svg>"])


def _bar(row: Mapping[str, object], y: int, full: float, unit: str, css: str) -> str:
    value, low, high = (_number(row.get(key)) for key in ("value", "low", "high"))
    label = str(row["label"])
    shown = _shortened(label, LABEL_CHARS)
    middle = y + ROW_PX / 2
    told = [
        (
            f'<text class="label" x="{LABEL_PX - 6}" y="{middle + 4:.0f}" text-anchor="end">{escape(shown)}'
            f"<title>{escape(label)}</title></text>"
        )
    ]
    if value is None:
        told.append(f'<text class="none" x="{LABEL_PX + 4}" y="{middle + 4:.0f}">insufficient data</text>')
        return "".join(told)
    width = max(0.0, min(value / full, 1.0)) * BAR_PX
    told.append(f'<rect class="{css}" x="{LABEL_PX}" y="{y + 3}" width="{width:.1f}" height="{ROW_PX - 7}"/>')
    if low is not None and high is not None:
        x0, x1 = (LABEL_PX + max(0.0, min(bound / full, 1.0)) * BAR_PX for bound in (low, high))
        told.append(
            f'<path class="whisker" d="M{x0:.1f} {middle:.1f}H{x1:.1f}M{x0:.1f} {y + 5}v9M{x1:.1f} {y + 5}v9"/>'
        )
    note = f" ({row['note']})" if row.get("note") else ""
    told.append(
        f'<text class="value" x="{LABEL_PX + BAR_PX + 8}" y="{middle + 4:.0f}">'
        f"{escape(written(value, unit) + str(note))}</text>"
    )
    return "".join(told)


def matrix(names: Sequence[str], cells: Sequence[Sequence[int]], *, title: str) -> str:
    """Return a heat map of counts: given label (rows) against suggested label (columns)."""
    most = max([max(row, default=0) for row in cells] + [1])
    side = len(names) * CELL_PX
    longest = max((len(_shortened(name, CELL_LABEL_CHARS)) for name in names), default=0)
    is_turned = longest > 4
    left_px, top_px = max(30, longest * CHAR_PX + 8), longest * CHAR_PX + 10 if is_turned else 18
    width, height = left_px + side + (30 if is_turned else 0), top_px + side
    parts = [
        (
            f'<svg class="chart matrix" role="img" aria-label="{escape(title, quote=True)}" '
            f'viewBox="0 0 {width} {height}" width="{width}">'
        )
    ]
    for index, name in enumerate(names):
        at = index * CELL_PX + CELL_PX / 2
        shown = f"{escape(_shortened(name, CELL_LABEL_CHARS))}<title>{escape(name)}</title>"
        x, y = left_px + at, top_px + at
        parts.append(f'<text class="label" x="{left_px - 6}" y="{y + 4:.0f}" text-anchor="end">{shown}</text>')
        turned = f'transform="translate({x + 4:.0f} {top_px - 6}) rotate(-60)"'
        straight = f'x="{x - 1:.0f}" y="{top_px - 6}" text-anchor="middle"'
        parts.append(f'<text class="label" {turned if is_turned else straight}>{shown}</text>')
        for column, count in enumerate(cells[index]):
            left, top = left_px + column * CELL_PX, top_px + index * CELL_PX
            parts.append(
                f'<rect class="cell" x="{left}" y="{top}" width="{CELL_PX - 2}" height="{CELL_PX - 2}" '
                f'fill-opacity="{0.04 + 0.96 * count / most:.3f}"/>'
            )
            if count:
                dark = " dark" if count > most * 0.55 else ""
                parts.append(
                    f'<text class="count{dark}" x="{left + CELL_PX / 2 - 1:.0f}" y="{top + CELL_PX / 2 + 4:.0f}" '
                    f'text-anchor="middle">{count}</text>'
                )
    return "".join([*parts, "</svg>"])


def _shortened(text: str, n_chars: int) -> str:
    return text if len(text) <= n_chars else text[: n_chars - 1] + "…"


def written(value: float, unit: str = "") -> str:
    """Return a number as people read it."""
    if unit == "%":
        return percent(value)
    text = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:,.3g}"
    return f"{text} {unit}".rstrip()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
