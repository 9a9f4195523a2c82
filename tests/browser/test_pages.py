"""Each page in a browser, at a million jobs."""

from __future__ import annotations

import re
import time

import pytest
from playwright.async_api import expect

from browser.stage import JOBS, Stage

PAGES = {
    "/": "Overview", "/queues": "Queues", "/jobs": "Jobs", "/failures": "Failures", "/workers": "Workers",
    "/crons": "Cron", "/budgets": "Budgets", "/storage": "Storage",
}  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_shows_itself_without_a_complaint_of_the_browser(stage: Stage, path: str) -> None:
    async with stage.page(path) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[path])
        await expect(
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=PAGES[path])
        ).to_have_attribute("aria-current", "page")
        await expect(page.locator("#live")).to_have_text("live")


@pytest.mark.parametrize(
    "path", [*PAGES, "/jobs?status=ready&queue=mail", "/jobs?order=asc&type=clean_up", "/jobs/all?action=delete"]
)
async def test_a_page_is_there_in_well_under_200_ms(stage: Stage, path: str) -> None:
    async with stage.page("/storage") as page:
        # Ten times, for others may use the machine: a page that is slow by itself is so each time.
        for _ in range(10):
            began = time.monotonic()
            assert (await page.request.get(path)).status == 200
            spent = time.monotonic() - began
            if spent < 0.2:
                return
    pytest.fail(f"{path} takes {spent:.3f} s")


async def test_the_list_goes_through_a_million_jobs_page_by_page_and_back(stage: Stage) -> None:
    async with stage.page("/jobs?status=ready&queue=mail&order=asc") as page:
        await expect(page.locator(".total")).to_contain_text("jobs match")
        first = await page.locator("tbody th").all_inner_texts()
        await page.get_by_role("link", name="Next").click()
        await expect(page.locator("tbody th").first).not_to_have_text(first[0])
        second = await page.locator("tbody th").all_inner_texts()
        assert first == sorted(first)
        assert len(first) == len(second) == 50
        assert first[-1] < second[0]
        await page.get_by_role("link", name="Back").click()
        await expect(page.locator("tbody th").first).to_have_text(first[0])


async def test_the_overview_counts_a_million_and_draws_its_charts(stage: Stage) -> None:
    assert JOBS >= 1000
    async with stage.page("/") as page:
        await expect(page.locator("canvas")).to_have_count(5)
        await expect(
            page.get_by_role("img", name=re.compile("Jobs a second, 5 minutes; last: enqueued"))
        ).to_be_visible()
        await page.get_by_role("button", name="24 hours").click()
        await expect(
            page.get_by_role("img", name=re.compile("Jobs a second, 24 hours; last: enqueued"))
        ).to_be_visible()


async def test_a_chart_says_its_last_values_where_nobody_points_at_it(stage: Stage) -> None:
    async with stage.page("/") as page:
        for chart, names in {"flow": 3, "depth": 5, "wait": 2, "run": 2, "oldest": 1}.items():
            values = page.locator(f"[data-chart='{chart}'] .u-series:not(:first-child) .u-value")
            await expect(values).to_have_text([re.compile(r"^[0-9][0-9,.]*( \w+)*$")] * names)


async def test_long_names_of_queues_are_cut_in_the_live_list_too(stage: Stage) -> None:
    before = stage.insights.names
    async with stage.page("/") as page:
        try:
            stage.insights.names = ("x" * 100,)
            link = page.locator("#oldest a")
            await expect(link).to_have_count(1)
            await expect(link).to_have_text("x" * 40 + "…")
            await expect(link).to_have_attribute("title", "x" * 100)
        finally:
            stage.insights.names = before


async def test_figures_change_while_one_looks(stage: Stage) -> None:
    before = stage.insights.counts
    async with stage.page("/") as page:
        tile = page.locator("[data-live='counts.dead']")
        await expect(tile).to_have_text("1,000")
        try:
            stage.insights.counts = type(before)(dead=4321)
            stage.insights.trouble = "the disk is full"
            await expect(tile).to_have_text("4,321")
            await expect(page.get_by_role("alert")).to_have_text("Writes are refused: the disk is full")
        finally:
            stage.insights.counts, stage.insights.trouble = before, None


async def test_lists_are_read_anew_while_one_looks(stage: Stage) -> None:
    async with stage.page("/queues") as page:
        await stage.pauses.pause_queue("reports")
        try:
            await expect(page.get_by_role("row", name="reports")).to_contain_text("paused")
        finally:
            await stage.pauses.resume_queue("reports")
    async with stage.page("/crons") as page:
        await page.evaluate("document.querySelector('[data-refresh]').id = 'old'")
        await expect(page.locator("#old")).to_have_count(0)


async def test_the_palette_leads_to_pages_queues_and_jobs_by_keys_alone(stage: Stage) -> None:
    async with stage.page("/") as page:
        await page.keyboard.press("Control+k")
        await page.keyboard.type("budg")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Budgets")
        await expect(page.locator("#live")).to_have_text("live")
        await page.keyboard.press("/")
        await page.keyboard.type("mail")
        await expect(page.get_by_role("option", name="mail")).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{stage.url}/jobs?queue=mail")
        await expect(page.locator("#live")).to_have_text("live")
        await page.keyboard.press("/")
        await page.keyboard.type(stage.running)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text(stage.running)
        await expect(page.locator(".lead .state")).to_have_text("in flight")


async def test_the_palette_is_left_by_escape_and_gives_the_focus_back(stage: Stage) -> None:
    async with stage.page("/") as page:
        await page.get_by_role("button", name=re.compile("Go to")).click()
        await expect(page.get_by_role("combobox")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(page.get_by_role("button", name=re.compile("Go to"))).to_be_focused()


async def test_a_theme_is_chosen_and_kept(stage: Stage) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    async with stage.page("/budgets", color_scheme="dark") as page:
        dark = await page.evaluate(ground)
        await page.get_by_role("button", name="Theme: as the system").click()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        light = await page.evaluate(ground)
        assert light != dark
        await page.reload()
        assert await page.evaluate(ground) == light


async def test_what_jobs_say_is_text_and_runs_nowhere(stage: Stage) -> None:
    async with stage.page(f"/jobs/{stage.dead[20]}") as page:
        await expect(page.get_by_label("Traceback of attempt 1")).to_contain_text("<script>document.title")
        assert "owned" not in await page.title()
        await page.goto("/failures")
        await expect(page.get_by_role("row", name="SMTPError")).to_contain_text("<script>document.title")
        assert "owned" not in await page.title()


async def test_a_phone_needs_no_scrolling_to_the_side(stage: Stage) -> None:
    async with stage.page("/", viewport={"width": 360, "height": 740}, is_mobile=True) as page:
        for path in [*PAGES, f"/jobs/{stage.dead[20]}", "/jobs/all?action=delete&status=dead"]:
            await page.goto(path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
        await page.goto(f"/jobs/{stage.dead[20]}")
        await page.get_by_text("Delete…").click()
        box = await page.locator(".menu[open] form").bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 360


async def test_everything_that_can_be_used_has_a_name(stage: Stage) -> None:
    nameless = """[...document.querySelectorAll("a, button, input, select, summary, meter:not([aria-hidden])")]
        .filter((one) => one.type !== "hidden" && one.checkVisibility())
        .filter((one) => !(one.getAttribute("aria-label") || one.innerText || one.labels?.length))
        .map((one) => one.outerHTML)"""
    async with stage.page("/") as page:
        for path in [*PAGES, f"/jobs/{stage.dead[20]}", "/jobs/all?action=patch&status=ready"]:
            await page.goto(path)
            assert await page.evaluate(nameless) == [], path
            for landmark in ("banner", "main", "contentinfo"):
                await expect(page.get_by_role(landmark)).to_have_count(1)


async def test_read_only_has_no_action_to_offer(stage: Stage) -> None:
    async with stage.page("/queues", url=stage.quiet_url) as page:
        await expect(page.get_by_text("read-only")).to_be_visible()
        for path in [*PAGES, "/jobs/all?action=delete"]:
            await page.goto(path)
            assert await page.locator("form[method=post]").count() == 0, path


async def test_one_logs_in_with_a_token_looks_and_logs_out(stage: Stage) -> None:
    async with stage.page("/queues?q=ma", url=stage.locked_url) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
        await page.get_by_label("Token").fill(stage.token)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Queues")
        await expect(page).to_have_url(f"{stage.locked_url}/queues?q=ma")
        await expect(page.locator("#live")).to_have_text("live")
        await page.get_by_role("button", name="Log out").click()
        await page.goto("/queues")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
