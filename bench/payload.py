"""What the jobs of all measurements carry."""

from __future__ import annotations

from typing import Any


def payload(at: float = 0.0) -> dict[str, Any]:
    """What a job carries: about 190 bytes as JSON. `at` is when it was enqueued, for those who measure that."""
    return {
        "at": round(at, 9),
        "to": "somebody@example.com",
        "template": "welcome",
        "subject": "Welcome to the example, and thank you for joining us",
        "user_id": 123456789,
        "locale": "en-GB",
        "attachments": [],
        "dry": False,
    }
