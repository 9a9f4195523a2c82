"""The URL of a store: what is one, what a driver gets of it, and what everybody else sees."""

from __future__ import annotations

import pytest

from zizq.errors import ConfigError
from zizq.store.url import StoreUrl, is_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgres://u@h:5432/d", "postgres://u@h:5432/d"),
        (f"postgresql://u:{SECRET}@h/d", "postgresql://u:***@h/d"),
        (f"postgresql://u:{SECRET}%40%3A@h1:1,h2:2/d?target_session_attrs=read-write",
         "postgresql://u:***@h1:1,h2:2/d?target_session_attrs=read-write"),
        (f"postgresql://h/d?user=u&password={SECRET}", "postgresql://h/d?user=u&password=***"),
        (f"postgresql://u:{SECRET}@[::1]:5432/d", "postgresql://u:***@[::1]:5432/d"),
        ("postgresql:///d?host=%2Fvar%2Frun", "postgresql:///d?host=%2Fvar%2Frun"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(text: str, shown: str) -> None:
    url = StoreUrl(text)
    assert (str(url), repr(url)) == (shown, f"StoreUrl({shown!r})")
    assert url.dsn == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/var/lib/zizq",
        "mysql://h/d",
        "postgresql:h/d",
        f"postgresql://u:{SECRET}/x@h/d",
        f"postgresql://u:{SECRET}?x@h/d",
        f"postgresql://u:{SECRET}#x@h/d",
        f"postgresql://u:{SECRET}@x@h/d",
        f"postgresql://u:1/{SECRET}@h/d",
        f"postgresql://u:1?{SECRET}@h/d",
        f"postgresql://u:{SECRET}@h:port/d",
        f"postgresql://u:{SECRET}@h/d#f",
        f"postgresql://u:{SECRET}@h/d?prepared=maybe",
    ],
)
def test_what_is_no_url_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="the URL of the store") as caught:
        StoreUrl(text)
    assert SECRET not in str(caught.value)


def test_what_is_ours_is_kept_from_the_driver() -> None:
    url = StoreUrl(f"postgresql://u:{SECRET}@h/d?prepared=off&sslmode=require")
    assert (url.prepared, url.dsn) == (False, f"postgresql://u:{SECRET}@h/d?sslmode=require")
    assert StoreUrl("postgresql://h/d").prepared
    assert StoreUrl("postgresql://h/d?prepared=on").prepared


def test_the_name_of_the_database_is_read() -> None:
    assert StoreUrl("postgresql://h/a%20b?x=y").database == "a b"
    assert StoreUrl("postgresql://h").database is None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("postgresql://h/d", True), ("postgres:h", True), ("sqlite://x", True), ("/a/b", False), ("b", False)],
)
def test_a_url_is_told_from_a_folder(text: str, is_one: bool) -> None:
    assert is_url(text) is is_one
