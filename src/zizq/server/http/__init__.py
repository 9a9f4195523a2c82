"""The primary API over ASGI. Start with `api`, the application."""
