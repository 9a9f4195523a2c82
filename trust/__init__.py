"""Long trials of what zizq promises under faults."""
