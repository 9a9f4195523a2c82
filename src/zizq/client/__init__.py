"""The client library; start reading at `calls`, which has every API call once, without any I/O."""

from zizq.client.aio import Client
from zizq.client.sync import SyncClient

__all__ = ["Client", "SyncClient"]
