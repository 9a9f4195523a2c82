"""When cron entries fire; pure. `grammar` makes a schedule of an expression, `schedule` says when it fires next."""
