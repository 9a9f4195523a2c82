"""HTTP/1.1 of the client: requests as bytes, and answers out of bytes, however they are cut."""

import pytest

from zizq import ConfigError
from zizq.client.call import Request, Response
from zizq.client.http import MAX_HEAD, Answer, Broken, Requests
from zizq.client.settings import check_settings

WHOLE = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"


def requests(url="http://h:7890", token=None):
    return Requests(check_settings(url, None, 1, 1, 1, token))


def fed(*pieces):
    answer = Answer()
    answer.begin()
    for piece in pieces:
        answer.feed(piece)
    return answer


def test_a_request_has_its_headers_and_its_body():
    sent = requests().write(Request("POST", "/jobs", {"accept": "a/b", "content-type": "c/d"}, b"body"))
    assert sent == (
        b"POST /jobs HTTP/1.1\r\nhost: h:7890\r\nuser-agent: zizq-python\r\naccept: a/b\r\ncontent-type: c/d\r\n"
        b"content-length: 4\r\n\r\nbody"
    )


def test_a_request_without_a_body_says_so_where_there_might_be_one():
    written = requests().write
    assert written(Request("GET", "/health", {})).endswith(b"zizq-python\r\n\r\n")
    assert written(Request("POST", "/reset", {})).endswith(b"zizq-python\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://h", b"GET /x ", b"host: h\r\n"),
        ("https://h", b"GET /x ", b"host: h\r\n"),
        ("https://h:80/a b/", None, None),
        ("http://h:443/é", b"GET /%C3%A9/x ", b"host: h:443\r\n"),
        ("http://h/%41/b", b"GET /%41/b/x ", b"host: h\r\n"),
        ("http://[::1]:1", b"GET /x ", b"host: [::1]:1\r\n"),
        ("http://bücher.example", b"GET /x ", b"host: xn--bcher-kva.example\r\n"),
    ],
)
def test_a_request_names_the_host_and_the_whole_path(url, line, host):
    if line is None:
        with pytest.raises(ConfigError):
            requests(url)
        return
    sent = requests(url).write(Request("GET", "/x", {}))
    assert sent.startswith(line)
    assert host in sent


def test_a_token_goes_with_every_request_and_is_not_shown():
    written = requests(token="zq_secret")
    assert b"authorization: Bearer zq_secret\r\n" in written.write(Request("GET", "/x", {}))
    assert "zq_secret" not in repr(written)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb: c", "a\rb", "a\0b"])
def test_a_header_of_two_lines_is_not_sent(value):
    with pytest.raises(ConfigError, match="more than one line"):
        requests().write(Request("GET", "/x", {"worker-id": value}))


@pytest.mark.parametrize("whole", [WHOLE, CHUNKED])
def test_an_answer_may_come_cut_anywhere(whole):
    expected = fed(whole).whole()
    assert expected.body in (b"{}", b"abcde")
    for cut in range(1, len(whole)):
        answer = fed(whole[:cut])
        assert not answer.is_complete
        answer.feed(whole[cut:])
        assert answer.is_complete
        assert answer.whole() == expected
    assert fed(*(whole[at : at + 1] for at in range(len(whole)))).whole() == expected


def test_the_names_of_headers_may_be_in_any_case():
    answer = fed(WHOLE.replace(b"Content-Type", b"CONTENT-TYPE"))
    assert answer.whole() == Response(201, "application/json", b"{}", None)


def test_several_answers_follow_one_another():
    answer = fed(WHOLE)
    assert not answer.is_last
    answer.begin()
    answer.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert answer.is_complete
    assert answer.whole() == Response(204, None, b"", None)
    assert not answer.is_last


def test_headers_behind_a_body_are_none_of_the_next_answer():
    answer = fed(CHUNKED[:-2] + b"content-type: a/b\r\nretry-after: 5\r\n\r\n")
    assert answer.whole() == Response(200, None, b"abcde", None)
    answer.begin()
    answer.feed(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n")
    assert answer.whole() == Response(429, None, b"", None)


def test_what_only_informs_is_no_answer():
    answer = fed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
    assert not answer.has_head
    answer.feed(WHOLE)
    assert answer.whole().status == 201


def test_a_stream_is_read_as_it_comes():
    answer = fed(CHUNKED[:-13])
    assert answer.has_head
    assert (answer.held, answer.take(), answer.take()) == (3, b"abc", b"")
    answer.feed(CHUNKED[-13:])
    assert answer.take() == b"de"
    assert answer.is_complete


def test_a_body_without_a_length_ends_with_the_connection():
    answer = fed(b"HTTP/1.1 502 Bad Gateway\r\n\r\noops")
    assert not answer.is_complete
    answer.finish()
    assert answer.whole() == Response(502, None, b"oops", None)
    assert answer.is_last


@pytest.mark.parametrize(
    "whole",
    [
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WHOLE.replace(b"content-length", b"connection: close\r\ncontent-length"),
        WHOLE + b"HTTP/1.1 200 OK\r\n",
        WHOLE + b"?",
    ],
)
def test_nothing_is_asked_any_more_of_a_connection_that_ends_or_says_too_much(whole):
    answer = fed(whole)
    assert answer.whole().body == b"{}"
    assert answer.is_last


def test_bytes_that_come_unasked_make_it_the_last_answer():
    answer = Answer()
    answer.feed(WHOLE)
    assert answer.is_last


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"hello\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "no HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "switch of protocols"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD, "more than 65536 bytes"),
    ],
)
def test_what_is_no_answer_is_refused(said, told):
    with pytest.raises(Broken, match=told):
        fed(said)


@pytest.mark.parametrize(
    ("part", "told"), [(b"", "before"), (WHOLE[:30], "before"), (WHOLE[:-1], "inside"), (CHUNKED[:-2], "inside")]
)
def test_an_answer_that_is_not_whole_is_refused(part, told):
    with pytest.raises(Broken, match=told):
        fed(part).finish()


@pytest.mark.parametrize(
    "behind",
    [b"HTTP/1.1 500 Oh\r\ncontent-length: 1\r\n\r\nz", b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, b"rubbish"],
)
def test_what_comes_behind_a_whole_answer_changes_nothing_of_it(behind):
    answer = fed(WHOLE + behind)
    assert answer.is_complete
    assert answer.is_last
    assert answer.whole() == Response(201, "application/json", b"{}", None)
