"""The reload picture: answers a second over time, a strip for each candidate, across three HUPs.

One panel for each number of workers. The lines would hide each other in one strip: those who do
not stall all answer what is asked.
"""

from __future__ import annotations

from html import escape

from picture import (
    FAINT,
    FONT,
    INK,
    OURS,
    OURS_SYSTEM,
    PAPER,
    RULE,
    THEIRS,
    THEIRS_SYSTEM,
    rect,
    rule,
    text,
)
from reload_outcome import BUCKET, Conditions, Reload, per_bucket
from steady import Seen

WIDTH = 860
LEFT, RIGHT = 208, 24
"""Room for the names and figures, and behind the strips."""
STRIP, GAP = 50, 16
TITLE, PANEL_HEAD, PANEL_FOOT, FOOT = 72, 44, 40, 22
HIGHEST = 1.6
"""Strips end at so many times the rate that is asked for: who catches up goes beyond."""
FAILED = "#dc2626"


def picture(conditions: Conditions, found: list[Reload]) -> str:
    """One panel below the other."""
    panels, top = [], float(TITLE)
    for workers in dict.fromkeys(one.workers for one in found):
        shown = [one for one in found if one.workers == workers]
        panels.append(panel(conditions, workers, shown, top))
        top += PANEL_HEAD + (STRIP + GAP) * len(shown) + PANEL_FOOT
    height = top + FOOT
    title = f"Answers a second while an application that loads for {conditions.loading:g} s reloads"
    legend = "".join(
        [
            rule(LEFT, 50, LEFT + 22, 50, INK, dashes="3 3"),
            text(LEFT + 30, 54, f"HUP, and {conditions.loading:g} s of loading", FAINT, 12),
            rect(LEFT + 190, 44, 4, 12, FAILED),
            text(LEFT + 202, 54, "requests that failed", FAINT, 12),
            text(
                LEFT + 340,
                54,
                f"above {HIGHEST * conditions.rate:g} a second cut: who catches up",
                FAINT,
                12,
            ),
        ]
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
            f'width="{WIDTH}" height="{height:g}" font-family="{FONT}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8" '
            f'fill="{PAPER}" stroke="{RULE}"/>',
            text(20, 28, title, INK, 17, weight=600),
            legend,
            *panels,
            text(20, height - 14, f"In brackets without a HUP. {conditions.caption()}", FAINT, 11),
            "</svg>",
            "",
        ]
    )


def across(conditions: Conditions, moment: float) -> float:
    return LEFT + moment / conditions.seconds * (WIDTH - LEFT - RIGHT)


def panel(conditions: Conditions, workers: int, shown: list[Reload], top: float) -> str:
    first, bottom = top + PANEL_HEAD, top + PANEL_HEAD + (STRIP + GAP) * len(shown)
    parts = [text(20, top + 18, f"--workers={workers}", INK, 14, weight=600)]
    for moment in conditions.hups:
        x = across(conditions, moment)
        loaded = across(conditions, moment + conditions.loading)
        parts.append(rect(x, first - 6, loaded - x, bottom - first + 6, "#f3f5f8"))
        parts.append(text(x, first - 12, "HUP", INK, 11, anchor="middle", weight=600))
    for number, one in enumerate(shown):
        parts.append(strip(conditions, one, first + number * (STRIP + GAP)))
    for moment in conditions.hups:
        x = across(conditions, moment)
        parts.append(rule(x, first - 6, x, bottom, INK, dashes="3 3"))
    for second in range(0, int(conditions.seconds) + 1, 5):
        x = across(conditions, second)
        parts.append(text(x, bottom + 14, f"{second} s", FAINT, 11, anchor="middle"))
    return "\n".join(parts)


def strip(conditions: Conditions, one: Reload, top: float) -> str:
    """What came back, each BUCKET; and in words what it cost."""
    bottom = top + STRIP
    parts = [text(20, top + 16, one.name, INK, 13, weight=600 if one.ours else 400)]
    if one.with_hups is None or one.without is None:
        return "\n".join([*parts, text(20, top + 33, "not measured", FAINT, 11)])
    seen = one.with_hups
    failed = f"{len(seen.failures):,} failed"
    parts += [
        text(20, top + 32, failed, FAILED if seen.failures else FAINT, 11),
        text(
            20,
            top + 46,
            f"longest pause {seen.pause * 1e3:,.0f} ms ({one.without.pause * 1e3:,.0f})",
            FAINT,
            11,
        ),
        curve(conditions, seen, top, one.ours),
        rule(LEFT, bottom, WIDTH - RIGHT, bottom, RULE),
        text(LEFT - 8, bottom + 3, "0", FAINT, 10, anchor="end"),
        text(
            LEFT - 8,
            bottom - STRIP / HIGHEST + 4,
            f"{conditions.rate:g}",
            FAINT,
            10,
            anchor="end",
        ),
    ]
    failures = per_bucket((moment for moment, _ in seen.failures), seen.seconds)
    for number, count in enumerate(failures):
        if count:
            parts.append(
                rect(across(conditions, number * BUCKET), bottom - STRIP, 3, STRIP, FAILED)
            )
    return "\n".join(parts)


def curve(conditions: Conditions, seen: Seen, top: float, ours: bool) -> str:
    line, area = (OURS, OURS_SYSTEM) if ours else (THEIRS, THEIRS_SYSTEM)
    bottom = top + STRIP
    unit = STRIP / (HIGHEST * conditions.rate * BUCKET)
    steps = []
    for number, count in enumerate(
        per_bucket((moment for moment, _ in seen.answers), seen.seconds), start=1
    ):
        x, y = across(conditions, number * BUCKET), max(top, bottom - count * unit)
        steps.append(f"V{y:.1f}H{x:.1f}")
    return (
        f'<path d="M{LEFT} {bottom:.1f}{"".join(steps)}V{bottom:.1f}" fill="{area}" '
        f'fill-opacity="0.55" stroke="{line}" stroke-width="1.3"/>'
    )
