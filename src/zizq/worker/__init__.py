"""Runs handlers. Start reading at `worker`, then `slots` (where jobs run) and `outbox` (what is reported of them)."""
