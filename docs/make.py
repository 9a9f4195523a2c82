"""Makes the pages that are drawn from the code: lifecycle.md and options.md. A test holds them to it."""

from __future__ import annotations

from pathlib import Path

from zizq.engine.transitions import TABLE, Cause
from zizq.server.settings import flag_of, options, variable_of

DOCS = Path(__file__).parent

CAUSES = {
    Cause.ENQUEUE: "A client enqueues it: ready, or scheduled when its time is still to come.",
    Cause.PROMOTE: "Its time has come.",
    Cause.TAKE: "A take stream hands it to a worker.",
    Cause.SUCCEED: "The worker reports success. It is kept where a retention says so, and gone otherwise.",
    Cause.FAIL: "The worker reports a failure: another try, or death when its retries are used up or it is killed. "
    "A worker that holds it for longer than its `timeout_ms` has failed it as well, and a job is dead when too many "
    "workers died while they held it. A dead job is kept for its retention, seven days by default.",
    Cause.RELEASE: "The connection that held it ended, its worker gave it back, or the server restarted. No attempt is "
    "counted.",
    Cause.PATCH: "A client changes it. A `ready_at` moved into the future makes a ready job scheduled, one moved to "
    "now or before makes a scheduled job ready.",
    Cause.RETRY: "A client gives a dead job another life: ready, with its attempts and errors forgotten.",
    Cause.DELETE: "A client deletes it.",
    Cause.REAP: "Its retention is over.",
}


def lifecycle() -> str:
    """The page on the life of a job."""
    moves = [(before, cause, after) for (before, cause), targets in TABLE.items() for after in targets]
    lines = [
        "# The life of a job",
        "",
        "Made by `make docs` from the table in `src/zizq/engine/transitions.py`: no job moves but by that table.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        *[f"    {before or '[*]'} --> {after or '[*]'}: {cause}" for before, cause, after in moves],
        "```",
        "",
        "| From | Cause | To |",
        "|---|---|---|",
        *[
            f"| {before or 'none'} | {cause} | {', '.join(str(after or 'gone') for after in targets)} |"
            for (before, cause), targets in TABLE.items()
        ],
        "",
        "| Cause | What happens |",
        "|---|---|",
        *[f"| {cause} | {text} |" for cause, text in CAUSES.items()],
        "",
        "A completed job does not change any more, it can only disappear; a dead one can be retried as well.",
        "A job that comes back to ready keeps its identifier, and so its place ahead of younger jobs of its priority.",
        "",
    ]
    return "\n".join(lines)


def options_page() -> str:
    """The page on the options of the server."""
    lines = [
        "# Options of `zizq serve`",
        "",
        "Made by `make docs` from `src/zizq/server/settings.py`.",
        "A flag wins over its variable.",
        "",
        "Durations are written `500ms`, `3s`, `1h 30m`, `7d`; a bare number is milliseconds.",
        "Sizes are written `64k`, `256MB` (decimal), `256MiB` (binary); a bare number is bytes.",
        "",
        "| Flag | Variable | Default | Meaning |",
        "|---|---|---|---|",
    ]
    for setting, option in options():
        flags = [flag_of(setting.name)] if option.flag else []
        flags += [f"-{option.short}"] if option.short else []
        shown = "off" if option.switch else "" if setting.default is None else option.show(setting.default)
        choices = f" One of {', '.join(option.choices)}." if option.choices else ""
        names = ", ".join(f"`{flag}`" for flag in flags) or "(variable only)"
        lines.append(f"| {names} | `{variable_of(setting.name)}` | {shown} | {option.help}{choices} |")
    return "\n".join([*lines, ""])


PAGES = {"lifecycle.md": lifecycle, "options.md": options_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
