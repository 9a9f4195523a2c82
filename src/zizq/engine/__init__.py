"""The rules of a job's life; pure. Start with `transitions`: no job moves but by that table."""
