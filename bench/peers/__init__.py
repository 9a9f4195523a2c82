"""zizq beside the systems that people use today: the same shapes on all of them, in turn, in one run.

`run.py` takes the turns, `shapes.py` is what is measured, `catalogue.py` says how each system is set, and `servers.py`
starts what it needs. `inside/` and `systems/` run within the environment of a system, and import nothing but that.
"""
