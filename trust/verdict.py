"""What a trial ends with when it fails."""

from __future__ import annotations


class Broken(Exception):
    """A promise was broken; the message says which one, where, and the seed that shows it again."""
