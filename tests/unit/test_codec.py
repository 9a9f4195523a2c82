import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zizq.errors import BadRequest, DecodeError, NotAcceptable, UnsupportedMedia
from zizq.wire.codec import (
    MAX_DEPTH,
    USUAL_DEPTH,
    Body,
    Format,
    encode,
    payload_to_send,
    payload_to_store,
    payloads_to_store,
    read_payload,
    request_format,
    response_format,
)

pack = msgspec.msgpack.encode
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_a_payload_is_the_same_value_whichever_format_brings_it(value):
    from_json = payload_to_store(msgspec.Raw(msgspec.json.encode(value)), Format.JSON)
    from_pack = payload_to_store(msgspec.Raw(pack(value)), Format.MSGPACK)
    assert read_payload(from_json, Format.MSGPACK) == read_payload(from_pack, Format.MSGPACK) == value


@given(plain)
def test_a_stored_payload_is_sent_as_the_same_value_in_both_formats(value):
    stored = msgspec.Raw(pack(value))
    for form in Format:
        assert read_payload(payload_to_send(stored, form), form) == value


def test_a_payload_in_json_is_stored_with_sorted_keys_and_the_last_of_a_double_key():
    stored = payload_to_store(msgspec.Raw(b'{"b":1,"a":2,"b":3}'), Format.JSON)
    assert bytes(stored) == pack({"a": 2, "b": 3})


def test_integers_beyond_64_bits_become_floats():
    stored = payload_to_store(msgspec.Raw(b'[18446744073709551616, {"a": -9223372036854775809}]'), Format.JSON)
    assert read_payload(stored, Format.MSGPACK) == [2.0**64, {"a": -(2.0**63)}]


@pytest.mark.parametrize(
    "value", [b"bin", [b"bin"], {"a": {"b": b"bin"}}, {1: "x"}, msgspec.msgpack.Ext(5, b"x"), {"a": [[{2: 3}]]}]
)
def test_a_payload_that_json_cannot_say_is_refused(value):
    with pytest.raises(BadRequest, match="invalid MessagePack"):
        payload_to_store(msgspec.Raw(pack(value)), Format.MSGPACK)


@pytest.mark.parametrize("depth", [USUAL_DEPTH, USUAL_DEPTH + 1, MAX_DEPTH])
def test_a_payload_is_held_to_the_same_rules_however_deep_it_is(depth):
    def nested(depth, inner):
        return {"a": [nested(depth - 2, inner)]} if depth > 1 else [inner] if depth else inner

    stored = payload_to_store(msgspec.Raw(pack(nested(depth, "x"))), Format.MSGPACK)
    assert read_payload(stored, Format.MSGPACK) == nested(depth, "x")
    for wrong, told in ((b"bin", "holds bytes"), ({1: 2}, "map key 1 in payload")):
        with pytest.raises(BadRequest, match=told):
            payload_to_store(msgspec.Raw(pack(nested(depth - 1, wrong))), Format.MSGPACK)


@given(st.lists(plain, max_size=5))
def test_payloads_are_stored_together_as_they_are_one_by_one(values):
    deep = values
    for _ in range(USUAL_DEPTH):
        deep = [deep]
    for form, encoded in ((Format.JSON, msgspec.json.encode), (Format.MSGPACK, pack)):
        raws = [msgspec.Raw(encoded(value)) for value in (*values, deep)]
        for some in (raws[:-1], raws):
            assert payloads_to_store(some, form) == [payload_to_store(raw, form) for raw in some]


@pytest.mark.parametrize("wrong", [pack(b"bin"), pack({1: 2}), b"\xc1", b"", b"\xa1\xff"])
def test_one_payload_that_is_wrong_is_refused_among_others(wrong):
    with pytest.raises(BadRequest, match="invalid MessagePack"):
        payloads_to_store([msgspec.Raw(pack(1)), msgspec.Raw(wrong)], Format.MSGPACK)


def test_a_stored_payload_does_not_hold_on_to_the_request():
    request = pack([1, "x" * 1000])
    before = sys.getrefcount(request)
    stored = payloads_to_store(msgspec.msgpack.decode(request, type=list[msgspec.Raw]), Format.MSGPACK)
    assert len(stored) == 2
    assert sys.getrefcount(request) == before


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b'{"a":', b"\x91", b"[" * 5000 + b"]" * 5000])
def test_rubbish_is_refused_and_never_anything_else(form, rubbish):
    with pytest.raises(BadRequest):
        payload_to_store(msgspec.Raw(rubbish), form)
    with pytest.raises(DecodeError):
        read_payload(rubbish, form)


@pytest.mark.parametrize("form", Format)
def test_bytes_after_a_body_are_refused(form):
    body = Body(dict[str, int])
    assert body.read(encode({"a": 1}, form), form) == {"a": 1}
    with pytest.raises(BadRequest, match="invalid"):
        body.read(encode({"a": 1}, form) + b"\x01", form)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Format.JSON),
        ("*/*", Format.JSON),
        ("application/json", Format.JSON),
        ("application/json, application/msgpack", Format.MSGPACK),
    ],
)
def test_the_response_format_follows_the_accept_header(accept, form):
    assert response_format(accept) is form


@pytest.mark.parametrize("accept", ["", "application/*", "text/html", "application/vnd.zizq.msgpack-stream"])
def test_an_unknown_response_format_is_not_acceptable(accept):
    with pytest.raises(NotAcceptable):
        response_format(accept)


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        (None, Format.JSON),
        ("application/json; charset=utf-8", Format.JSON),
        ("application/msgpack", Format.MSGPACK),
        ("application/json, application/msgpack", Format.MSGPACK),
    ],
)
def test_the_request_format_follows_the_content_type(content_type, form):
    assert request_format(content_type) is form


def test_an_unknown_content_type_is_unsupported():
    with pytest.raises(UnsupportedMedia):
        request_format("text/plain")
