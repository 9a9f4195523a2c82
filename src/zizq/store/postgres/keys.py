"""Unique keys and batch keys as they are stored: digests, since a key may hold any character and be of any length."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

from zizq.job import JobRecord
from zizq.store import rows
from zizq.store.postgres.database import Transaction

DIGEST = 16


def stored_key(job: JobRecord) -> bytes | None:
    """What jobs of its unique or batch key find a new job by; None where none may (`rows.key_of`)."""
    name = rows.key_of(job)
    return None if name is None else digest(name)


def digest(name: str) -> bytes:
    """A name of `rows.key_of`, `rows.unique_names` or `rows.batch_name` as it is stored."""
    return blake2b(name.encode(), digest_size=DIGEST).digest()


async def lock(db: Transaction, keys: Collection[str]) -> None:
    """Let nobody else decide about these keys until the transaction is over.

    Args:
        db: The transaction.
        keys: Unique keys with a `u` before each, and names of batches.
    """
    numbers = sorted(int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), signed=True) for key in set(keys))
    if numbers:
        await db.execute("SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) key", numbers)
