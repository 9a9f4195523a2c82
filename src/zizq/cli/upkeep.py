"""`zizq backup` and `zizq compact`: what the admin API of a running server does to its store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from zizq import words
from zizq.cli.admin import Admin, with_admin
from zizq.cli.progress import bar
from zizq.cli.waiting import waiting
from zizq.client.call import Request, Response, raise_refusal
from zizq.client.transport import SyncStream
from zizq.clock import SystemClock
from zizq.store.archive import Progress
from zizq.store.removal import replace

SYNC_BYTES = 2**20
_MAX_REFUSAL = 10_000
"""Bytes of an answer that says no."""


@click.command()
@click.argument("filename", type=click.Path(dir_okay=False, path_type=Path))
@with_admin
def backup(admin: Admin, filename: Path) -> None:
    """Copy the store of a running server to a file, as it is at one instant.

    FILENAME, such as backup.tar.gz, appears once the backup is there in full; one of that name is replaced.
    """
    click.echo(f"Requesting backup from {admin.url}", err=True)
    stream = waiting(lambda: admin.transport.open_stream(Request("POST", "/backup", {})), "the server copies its store")
    try:
        if stream.status != 200:
            raise_refusal(Response(stream.status, stream.content_type, _start_of(stream)))
        size = _save(stream, filename)
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        raise click.ClickException(f"cannot write {filename}: {error.strerror}") from error
    finally:
        stream.close()
    click.echo(f"Backup saved to {filename} ({words.size(size)})", err=True)


@click.command()
@with_admin
def compact(admin: Admin) -> None:
    """Have a running server give free space back to the disk, and wait until it is done."""
    click.echo(f"Requesting compaction from {admin.url}", err=True)
    answer = waiting(lambda: admin.transport.send(Request("POST", "/compact", {})), "the server compacts its store")
    if answer.status != 204:
        raise_refusal(answer)
    click.echo("Compaction complete", err=True)


def _save(stream: SyncStream, path: Path) -> int:
    """Write a backup to a file, which gets its name when all of it is on disk; returns its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            size = synced = 0
            for piece in _watched(stream):
                size += file.write(piece)
                # Bit by bit: the server may be on the same disk, where a sync of its own would wait for all of it.
                if size - synced >= SYNC_BYTES:
                    os.fdatasync(file.fileno())
                    synced = size
            file.flush()
            os.fsync(file.fileno())
        replace(part, path, SystemClock())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return size


def _watched(stream: SyncStream) -> Iterator[bytes]:
    """The pieces of a backup, with a bar on the terminal.

    Raises:
        click.ClickException: When it ends too soon.
    """
    progress = Progress()
    with bar(0, "Saving") as shown:
        while piece := stream.read():
            passed = progress.feed(piece)
            if progress.total is not None:
                shown.length = progress.total
                shown.update(min(passed, progress.total - shown.pos))
            yield piece
    if not progress.is_whole:
        raise click.ClickException("the backup was cut short, and nothing is kept of it: the server's log says why")


def _start_of(stream: SyncStream) -> bytes:
    text = b""
    while len(text) < _MAX_REFUSAL and (piece := stream.read()):
        text += piece
    return text
