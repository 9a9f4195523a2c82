"""The forms in which jobs note what they did, for those who write and those who read."""

from __future__ import annotations

import struct

ROW = struct.Struct("=Qdd")
"""Of one process: jobs, when the first of them ran, and the last."""
ROWS = 256
"""More than processes at once; each has the row of its number."""
STAMP = struct.Struct("=d")
"""Seconds from a job's enqueue to its start."""
HELD = struct.Struct("=dI")
"""When a held job began, and its number."""
