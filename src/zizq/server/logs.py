"""Log lines: pretty for people, compact for files, JSON for programs.

A line is a constant message plus fields: `log.info("listening", extra={"fields": {"addr": ...}})`.
"""

from __future__ import annotations

import datetime as dt
import logging
import logging.handlers
import sys
from typing import Any

import msgspec

from zizq.errors import ConfigError
from zizq.server.settings import Settings
from zizq.words import LOG_LEVELS

_NAMES = {"WARNING": "WARN", "CRITICAL": "ERROR"}
_COLOURS = {"DEBUG": "34", "INFO": "32", "WARN": "33", "ERROR": "31"}
_WHEN = {"daily": "midnight", "hourly": "H"}


class _Line(logging.Formatter):
    """What the three forms have in common: the parts of a line."""

    def parts(self, record: logging.LogRecord) -> tuple[str, str, str, dict[str, Any]]:
        """Instant, level, target and fields, the message first among them."""
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        fields = {"message": record.getMessage(), **getattr(record, "fields", {})}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        target = record.name.replace(".", "::")
        return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), _NAMES.get(record.levelname, record.levelname), target, fields


class JsonLine(_Line):
    """One JSON object a line: timestamp, level, fields, target."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at, level, target, fields = self.parts(record)
        line = {"timestamp": at, "level": level, "fields": fields, "target": target}
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextLine(_Line):
    """Instant, level, target, message, fields.

    Args:
        colour: Whether to colour the level and dim the rest.
    """

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at, level, target, fields = self.parts(record)
        message = fields.pop("message")
        shown = " ".join(f"{name}={value}" for name, value in fields.items())
        if self._colour:
            level = f"\033[{_COLOURS.get(level, '0')}m{level:>5}\033[0m"
            return f"\033[2m{at}\033[0m {level} \033[2m{target}:\033[0m {message} {shown}".rstrip()
        return f"{at} {level:>5} {target}: {message} {shown}".rstrip()


class _SizedDailyHandler(logging.handlers.TimedRotatingFileHandler):
    """A file that is rotated by the clock and, before that, when it grows too large."""

    def __init__(self, filename: str, *, when: str, backups: int, max_bytes: int) -> None:
        super().__init__(filename, when=when, backupCount=backups, utc=True, delay=True, encoding="utf-8")
        self._max_bytes = max_bytes

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Whether a new file is due by time or by size."""
        if super().shouldRollover(record):
            return True
        return self.stream is not None and self.stream.tell() >= self._max_bytes


def configure(settings: Settings) -> None:
    """Send the lines of this process to where the settings say; called once, by the command line.

    Raises:
        ConfigError: When the filter is malformed.
    """
    if settings.log_to_disk or settings.log_dir is not None:
        handler: logging.Handler = _file_handler(settings)
    else:
        handler = logging.StreamHandler(sys.stdout)
    form = settings.log_format or ("pretty" if _is_terminal(handler) else "compact")
    handler.setFormatter(JsonLine() if form == "json" else TextLine(colour=form == "pretty"))
    levels = parse_filter(settings.log_filter or f"warn,zizq={settings.log_level}")
    logging.getLogger().handlers[:] = [handler]
    for target, level in levels.items():
        logging.getLogger(target).setLevel(level)


def parse_filter(text: str) -> dict[str, int]:
    """Levels by the name of their logger, "" for all, from text such as `warn,zizq::take=debug`.

    Raises:
        ConfigError: When a level is none.
    """
    levels = {}
    for part in text.split(","):
        target, _, word = part.strip().rpartition("=")
        if word not in LOG_LEVELS:
            raise ConfigError(f"ZIZQ_LOG_FILTER: {word!r} in {text!r} is not one of {', '.join(LOG_LEVELS)}")
        levels[target.replace("::", ".")] = LOG_LEVELS[word]
    return levels


def _file_handler(settings: Settings) -> logging.Handler:
    folder = settings.log_dir or settings.root_dir / "log"
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / "zizq.log")
    keep, most = settings.log_max_files, settings.log_max_size
    if settings.log_rotation == "never":
        return logging.handlers.RotatingFileHandler(path, maxBytes=most, backupCount=keep, delay=True, encoding="utf-8")
    return _SizedDailyHandler(path, when=_WHEN[settings.log_rotation], backups=keep, max_bytes=most)


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout and sys.stdout.isatty()
