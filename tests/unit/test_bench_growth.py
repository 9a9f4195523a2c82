"""The page on growth, as far as it is pure."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench import growth


def results() -> dict[str, object]:
    queued = {figure: [1.0, 3.0, 2.0] for figure in growth.BY_BACKLOG}
    fleet = {figure: [2.0] for figure in growth.BY_FLEET}
    return {
        "command": "`python -m bench growth`",
        "backlog": {"10000": queued, "10000000": queued},
        "workers": {"1": fleet, "1000": fleet},
    }


def test_the_page_has_a_row_for_each_size_and_names_its_command() -> None:
    text = growth.page(results())
    assert "Made by `python -m bench growth`" in text
    assert "| 10,000,000 | 2 (1-3) |" in text
    assert "| 1,000 | 2 |" in text


def test_every_picture_of_the_page_is_made() -> None:
    text, made = growth.page(results()), growth.pictures(results())
    assert all(f"images/{name}.svg" in text for name in made)
    assert len(made) == 5


def test_a_curve_has_a_point_for_each_size() -> None:
    _, svg = growth.pictures(results())["growth-start"]
    assert len(list(ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}circle"))) == 2


def test_figures_are_shown_in_their_units() -> None:
    assert growth._cell([0.00001], *growth.BY_FLEET["server cpu"][1:]) == "10.0"
