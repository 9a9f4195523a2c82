"""The dashboard: pages on the admin port for people who look after a server. Start at `app.py`.

It knows the services of its own process and nothing of stores or sockets. Without the extra `zizq[dashboard]` only
`opening.py` and what it needs can be imported.
"""
