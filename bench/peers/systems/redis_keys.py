"""Questions to Redis that several systems need; no system itself."""

from __future__ import annotations

import redis

from bench.peers.inside.settings import URL

connection = redis.Redis.from_url(URL)
