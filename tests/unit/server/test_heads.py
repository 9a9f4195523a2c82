"""Requests behind a head that came before are what they would be if it had been read anew."""

from __future__ import annotations

import asyncio
import gc
from types import FunctionType, ModuleType
from typing import Any

import pytest
from trust.line import Client

from unit.server.line import GET, App, ok, post
from zizq.server.http.head import KEPT, head_of
from zizq.server.net.heads import LONGEST, MOST, Heads
from zizq.server.net.limits import MAX_FIELDS, MAX_HEAD

SCOPE: dict[str, Any] = {"method": "GET", "path": "/", "headers": [], "query_string": b""}


def is_known(client: Client, data: bytes) -> bool:
    """Whether a request would not be read anew."""
    return client.heads.find(data) is not None


async def test_a_head_that_came_before_is_not_read_again() -> None:
    app = App()
    client = Client(app)
    assert await client.send(post(b"first")) == ok(b"first")
    assert is_known(client, post(b"other"))
    assert await client.send(post(b"other")) == ok(b"other")
    assert await client.send(post(b"again")) == ok(b"again")
    first, other, again = app.scopes
    assert first == other == again
    assert other["headers"] is again["headers"]
    assert not client.running


async def test_what_an_application_keeps_of_a_head_is_there_for_the_next() -> None:
    app = App()
    client = Client(app)
    for body in (b"1", b"2", b"33"):
        await client.send(post(body))
    one, two, longer = map(head_of, app.scopes)
    assert one is two
    assert one is not longer
    assert (one.method, one.path, one.length, longer.length) == ("POST", "/jobs", 1, 2)


async def test_blank_lines_between_requests_do_not_add_up() -> None:
    client = Client(App())
    await client.send(GET)
    for _ in range(MAX_HEAD // 2 + 2):
        client.connection.data_received(b"\r\n")
        client.connection.data_received(GET)
        await asyncio.sleep(0)
    assert not client.has_been_let_go


async def test_another_connection_profits_under_its_own_address() -> None:
    app = App()
    client = Client(app)
    await client.send(GET)
    other = Client(app, client.heads)
    other.connection.client = ("10.0.0.8", 5)
    assert await other.send(GET) == ok(b"")
    assert [scope["client"] for scope in app.scopes] == [("10.0.0.9", 4000), ("10.0.0.8", 5)]
    known = client.heads.find(GET)
    assert known is not None
    assert known[0]["client"] is None


async def test_only_what_comes_whole_and_alone_is_taken_at_once() -> None:
    app = App()
    client = Client(app)
    await client.send(post(b"12345"))
    asked = post(b"abcde")
    assert await client.send(asked[:-2]) == b""
    assert await client.send(asked[-2:]) == ok(b"abcde")
    assert await client.send(asked + GET) == ok(b"abcde") + ok(b"")
    assert await client.send(asked) == ok(b"abcde")
    assert len(app.scopes) == 5


async def test_behind_the_first_bytes_of_a_head_nothing_is_taken_at_once() -> None:
    client = Client(App())
    await client.send(GET)
    # The method of the next would be "PGET", which is none.
    assert await client.send(b"P") == b""
    assert (await client.send(GET)).startswith(b"HTTP/1.1 400 ")


async def test_who_asks_behind_the_last_request_is_not_answered() -> None:
    client = Client(App())
    await client.send(GET)
    client.connection.stop_soon()
    assert await client.send(GET) == b""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", id="the last of its connection"),
        pytest.param(b"GET /jobs HTTP/1.0\r\nhost: x\r\n\r\n", id="HTTP/1.0"),
        pytest.param(b"POST /jobs HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", id="chunks"),
        pytest.param(b"POST /jobs HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="no chunk"),
        pytest.param(GET + GET, id="two at once"),
        pytest.param(GET + b"G", id="more than one"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nX-Api-Key: x\r\n\r\n", id="another secret"),
        pytest.param(b"GET /jobs?token=x HTTP/1.1\r\nhost: x\r\n\r\n", id="a query"),
        pytest.param(b"GET /jobs HTTP/1.1\r\naccept: " + b"x" * LONGEST + b"\r\n\r\n", id="a long one"),
        pytest.param(b"POST /jobs HTTP/1.1\r\ncontent-length: 9\r\n\r\n", id="a body that is to come"),
        pytest.param(b"\r\nGET /jobs HTTP/1.1\r\nhost: x\r\n\r\n", id="a blank line before it"),
        pytest.param(b"\nGET /jobs HTTP/1.1\r\nhost: x\r\n\r\n", id="half of one"),
        pytest.param(b"GET /jobs HTTP/1.1\r\n" + MAX_FIELDS * b"host:\r\n" + b"\r\n", id="headers without another"),
        pytest.param(b"\r\n\r\nGET /jobs HTTP/1.1\r\nhost: x\r\n\r\n", id="blank lines before it"),
        pytest.param(b"GET /jobs HTTP/1.1\r\n", id="no end"),
        pytest.param(b"no HTTP\r\n\r\n", id="nothing of the kind"),
    ],
)
async def test_of_other_requests_nothing_is_kept(data: bytes) -> None:
    client = Client(App())
    await client.send(data)
    end = data.find(b"\r\n\r\n") + 4
    assert not any(is_known(client, data[:cut]) for cut in range(3, len(data) + 1))
    assert not any(is_known(client, data[:end] + b"x" * length) for length in range(20))


def shown(*lines: bytes) -> bytes:
    """A request with lines beside those that all have."""
    return b"GET /jobs HTTP/1.1\r\nhost: x\r\n%baccept: */*\r\n\r\n" % b"".join(line + b"\r\n" for line in lines)


async def test_who_shows_another_token_is_known_by_the_rest_of_the_head() -> None:
    app = App()
    client = Client(app)
    await client.send(shown(b"authorization: Bearer first"))
    assert is_known(client, shown(b"authorization: Bearer other"))
    assert is_known(client, shown())
    for lines in ([b"Authorization: Bearer other"], [], [b"authorization: Bearer first"]):
        assert await client.send(shown(*lines)) == ok(b"")
    usual = [(b"host", b"x"), (b"accept", b"*/*")]
    assert [scope["headers"] for scope in app.scopes[1:]] == [
        [*usual, (b"authorization", b"Bearer other")],
        usual,
        [*usual, (b"authorization", b"Bearer first")],
    ]
    assert len(set(map(head_of, app.scopes))) == 1


async def test_of_a_token_nothing_is_kept() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await App()(scope, receive, send)

    client = Client(app)
    for token in (b"secret 1", b"secret 2", b"\tsecret 3"):
        assert await client.send(shown(b"authorization: " + token)) == ok(b"")
    assert is_known(client, shown())
    assert not [one for one in _held(client.connection) if b"secret" in one]


def _held(root: object) -> list[bytes]:
    """The bytes that can be reached from an object of ours, or of a container, over such."""
    found, seen, ahead = [], set[int](), [root]
    while ahead:
        one = ahead.pop()
        if isinstance(one, bytes):
            found.append(one)
        elif id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType | asyncio.AbstractEventLoop):
            seen.add(id(one))
            ahead += gc.get_referents(one)
    assert len(found) > 10
    return found


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"authorization:  Bearer x"], id="two blanks"),
        pytest.param([b"authorization:Bearer x"], id="no blank"),
        pytest.param([b"authorization: Bearer x "], id="a blank behind"),
        pytest.param([b"authorization: Bearer\tx"], id="a tab"),
        pytest.param([b"authorization: "], id="nothing"),
        pytest.param([b"authorization: Bearer \xe4"], id="no ASCII"),
        pytest.param([b"authorization: Bearer \0"], id="a NUL"),
        pytest.param([b"authorization: Bearer \x7f"], id="a character that is none"),
        pytest.param([b"authorization: Bearer x\ry"], id="half of the end of a line"),
        pytest.param([b"authorization: Bearer x\ny: z"], id="the other half"),
        pytest.param([b"authorization: Bearer x", b" y"], id="a line that goes on"),
        pytest.param([b"authorization: Bearer x", b"\ty"], id="and by a tab"),
        pytest.param([b"AUTHORIZATION: Bearer x"], id="in capitals"),
        pytest.param([b"authorization : Bearer x"], id="a blank before the colon"),
        pytest.param([b" authorization: Bearer x"], id="a blank before it"),
        pytest.param([b"proxy-authorization: Bearer x"], id="another one"),
        pytest.param([b"buthorization: Bearer x"], id="another letter"),
        pytest.param([b"user-agent: uthorization: x", b"authorization: Bearer x"], id="the name in another one"),
        pytest.param([b"authorization: Bearer x", b"authorization: Bearer x"], id="one token twice"),
        pytest.param([b"authorization: Bearer x", b"authorization: Bearer y"], id="two tokens"),
        pytest.param([b"authorization: Bearer x", b"x-other: x"], id="another secret beside it"),
    ],
)
async def test_a_token_that_stands_otherwise_is_read_anew(lines: list[bytes]) -> None:
    asked = shown(*lines)
    app, fresh = App(), App()
    client = Client(app)
    await client.send(shown(b"authorization: Bearer first"))
    # Nor is it taken for a line of what is left without the first.
    await Client(app, client.heads).send(shown(*lines[1:]))
    app.scopes.clear()
    for _ in range(2):
        assert not is_known(client, asked)
        client = Client(app, client.heads)
        assert await client.send(asked) == await Client(fresh).send(asked)
    assert [scope["headers"] for scope in app.scopes] == [scope["headers"] for scope in fresh.scopes]


async def test_a_head_is_known_however_its_body_came_the_first_time() -> None:
    client = Client(App())
    asked = post(b"body")
    await client.send(asked[:-1])
    await client.send(asked[-1:])
    assert not is_known(client, asked)
    await client.send(asked)
    assert is_known(client, asked)


@pytest.mark.parametrize("length", [0, 3])
async def test_a_head_without_an_end_is_no_head(length: int) -> None:
    heads = Heads()
    heads.learn(b"GET", SCOPE, length)
    assert heads.find(b"GET") is None


async def test_the_heads_that_came_first_are_forgotten_first() -> None:
    heads = Heads()
    for number in range(MOST + 1):
        heads.learn(b"GET /%d\r\n\r\n" % number, SCOPE, 0)
    assert heads.find(b"GET /0\r\n\r\n") is None
    assert all(heads.find(b"GET /%d\r\n\r\n" % number) for number in range(1, MOST + 1))


async def test_who_sends_a_known_head_may_be_silent_while_it_is_answered() -> None:
    answered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answered.wait()
        await App()(scope, receive, send)

    client = Client(app)
    for _ in range(2):
        answered.clear()
        await client.send(GET)
        assert not client.pass_s(1000.0)
        answered.set()
        assert await client.send(b"") == ok(b"")


def test_a_server_that_knows_no_heads_has_each_read_anew() -> None:
    scope: dict[str, Any] = {"method": "GET", "path": "/", "headers": [(b"accept", b"a")], "extensions": None}
    assert head_of(scope) is not head_of(scope)
    scope["extensions"] = {KEPT: {}}
    assert head_of(scope) is head_of(scope)
