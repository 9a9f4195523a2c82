"""Whatever is mixed of the words of jq, a filter says yes or no or is refused, and the next one is answered."""

from __future__ import annotations

import random
from contextlib import suppress

import msgspec

from unit.server.processes import some_jq
from zizq.errors import BadRequest, Unprocessable

WORDS = (
    ".", ".a", ".[]", "[.]", "{a:.}", "|", ",", ";", "(", ")", "[", "]", "{", "}", "+", "*", "/", "//", "==",
    "and", "not", "null", "1e999", "\"x\"", "\"\\(.)\"", "$__loc__", "$ENV", "env", "input", "inputs", "halt",
    "halt_error", "debug", "stderr", "input_filename", "import", "include", "limit(3;repeat(.))", "repeat(.)",
    "recurse", "recurse(.+1)", "def", "f:", "f;", "f", "range(1e9)", "[range(1e7)]", "until(false;.)",
    "while(true;.)", "label", "$out", "break", "$out", "try", "error", "catch", "reduce", "foreach", "as", "$x",
    "..", "..|..", "test(\"(a+)+$\")", "splits(\"a\")", "@base64d", "@sh", "fromjson", "tojson", "getpath([])",
    "path(..)", "paths", "ltrimstr(1)", "implode", "infinite", "nan", "tostring*1000000", "getpath([\"a\",0])",
    "input_line_number", "modulemeta", "get_search_list", "$x", "?", "?//", "#", "\\", "\u0000", "ü",
)  # fmt: skip
PAYLOADS = [msgspec.msgpack.encode(value) for value in (None, "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!", {"a": [1, {"b": 2}]})]


async def test_any_mix_of_words_is_judged_or_refused_and_harms_no_other() -> None:
    dice = random.Random(11)
    outcomes = set()
    async with some_jq(timeout_ms=100) as jq:
        for _ in range(500):
            mix = dice.choice((" ", "", "|", ",")).join(dice.choices(WORDS, k=dice.randint(1, 5)))
            try:
                assert len(await jq.matches(mix, PAYLOADS)) == len(PAYLOADS), mix
                outcomes.add("judged")
            except BadRequest:
                outcomes.add("refused")
            with suppress(Unprocessable):
                await jq.check_batch(mix, "$new", PAYLOADS[0])
        assert await jq.matches(".a", PAYLOADS[2:]) == [True]
    assert outcomes == {"judged", "refused"}
