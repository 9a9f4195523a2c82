"""`zizq top`: a server in a terminal. It speaks to the admin port only. Start with `model.py`."""
