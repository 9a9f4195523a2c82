"""Benchmarks: `python -m bench` runs them, README.md explains them; begin reading at throughput.py."""
