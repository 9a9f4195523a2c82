"""A file for each system, and in it, as plain functions, all that the measurements ask of it:

- `prepare()`, once for a new server, where it needs a schema or a stream;
- `open_client()`, once in the process that enqueues;
- `enqueue(payload)`, and `enqueue_bulk(payloads)` where the system has that: one request for many jobs;
- `left()`: how many jobs the server still has, waiting or in hand. None are left when the last is acknowledged;
- a handler, which calls `handle` or `handle_async` of `bench.peers.inside.jobs`;
- `work()`, where the system brings no worker command of its own.

`prepare`, `open_client`, `enqueue` and `enqueue_bulk` may all be coroutines, or none of them; `left` may be either.
"""
