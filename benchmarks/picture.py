"""The picture: processor time for a request, user and system apart, and the bare loop's line.

SVG by hand, so that nothing has to be installed for it. It stands on a light panel of its own, and
so reads on white and on dark pages alike.
"""

from __future__ import annotations

from html import escape

from candidates import BARE
from outcome import CaseResult, Result

WIDTH = 860
LEFT, RIGHT = 184, 128
"""Room for the names, and for the figures behind the bars."""
ROW, BAR = 24, 15
TITLE, PANEL_HEAD, PANEL_FOOT, FOOT = 78, 34, 26, 18
FURTHEST = 8.0
"""Bars that are longer than so many bare loops are cut, and say so."""
INK, FAINT, RULE, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#ffffff"
OURS, OURS_SYSTEM = "#c2410c", "#fdba74"
THEIRS, THEIRS_SYSTEM = "#475569", "#b6c2d1"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def picture(cases: list[CaseResult], caption: str) -> str:
    """One panel below the other."""
    panels, top = [], float(TITLE)
    for found in cases:
        shown = sorted(found.measured(), key=lambda one: one.median("cpu"))
        panels.append(panel(found, shown, top))
        top += PANEL_HEAD + ROW * len(shown) + PANEL_FOOT
    height = top + FOOT
    legend = "".join(
        [
            rect(LEFT, 44, 12, 12, OURS) + rect(LEFT + 14, 44, 12, 12, THEIRS),
            text(LEFT + 32, 54, "user", FAINT, 12),
            rect(LEFT + 78, 44, 12, 12, OURS_SYSTEM) + rect(LEFT + 92, 44, 12, 12, THEIRS_SYSTEM),
            text(LEFT + 110, 54, "system", FAINT, 12),
            rule(LEFT + 172, 44, LEFT + 172, 57, INK, dashes="3 3"),
            text(LEFT + 180, 54, "the bare epoll loop", FAINT, 12),
            text(LEFT + 312, 54, "//  longer than drawn", FAINT, 12),
        ]
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
            f'width="{WIDTH}" height="{height:g}" font-family="{FONT}" role="img">',
            f"<title>{escape(caption)}</title>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8" '
            f'fill="{PAPER}" stroke="{RULE}"/>',
            text(20, 28, "Processor time for a request, in microseconds", INK, 17, weight=600),
            legend,
            *panels,
            text(20, height - 12, caption, FAINT, 11),
            "</svg>",
            "",
        ]
    )


def panel(found: CaseResult, shown: list[Result], top: float) -> str:
    bare = found.get(BARE.name)
    costs = [one.median("cpu") for one in shown]
    cut = FURTHEST * bare.median("cpu") if bare else max(costs)
    within = [cost for cost in costs if cost <= cut]
    longest = max(within or costs)
    if longest < max(costs):
        # So that a cut bar is longer than each that is whole.
        longest *= 1.12
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = [text(20, top + 18, found.case.title, INK, 14, weight=600)]
    first = top + PANEL_HEAD
    for number, one in enumerate(shown):
        parts.append(row(one, first + number * ROW, scale, longest))
    bottom = first + ROW * len(shown)
    parts.append(rule(LEFT, first - 4, LEFT, bottom, RULE))
    if bare:
        x = LEFT + bare.median("cpu") * scale
        parts.append(rule(x, first - 6, x, bottom, INK, dashes="3 3"))
    return "\n".join(parts)


def row(one: Result, top: float, scale: float, longest: float) -> str:
    colours = (OURS, OURS_SYSTEM) if one.ours else (THEIRS, THEIRS_SYSTEM)
    total, middle = one.median("cpu"), top + BAR - 3
    is_cut = total > longest
    # Of a cut bar both parts are shortened alike.
    scale *= min(1.0, longest / total)
    share = one.median("user") / (one.median("user") + one.median("system"))
    user = total * share * scale
    end = LEFT + total * scale
    figure = f"{total * 1e6:.1f}" + (f"  ({one.ratio:.2f}x)" if one.ratio is not None else "")
    parts = [
        text(
            LEFT - 8,
            middle,
            one.name,
            FAINT if one.ceiling else INK,
            13,
            anchor="end",
            weight=600 if one.ours else 400,
        ),
        rect(LEFT, top, user, BAR, colours[0]),
        rect(LEFT + user, top, total * scale - user, BAR, colours[1]),
        text(end + 8, middle, figure, INK, 12, weight=600 if one.ours else 400),
    ]
    if is_cut:
        for x in (end - 26, end - 20):
            parts.append(
                f'<path d="M{x:.1f} {top + BAR + 2:.1f} l4 -{BAR + 4}" stroke="{PAPER}" '
                'stroke-width="2.5"/>'
            )
    return "\n".join(parts)


def rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'
    )


def rule(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    fill: str,
    size: int,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{fill}">{escape(words)}</text>'
    )
