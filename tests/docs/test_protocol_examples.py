"""Replays every example of docs/protocol.md against a live server, byte for byte.

An example is a request and, after an empty line, its response; a fenced block holds one or more. `<name>` stands for a
text: the first response that has it fixes it, for the rest of its section; "…" stands for anything. A comment
`<!-- given: ... -->` before an example names what is there already. Each section has a server of its own.
"""

import re
from pathlib import Path

import pytest

from wire.talk import FIRST_ID, MSGPACK, STREAM, serving
from zizq.wire.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/protocol.md").read_text()
HEADING = re.compile(r"^#{2,4} (.+)$", re.MULTILINE)
PART = re.compile(r"^```http\n(?P<block>.*?)^```$|^<!-- given: (?P<given>.+?) -->$", re.MULTILINE | re.DOTALL)
MAIL = {"type": "mail", "queue": "q", "payload": {"to": "a@b"}}

DAILY = {"type": "report", "queue": "q", "payload": {"kind": "daily"}}
CRON = {
    "timezone": "Europe/London",
    "entries": [{"name": "daily", "expression": "0 9 * * MON-FRI", "job": DAILY}],
}


def sections():
    """The headings, and the text under each."""
    _, *parts = HEADING.split(TEXT)
    return dict(zip(parts[::2], parts[1::2], strict=True))


SECTIONS = sections()
WITH_EXAMPLES = [heading for heading, text in SECTIONS.items() if "```http" in text]


class Message:
    """A request or response as it stands on the page, with what is known filled in."""

    def __init__(self, block, known):
        for name, value in known.items():
            block = block.replace(f"<{name}>", value)
        head, _, body = block.partition("\n\n")
        self.first, *lines = head.rstrip("\n").split("\n")
        self.headers = dict(line.split(": ", 1) for line in lines)
        form = self.headers.get("content-type", "")
        if form in (MSGPACK, STREAM):
            self.body = bytes.fromhex(body)
        else:
            # The line break before the closing fence is the page's, but for lines of a stream.
            self.body = (body if form == "application/x-ndjson" else body.removesuffix("\n")).encode()


async def prepare(server, given, known):
    """Bring about what an example takes as given."""
    if given == "a cron":
        await server.put("/crons/reports", CRON)
        return
    known["id"] = await server.enqueue(**MAIL)
    assert known["id"] == FIRST_ID
    if given == "ready":
        return
    stream = await server.take()
    await stream.job()
    for _ in range({"in flight": 0, "failed twice": 2, "dead": 0}[given]):
        await server.fail(known["id"], error_type="E", retry_at=0)
        await stream.job()
    if given == "dead":
        await server.fail(known["id"], kill=True)


def headers_of(message):
    return {name.replace("-", "_"): value for name, value in message.headers.items()}


async def exchange(server, request):
    """Send the request of an example; a stream comes with its first bytes, as many as the page shows."""
    method, target = request.first.split(" ")
    if target.startswith("/jobs/take"):
        return await (await server.connect()).stream(target, **headers_of(request))
    return await server.ask(method, target, request.body or None, **headers_of(request))


def learn(expected, actual, known):
    """Hold a body to the page, and note what its placeholders stand for."""
    pattern = re.sub(rb"<([a-z]+)>", rb"(?P<\1>[^\"]+)", re.escape(expected)).replace("…".encode(), b".*")
    match = re.fullmatch(pattern, actual)
    assert match, f"{actual!r} is not {expected!r}"
    known.update({name: value.decode() for name, value in match.groupdict().items()})


def examples(block):
    """The examples in a fenced block; none where there is no block."""
    return [one.removesuffix("\n") + "\n" for one in re.split(r"\n\n(?=[A-Z]+ /)", block)] if block else []


async def replay(server, example, known):
    """One example."""
    asked, answered = example.split("\n\nHTTP/1.1 ")
    reply = await exchange(server, Message(asked + "\n", known))
    response = Message(answered, known)
    head = getattr(reply, "head", reply)
    body = await reply.read(len(response.body)) if hasattr(reply, "head") else reply.body
    assert response.first.split(" ")[0] == str(head.status)
    assert response.headers.items() <= head.headers.items()
    learn(response.body, body, known)


@pytest.mark.parametrize("heading", WITH_EXAMPLES)
async def test_the_examples_of_a_section_are_true(heading):
    known = {}
    async with serving() as server:
        await server.connect()
        for part in PART.finditer(SECTIONS[heading]):
            if part["given"]:
                await prepare(server, part["given"], known)
            for example in examples(part["block"]):
                await replay(server, example, known)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_call_has_a_section_with_an_example(operation):
    [text] = [text for heading, text in SECTIONS.items() if f"`{operation.method} {operation.path}`" in heading]
    first = re.escape(operation.path).replace(r"\{id\}", "<id>").replace(r"\{attempt\}", "[0-9]+")
    first = re.sub(r"\\\{(group|entry|key|queue)\\\}", "[a-z]+", first)
    assert re.search(rf"^(```http)?\n{operation.method} {first}(\?.*)?$", text, re.MULTILINE)


def test_no_section_is_of_a_call_that_is_not_there():
    named = {name for heading in SECTIONS for name in re.findall(r"`([A-Z]+ /.*?)`", heading)}
    assert named == {f"{operation.method} {operation.path}" for operation in OPERATIONS}


def test_each_section_that_the_code_cites_is_there():
    numbers = {heading.split(" ")[0].rstrip(".") for heading in SECTIONS}
    for path in sorted((ROOT / "src").rglob("*.py")):
        cited = set(re.findall(r"protocol\.md#(\d+(?:\.\d+)*)", path.read_text()))
        assert cited <= numbers, path


def test_each_link_inside_the_page_leads_somewhere():
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in SECTIONS}
    assert set(re.findall(r"\]\(#(.+?)\)", TEXT)) <= anchors
