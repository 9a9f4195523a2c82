"""The store port on SQLite, embedded in the server. Start with `store`; `writer` is the hard part."""
