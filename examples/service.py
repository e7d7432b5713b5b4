"""A web service that takes orders, and shows how far they are while workers do the work.

FastAPI stores the jobs and runs none of them; progress reaches the browser as server-sent events. In this folder::

    pip install fastapi uvicorn '..[cli]'
    uvicorn service:web --port 8000
    jobify worker service:jobs                                   # in another terminal, or several
    curl -X POST 'http://127.0.0.1:8000/reports?rows=200'        # {"id": ...}
    curl -N http://127.0.0.1:8000/reports/ID/events
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from jobify import Jobify, JobResult, current_job
from jobify.exceptions import JobNotFoundError

jobs = Jobify()  # ./jobify.db, which the workers open, too
web = FastAPI()


@jobs.task(name="report", retry=2, timeout=60)
async def report(rows: int) -> int:
    """Something that takes its time, and says how far it is."""
    total = 0
    for row in range(1, rows + 1):
        await asyncio.sleep(0)  # a query, a request
        total += row
        if row % max(1, rows // 10) == 0:
            current_job.update_progress(100 * row / rows)
            current_job.publish({"row": row, "total": total})
    return total


@web.post("/reports", status_code=202)
async def order(rows: int) -> dict[str, str]:
    """Stored when this answers; a crash of the web server does not lose it."""
    job = await report.adelay(rows)
    return {"id": job.id}


@web.get("/reports/{job_id}")
async def show(job_id: str) -> dict[str, Any]:
    """Status, progress and errors, as they are now."""
    return (await found(job_id)).to_dict()


@web.get("/reports/{job_id}/events")
async def events(job_id: str) -> StreamingResponse:
    """Everything that the job has published, from its beginning, and then its end."""
    return StreamingResponse(told(await found(job_id)), media_type="text/event-stream")


@web.delete("/reports/{job_id}")
async def cancel(job_id: str) -> dict[str, bool]:
    """Whether the job is cancelled; one that has ended is not."""
    return {"cancelled": await (await found(job_id)).acancel()}


async def told(job: JobResult[Any]) -> AsyncIterator[str]:
    async for part in job.astream(timeout=None):
        yield event("progress", part)
    yield event("end", {"status": job.status, "error": job.error})


def event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def found(job_id: str) -> JobResult[Any]:
    try:
        return await jobs.aget_job(job_id)
    except JobNotFoundError as error:
        raise HTTPException(404, str(error)) from error
