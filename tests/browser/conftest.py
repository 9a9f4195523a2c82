"""How tests in a browser run: on the event loop of the stage, which is made once, by the first of them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.stage import CHROMIUM, Stage, Theatre


@pytest.fixture(scope="session")
def theatre() -> Iterator[Theatre]:
    """The stage with its thread. It is there to the end of the session, and so these tests come last.

    CI must have a browser; elsewhere its tests are skipped without one.
    """
    if CHROMIUM is None:
        if os.environ.get("ZIZQ_TEST_BROWSER") == "required":
            pytest.fail("there is no chromium: apt-get install chromium")
        pytest.skip("there is no chromium: apt-get install chromium, or let `make test` do that as root")
    theatre = Theatre()
    yield theatre
    theatre.close()


@pytest.fixture
def stage(theatre: Theatre) -> Stage:
    """What tests play on."""
    return theatre.stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests last: the stage keeps a million jobs and a browser, which is none of the business of others.

    The one that comes first has the time to fill the store, also where other programs keep the machine busy.
    """
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in ours:
        item.add_marker(pytest.mark.timeout(300))
    items.sort(key=set(ours).__contains__)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutines on the loop that the browser lives on."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    theatre: Theatre = pyfuncitem._request.getfixturevalue("theatre")
    names = inspect.signature(pyfuncitem.obj).parameters
    theatre.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
