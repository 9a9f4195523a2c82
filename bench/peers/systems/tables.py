"""Questions to PostgreSQL that several systems need; no system itself."""

from __future__ import annotations

import psycopg

from bench.peers.inside.settings import URL


def count(query: str) -> int:
    """What a query counts."""
    with psycopg.connect(URL) as connection:
        found = connection.execute(query).fetchone()
    return int(found[0]) if found else 0
