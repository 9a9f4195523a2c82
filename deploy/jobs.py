"""The handlers of the worker in compose.yaml: put your own in its place."""

import asyncio

import zizq

router = zizq.Router()


@router.fallback
async def anything(job: zizq.Job) -> None:
    """Take a moment over any job."""
    await asyncio.sleep(0.1)
