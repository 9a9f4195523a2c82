"""The store that several servers share: one PostgreSQL database."""
