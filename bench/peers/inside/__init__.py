"""What runs in the environment of a system: a process that enqueues, one that asks the server, and what jobs do."""
