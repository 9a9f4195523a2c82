"""The network under the APIs: sockets, HTTP and TLS around ASGI applications."""
