"""beanstalkd, with greenstalk."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import urlsplit

import greenstalk

from bench.peers.inside.jobs import handle
from bench.peers.inside.settings import CONCURRENCY, URL

address = (urlsplit(URL).hostname, urlsplit(URL).port)
links = threading.local()


def link() -> greenstalk.Client:
    """The connection of this thread: a client of greenstalk is for one."""
    if not hasattr(links, "client"):
        links.client = greenstalk.Client(address)
    return links.client


def open_client() -> None:
    """Connect."""
    link()


def enqueue(payload: dict[str, Any]) -> None:
    """A put."""
    link().put(json.dumps(payload))


def left() -> int:
    """Jobs that wait or are reserved."""
    with greenstalk.Client(address) as client:
        stats = client.stats()
    return int(stats["current-jobs-ready"]) + int(stats["current-jobs-reserved"])


def serve() -> None:
    """Reserve, run, delete, without end."""
    with greenstalk.Client(address) as client:
        while True:
            job = client.reserve()
            handle(json.loads(job.body))
            client.delete(job)


def work() -> None:
    """A thread with a connection for each job at once."""
    threads = [threading.Thread(target=serve) for _ in range(CONCURRENCY or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
