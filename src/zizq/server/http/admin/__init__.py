"""The admin API: `api.py` finds who answers; each duty has a file of its own."""
