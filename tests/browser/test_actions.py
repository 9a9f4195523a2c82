"""Each action in a browser, at a million jobs, with what it came to in the store."""

from __future__ import annotations

from playwright.async_api import Page, expect

from browser.stage import Stage
from zizq.engine.selection import Selection
from zizq.job import JobRecord, Status


async def job(stage: Stage, job_id: str) -> JobRecord | None:
    return await stage.app.broker._store.get(job_id, stage.app.broker.now())


async def count(stage: Stage, **wanted: object) -> int:
    return await stage.app.catalog.count(Selection(**wanted), None)


async def told(page: Page, text: str) -> None:
    await expect(page.get_by_role("status").filter(has_text=text)).to_be_visible()


async def test_a_queue_is_paused_and_resumed(stage: Stage) -> None:
    async with stage.page("/queues") as page:
        await page.get_by_role("button", name="Pause images").click()
        await told(page, "Paused")
        assert stage.pauses.paused == {"images"}
        await expect(page.get_by_role("row", name="images")).to_contain_text("paused")
        await page.get_by_role("button", name="Resume images").click()
        await told(page, "Resumed")
        assert stage.pauses.paused == set()


async def test_a_purge_counts_first_and_then_leaves_what_does_not_wait(stage: Stage) -> None:
    await stage.enqueue(7, queue="to-purge")
    held = await stage.hold("to-purge", 2)
    async with stage.page("/jobs/all?action=delete&status=scheduled,ready&queue=to-purge") as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("Delete 5 jobs?")
        await page.get_by_role("button", name="Delete 5 jobs").click()
        await told(page, "5 jobs were deleted.")
    assert await count(stage, queues=frozenset({"to-purge"})) == len(held)


async def test_the_queues_lead_to_their_purge(stage: Stage) -> None:
    async with stage.page("/queues") as page:
        await page.get_by_role("link", name="Purge mail").click()
        waiting = await count(stage, queues=frozenset({"mail"}), statuses=frozenset({Status.READY, Status.SCHEDULED}))
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Delete {waiting:,} jobs?")
        await page.get_by_role("link", name="Keep them as they are").click()
        await expect(page).to_have_url(f"{stage.url}/jobs?status=scheduled%2Cready&queue=mail")


async def test_all_that_match_a_filter_are_deleted_after_a_preview(stage: Stage) -> None:
    await stage.enqueue(30, queue="few")
    async with stage.page("/jobs") as page:
        await page.get_by_label("Queue", exact=True).fill("few")
        await page.get_by_label("Payload (jq)").fill(".user_id < 12")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("row")).to_have_count(13)
        await page.get_by_role("link", name="Delete…").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Delete 12 jobs?")
        await expect(page.get_by_role("row")).to_have_count(11)
        await page.get_by_role("button", name="Delete 12 jobs").click()
        await told(page, "12 jobs were deleted.")
    assert await count(stage, queues=frozenset({"few"})) == 18


async def test_all_that_match_are_changed(stage: Stage) -> None:
    await stage.enqueue(3, queue="slow")
    async with stage.page("/jobs?queue=slow&status=ready") as page:
        await page.get_by_role("link", name="Change…").click()
        form = page.locator("form.confirm")
        await form.get_by_label("Queue").fill("quick")
        await form.get_by_label("Priority").fill("7")
        await form.get_by_label("Run at").fill("10m")
        await page.get_by_role("button", name="Change 3 jobs").click()
        await told(page, "3 jobs were changed.")
    [one, *_] = (await stage.app.catalog.page(Selection(queues=frozenset({"quick"})), None, None, "asc", 10)).jobs
    assert (one.priority, one.status) == (7, Status.SCHEDULED)
    assert await count(stage, queues=frozenset({"quick"})) == 3


async def test_all_dead_jobs_that_match_are_retried(stage: Stage) -> None:
    ids = ",".join(stage.dead[:5])
    async with stage.page(f"/jobs?status=dead&id={ids}") as page:
        await page.get_by_role("link", name="Retry…").click()
        await page.get_by_role("button", name="Retry 5 jobs").click()
        await told(page, "5 jobs were brought back to ready.")
    assert {(await stage.app.catalog.get(job_id)).status for job_id in stage.dead[:5]} == {Status.READY}


async def test_a_dead_job_shows_its_life_and_is_retried(stage: Stage) -> None:
    async with stage.page(f"/jobs/{stage.dead[8]}") as page:
        await expect(page.get_by_role("list").filter(has_text="Enqueued")).to_contain_text(
            "Attempt 1 failed: smtp.SMTPError"
        )
        await expect(page.get_by_label("Traceback of attempt 1")).to_contain_text("await smtp.send(message")
        await expect(page.locator("section", has=page.get_by_role("heading", name="Payload"))).to_contain_text(
            '"note": "<b>hello</b>"'
        )
        await page.get_by_role("button", name="Retry").click()
        await told(page, "1 job was brought back to ready.")
        await expect(page.locator(".lead .state")).to_have_text("ready")
    assert (await stage.app.catalog.get(stage.dead[8])).attempts == 0


async def test_a_scheduled_job_gets_another_time(stage: Stage) -> None:
    async with stage.page(f"/jobs/{stage.scheduled}") as page:
        await page.get_by_text("Edit…").click()
        await page.get_by_label("Run at").fill("2100-01-31T08:00Z")
        await page.get_by_role("button", name="Save").click()
        await told(page, "1 job was changed.")
    assert (await stage.app.catalog.get(stage.scheduled)).ready_at == 4_105_065_600_000


async def test_a_job_is_deleted_after_a_second_click(stage: Stage) -> None:
    job_id = stage.dead[10]
    async with stage.page(f"/jobs/{job_id}") as page:
        await expect(page.get_by_role("button", name="Delete this job")).to_be_hidden()
        await page.get_by_text("Delete…").click()
        await page.get_by_role("button", name="Delete this job").click()
        await told(page, "1 job was deleted.")
    assert await job(stage, job_id) is None


async def test_a_cron_entry_and_a_group_are_paused_and_resumed(stage: Stage) -> None:
    async with stage.page("/crons") as page:
        await page.get_by_role("button", name="Pause health").click()
        await expect(page.get_by_role("row", name="health")).to_contain_text("when resumed")
        assert (await stage.app.crontab.get_entry("nightly", "health")).paused
        await page.get_by_role("button", name="Resume health").click()
        await page.get_by_role("button", name="Pause the group billing").click()
        await told(page, "Paused")
        assert (await stage.app.crontab.get("billing")).paused
        await page.get_by_role("button", name="Resume the group billing").click()
        await told(page, "Resumed")
    assert not (await stage.app.crontab.get_entry("nightly", "health")).paused
    assert not (await stage.app.crontab.get("billing")).paused


async def test_a_wrong_filter_says_what_is_wrong(stage: Stage) -> None:
    async with stage.page("/jobs?filter=.%5B", complain=False) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("That cannot be done")


async def test_actions_work_without_script(stage: Stage) -> None:
    [job_id] = await stage.enqueue(1, queue="plain")
    async with stage.page(f"/jobs/{job_id}", java_script_enabled=False) as page:
        await page.get_by_text("Delete…").click()
        await page.get_by_role("button", name="Delete this job").click()
        await told(page, "1 job was deleted.")
    assert await job(stage, job_id) is None
