"""Lists and counts of jobs: filters, pages and the links between them."""

import asyncio
from urllib.parse import quote

import msgspec
import pytest

from wire.talk import FIRST_ID, JSON, MSGPACK, NOW, pack, serving
from wire.talk2 import http2
from zizq.server.http.exchange import PIECE
from zizq.wire import paging

FORMS = [JSON, MSGPACK]
ONE_AT_A_TIME = {"allocation": 1, "strategy": {"type": "while_in_flight"}}
HOSTILE = ["a&b=c", "a#b", "100%", "a+b c", "a/b;c", "ü 🗑", '"']


async def some_jobs(server) -> dict[str, str]:
    """A job in each status, by its status."""
    stream = await server.take("?prefetch=9&queue=q,c")
    ids = {
        "in_flight": await server.enqueue(payload={"n": 1}),
        "completed": await server.enqueue(queue="c", type="x", payload={"n": 2}, retention={"completed_ms": 99}),
        "dead": await server.enqueue(payload={"n": 3}, retention={"dead_ms": 99}),
        "scheduled": await server.enqueue(payload={"n": 4}, ready_at=NOW + 50, priority=7),
        "ready": await server.enqueue(queue="r", payload={"n": 5}, priority=9),
    }
    await stream.jobs(3)
    await server.ask("POST", f"/jobs/{ids['completed']}/success")
    await server.fail(ids["dead"], kill=True)
    await server.fail(ids["in_flight"], retry_at=0)
    await stream.job()
    return ids


async def listed(server, query: str = "") -> list[str]:
    """The identifiers that a list shows; the count must be the same."""
    reply = await server.ask("GET", f"/jobs?limit=2000&{query}")
    assert reply.status == 200, reply
    ids = [job["id"] for job in reply.value["jobs"]]
    assert (await server.ask("GET", f"/jobs/count?{query}")).value == {"count": len(ids)}
    return ids


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [0, 1, 15, 16, 50])
async def test_a_page_shows_jobs_with_their_payloads_as_get_does(form, count):
    async with serving() as server:
        ids = [await server.enqueue(payload={"b": n, "a": [None]}, retention={}) for n in range(count)]
        page = await server.ask("GET", "/jobs", accept=form)
        single = [(await server.ask("GET", f"/jobs/{job_id}", accept=form)).value for job_id in ids]
    assert (page.status, page.headers["content-type"]) == (200, form)
    assert page.value == {
        "jobs": single,
        "pages": {"self": "/jobs?order=asc&limit=50", "next": None, "prev": None},
    }
    assert list(page.value["pages"]) == ["self", "next", "prev"]


async def test_a_page_is_byte_for_byte_what_is_written_down():
    async with serving() as server:
        await server.enqueue(payload={"b": 1, "a": None})
        as_json = await server.ask("GET", "/jobs?")
        as_msgpack = await server.ask("GET", "/jobs", accept=MSGPACK)
    assert as_json.body.decode() == (
        f'{{"jobs":[{{"id":"{FIRST_ID}","type":"t","queue":"q","priority":32768,"status":"ready",'
        f'"payload":{{"a":null,"b":1}},"ready_at":{NOW},"attempts":0}}],'
        '"pages":{"self":"/jobs?order=asc&limit=50","next":null,"prev":null}}'
    )
    assert as_msgpack.body.startswith(b"\x82\xa4jobs\x91")
    assert as_msgpack.body.endswith(pack("pages") + pack(as_json.value["pages"]))


async def test_a_long_page_comes_whole_in_both_formats():
    async with serving() as server:
        jobs = [{"type": "t", "queue": "q", "payload": "x" * 5000}] * 60
        await server.post("/jobs/bulk", {"jobs": jobs})
        as_json, as_msgpack = [await server.ask("GET", "/jobs?limit=2000", accept=form) for form in FORMS]
    assert len(as_json.body) > 300_000
    assert as_json.value == as_msgpack.value
    assert [job["payload"] for job in as_json.value["jobs"]] == ["x" * 5000] * 60


async def test_a_long_page_comes_whole_over_http2_too():
    async with serving() as server:
        await server.post("/jobs/bulk", {"jobs": [{"type": "t", "queue": "q", "payload": "x" * 5000}] * 60})
        async with http2(server) as connection:
            page = await connection.ask("GET", "/jobs?limit=2000")
            head = await connection.ask("HEAD", "/jobs?limit=2000")
    assert len(page.value["jobs"]) == 60
    assert (head.headers["content-length"], head.body) == (str(len(page.body)), b"")


@pytest.mark.parametrize("form", FORMS)
async def test_a_payload_of_msgpack_is_shown_byte_for_byte_on_a_page_in_msgpack(form):
    payload = b"\x82\xa1b\x01\xa1b\x02"
    async with serving() as server:
        body = b"\x83\xa4type\xa1t\xa5queue\xa1q\xa7payload" + payload
        await server.ask("POST", "/jobs", body, content_type=MSGPACK)
        page = (await server.ask("GET", "/jobs", accept=form)).body
    assert (b"\xa7payload" + payload if form == MSGPACK else b'"payload":{"b":2}') in page


async def test_head_of_a_list_has_its_length_and_no_body():
    async with serving() as server:
        await server.enqueue(payload="x" * 100_000)
        await server.enqueue()
        head, get = [await server.ask(method, "/jobs") for method in ("HEAD", "GET")]
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))


@pytest.mark.parametrize(
    ("query", "numbers", "own", "after", "before"),
    [
        ("", [0, 1, 2, 3, 4], "order=asc&limit=50", None, None),
        ("from=&order=&limit=", [0, 1, 2, 3, 4], "order=asc&limit=50", None, None),
        ("limit=5", [0, 1, 2, 3, 4], "order=asc&limit=5", None, None),
        ("limit=2", [0, 1], "order=asc&limit=2", "from={1}&order=asc&limit=2", None),
        ("limit=2&order=desc", [4, 3], "order=desc&limit=2", "from={3}&order=desc&limit=2", None),
        (
            "limit=2&from={1}",
            [2, 3],
            "from={1}&order=asc&limit=2",
            "from={3}&order=asc&limit=2",
            "from={2}&order=desc&limit=2",
        ),
        (
            "from={1}&order=desc",
            [0],
            "from={1}&order=desc&limit=50",
            None,
            "from={0}&order=asc&limit=50",
        ),
        ("from={4}", [], "from={4}&order=asc&limit=50", None, None),
        ("from=0", [0, 1, 2, 3, 4], "from=0&order=asc&limit=50", None, "from={0}&order=desc&limit=50"),
        ("from=zz%20%26", [], "from=zz%20%26&order=asc&limit=50", None, None),
        ("from=%C3%BC&order=desc&limit=1", [4], "from=%C3%BC&order=desc&limit=1", "from={4}&order=desc&limit=1",
         "from={4}&order=asc&limit=1"),
    ],
)  # fmt: skip
async def test_jobs_come_in_pages_by_identifier_with_links(query, numbers, own, after, before):
    async with serving() as server:
        # Priority plays no part.
        ids = [await server.enqueue(payload=n, priority=9 - n) for n in range(5)]
        page = (await server.ask("GET", f"/jobs?{query.format(*ids)}")).value
    assert [job["payload"] for job in page["jobs"]] == numbers
    links = {"self": own, "next": after, "prev": before}
    assert page["pages"] == {name: link and f"/jobs?{link.format(*ids)}" for name, link in links.items()}


async def test_a_list_is_walked_by_its_links_and_back_again_in_reverse():
    async with serving() as server:
        ids = [await server.enqueue(queue=f"a&{n % 2}") for n in range(10)]
        target, seen = f"/jobs?limit=2&queue={quote('a&1')}", []
        while target:
            page = (await server.ask("GET", target)).value
            seen += [job["id"] for job in page["jobs"]]
            target = page["pages"]["next"]
        assert seen == ids[1::2]
        target, seen = page["pages"]["prev"], []
        while target:
            page = (await server.ask("GET", target)).value
            seen += [job["id"] for job in page["jobs"]]
            target = page["pages"]["next"]
    assert seen == ids[7::-2]


async def test_what_comes_in_between_does_not_upset_the_links():
    async with serving() as server:
        ids = [await server.enqueue() for _ in range(4)]
        page = (await server.ask("GET", "/jobs?limit=2")).value
        await server.ask("DELETE", f"/jobs/{ids[1]}")
        late = await server.enqueue()
        following = (await server.ask("GET", page["pages"]["next"])).value
        assert [job["id"] for job in following["jobs"]] == ids[2:]
        assert [job["id"] for job in (await server.ask("GET", following["pages"]["next"])).value["jobs"]] == [late]


async def test_a_link_carries_the_whole_filter_in_a_fixed_order():
    async with serving() as server:
        await server.put("/budgets/k%26", ONE_AT_A_TIME)
        ids = [await server.enqueue(payload={"a": "x&y"}, budgets=[{"key": "k&"}]) for _ in range(3)]
        query = (
            f"filter=.a%3D%3D%22x%26y%22&budgets.key=l,,k%26&attempts=..&ready_at=5..&priority=3..40000&id={ids[2]},{ids[1]},,{ids[0]}"
            "&type=u,t&queue=q,b,a&status=dead,ready,scheduled&limit=1"
        )
        page = (await server.ask("GET", f"/jobs?{query}")).value
    assert page["pages"]["self"] == (
        "/jobs?order=asc&limit=1&status=scheduled,ready,dead&queue=a,b,q&type=t,u&id=" + ",".join(ids)
        + "&priority=3..40000&ready_at=5..&attempts=..4294967295&budgets.key=k%26,l&filter=.a%3D%3D%22x%26y%22"
    )  # fmt: skip
    assert page["pages"]["next"] == page["pages"]["self"].replace("?", f"?from={ids[0]}&")


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_link_finds_the_same_jobs_whatever_their_names_are_made_of(name):
    async with serving() as server:
        ids = [await server.enqueue(queue=name, type=name) for _ in range(3)]
        await server.enqueue()
        page = (await server.ask("GET", f"/jobs?limit=2&queue={quote(name)}&type={quote(name)}")).value
        assert [job["id"] for job in page["jobs"]] == ids[:2]
        last = (await server.ask("GET", page["pages"]["next"])).value
        assert [job["id"] for job in last["jobs"]] == ids[2:]
        assert (await server.ask("GET", last["pages"]["self"])).value == last


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "in_flight completed dead scheduled ready"),
        ("status=ready", "ready"),
        ("status=in_flight", "in_flight"),
        ("status=completed,dead", "completed dead"),
        ("status=scheduled,,ready,", "scheduled ready"),
        ("status=,", "in_flight completed dead scheduled ready"),
        ("queue=c", "completed"),
        ("queue=c,q&type=x", "completed"),
        ("queue=nowhere", ""),
        ("queue=&type=&id=", "in_flight completed dead scheduled ready"),
        ("type=t&status=dead,completed", "dead"),
        ("id={dead},{ready}", "dead ready"),
        ("id={dead}&status=ready", ""),
        ("id=" + "0" * 25, ""),
        ("priority=7", "scheduled"),
        ("priority=7..9", "scheduled ready"),
        ("priority=..8", "scheduled"),
        ("priority=9..", "in_flight completed dead ready"),
        ("priority=..", "in_flight completed dead scheduled ready"),
        ("priority=", "in_flight completed dead scheduled ready"),
        ("attempts=1..", "in_flight dead"),
        ("attempts=0..0", "completed scheduled ready"),
        (f"ready_at={NOW + 1}..", "scheduled"),
        (f"ready_at=..{2**64 - 1}&status=scheduled", "scheduled"),
        ("filter=.n%20%3E%203", "scheduled ready"),
        ("filter=.n%20%3E%203&status=ready", "ready"),
        ("filter=.missing", ""),
        ("filter=.n%20-%201%20%7C%20error", ""),
    ],
)
async def test_conditions_must_all_hold_and_values_of_one_are_alternatives(query, found):
    async with serving() as server:
        ids = await some_jobs(server)
        assert await listed(server, query.format(**ids)) == [ids[name] for name in found.split()]


async def test_a_time_beyond_all_that_is_stored_means_the_end_of_time():
    async with serving() as server:
        job_id = await server.enqueue(ready_at=2**64 - 1)
        await server.enqueue()
        for query in (f"ready_at={2**64 - 1}", f"ready_at={2**63}..", f"ready_at={2**63 - 1}"):
            assert await listed(server, query) == [job_id]


async def test_a_job_past_its_retention_is_neither_listed_nor_counted():
    async with serving() as server:
        ids = await some_jobs(server)
        server.clock.advance(99)
        assert await listed(server) == [ids["in_flight"], ids["scheduled"], ids["ready"]]
        assert await listed(server, "status=dead,completed") == []
        assert await listed(server, f"id={ids['dead']}&filter=true") == []


@pytest.mark.parametrize("target", ["/jobs", "/jobs/count"])
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("id=x", 'invalid job ID: "x"'),
        (f"id={'0' * 25},{'A' * 25}", f'invalid job ID: "{"A" * 25}"'),
        (f"id={'0' * 25}%0A", 'invalid job ID: "'),
        ("status=Ready", "invalid query parameters: unknown status: Ready"),
        ("priority=65536", "invalid query parameters: priority '65536' is neither"),
        ("priority=-1", "invalid query parameters: priority '-1' is neither"),
        ("priority=1...2", "invalid query parameters: priority '1...2' is neither"),
        ("priority=a..b", "invalid query parameters: priority 'a..b' is neither"),
        ("priority=1.5", "invalid query parameters: priority '1.5' is neither"),
        ("priority=%D9%A1", "invalid query parameters: priority '\u0661' is neither"),
        ("priority=9..1", "invalid query parameters: priority '9..1': range lower bound exceeds upper bound"),
        (f"ready_at={2**64}", f"invalid query parameters: ready_at '{2**64}' is neither"),
        (f"ready_at=1..{'9' * 5000}", "invalid query parameters: ready_at '1..9"),
        (f"attempts={2**32}..", f"invalid query parameters: attempts '{2**32}..' is neither"),
        ("budgets=k", "invalid query parameters: unknown field `budgets`"),
        ("color=red", "invalid query parameters: unknown field `color`"),
        ("status=ready&status=dead", "invalid query parameters: duplicate field `status`"),
        ("filter=", "invalid filter: the expression is empty"),
        ("filter=%20", "invalid filter: the expression is empty"),
        ("filter=.a%20%7C", "invalid filter: "),
        ("filter=nosuch(1)", "invalid filter: "),
    ],
)
async def test_a_filter_that_is_wrong_is_400(target, query, text):
    async with serving() as server:
        status, said = (await server.ask("GET", f"{target}?{query}")).error
    assert (status, said[: len(text)]) == (400, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("limit=0", "limit must be between 1 and 2000"),
        ("limit=2001", "limit must be between 1 and 2000"),
        ("limit=65536", "invalid query parameters: limit '65536' is not a whole number up to 65535"),
        ("limit=some", "invalid query parameters: limit 'some' is not a whole number up to 65535"),
        ("order=DESC", "invalid query parameters: order 'DESC' is neither asc nor desc"),
    ],
)
async def test_a_page_that_is_wrong_is_400(query, text):
    async with serving() as server:
        assert (await server.ask("GET", f"/jobs?{query}")).error == (400, text)


@pytest.mark.parametrize("name", ["from", "order", "limit"])
async def test_a_count_has_no_pages(name):
    async with serving() as server:
        status, text = (await server.ask("GET", f"/jobs/count?{name}=")).error
    assert (status, text.partition(",")[0]) == (400, f"invalid query parameters: unknown field `{name}`")


async def test_a_count_is_msgpack_for_who_accepts_it():
    async with serving() as server:
        await server.enqueue()
        reply = await server.ask("GET", "/jobs/count", accept=MSGPACK)
    assert (reply.headers["content-type"], reply.body) == (MSGPACK, pack({"count": 1}))


async def test_others_have_their_turn_while_a_long_page_is_made():
    async with serving() as server:
        jobs = [{"type": "t", "queue": "q", "payload": ["x"] * 1000}] * 500
        await server.post("/jobs/bulk", {"jobs": jobs})
        turns, sent = 0, []

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/jobs", "query_string": b"limit=2000", "headers": []}
        busy = asyncio.create_task(others())
        await server.app.asgi(scope, None, send)
        busy.cancel()
    bytes_sent = sum(len(message.get("body", b"")) for message in sent)
    assert turns >= bytes_sent // (paging.PIECE_BYTES + len(msgspec.json.encode(jobs[0])) + 300) > 20
    assert max(len(message.get("body", b"")) for message in sent) <= PIECE
