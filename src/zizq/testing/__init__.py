"""For tests: a clock set by hand, loaded dice, a whole server in this process, and the suite every store must pass."""
