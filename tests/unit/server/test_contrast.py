"""Each colour of text can be read on each ground that it stands on: WCAG 2.2, level AA."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zizq.server.dashboard

STYLE = (Path(zizq.server.dashboard.__file__).parent / "static" / "style.css").read_text(encoding="utf-8")
LEAST = 4.5
GROUNDS = ("ground", "card", "hover")
PAIRS = [
    *[(text, ground) for text in ("text", "faint", "accent", "red") for ground in GROUNDS],
    *[(tone, ground) for tone in ("blue", "green", "amber", "violet", "grey") for ground in ("card", "hover")],
    ("on-accent", "accent"), ("red", "warn-ground"), ("green", "fine-ground"),
]  # fmt: skip


def themes() -> list[dict[str, str]]:
    """The colours of each theme: light, dark by choice, dark by the system."""
    blocks = re.findall(r":root[^{]*\{([^}]*--ground[^}]*)\}", STYLE)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read_in_each_theme(text: str, ground: str) -> None:
    light, dark, _ = themes()
    assert contrast(light[text], light[ground]) >= LEAST
    assert contrast(dark[text], dark[ground]) >= LEAST


def test_dark_is_the_same_whoever_chose_it() -> None:
    _, chosen, system = themes()
    assert chosen == system
