"""Takes the pictures of the dashboard in docs/images: `make pictures`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from browser.stage import Stage, staged

FOLDER = Path(__file__).parents[2] / "docs" / "images"
DESK: dict[str, Any] = {"viewport": {"width": 1180, "height": 780}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 900}, "is_mobile": True}
LIGHT, DARK = {"color_scheme": "light"}, {"color_scheme": "dark"}


def wanted(stage: Stage) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each picture: the path of its page, and how the page is seen."""
    job = f"/jobs/{stage.dead[3]}"
    return {
        "overview": ("/", DESK | LIGHT),
        "overview-dark": ("/", DESK | DARK),
        "overview-phone": ("/", PHONE | LIGHT),
        "queues": ("/queues", DESK | LIGHT),
        "jobs": ("/jobs?queue=mail&status=ready", DESK | LIGHT),
        "preview": ("/jobs/all?action=delete&status=dead", DESK | LIGHT),
        "job": (job, DESK | LIGHT),
        "job-phone": (job, PHONE | DARK),
        "failures": ("/failures", DESK | LIGHT),
        "workers": ("/workers", DESK | DARK),
        "cron": ("/crons", DESK | LIGHT),
    }


async def main() -> None:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder), bait="") as stage:
            for name, (path, seen) in wanted(stage).items():
                async with stage.page(path, **seen) as page:
                    await expect(page.locator("#live")).to_have_text("live", timeout=20_000)
                    # Charts are drawn with the first figures, and the page is still after that.
                    await page.wait_for_timeout(1500)
                    await page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    asyncio.run(main())
