"""`zizq serve`, but for what records: what is left is what recording has to be measured against."""

from __future__ import annotations

import asyncio
from typing import Any

from zizq.cli.main import main
from zizq.server import serve
from zizq.server.app import App


class Unwatched(App):
    """A server that hears of nothing and looks at nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.broker.on_moved = lambda cause, jobs, errors: None
        self.broker.on_taken = lambda jobs, now: None
        self.insights.run = asyncio.Event().wait  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    serve.App = Unwatched  # type: ignore[misc]
    main()
