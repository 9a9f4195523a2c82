"""Keys computed from payloads: the same in every client that hashes the same text."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import jq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zizq.client.keys import Unique, canonical_text, hash_of, only, parse_path, path_text, without
from zizq.errors import ConfigError, EncodeError

MAIL = {"to": "test@test.com", "subject": "Example"}
OTHER_MAIL = {"to": "other@test.com", "subject": "Example"}
WELCOME = {"user_id": 42, "template": "welcome"}
CALL = {"args": [42], "kwargs": {"template": "welcome"}}
NAMES = {"args": ["Bill", "Ben"], "kwargs": {"example": 42}}

PUBLISHED = [
    ("trailing", WELCOME, "1f98104cc5a072ae84731379f5888c48c1886f7d58681e806cc9cca4d601f765"),
    ("trailing", {"a": None, "b": [1, None]}, "2d182bba594ddfd1512982de06a9dbc2f18286888b9e0ab9535fefffedc6a31d"),
    ("trailing", {"s": "héllo ✨"}, "cb040b4872cfd3ac08cfd019b16f7b07a12bd0f15ced13cf421fef35a4ed459a"),
    ("trailing", {"n": 1}, "8b50cec96a652e1772c4f3e2111029eda44fd4bbe94e831da9894fa1e0841682"),
    ("trailing", {"n": 1.0}, "2843917aeeb311590f66e884ed43eec87ba10134225d6d2ab5436df93c10b084"),
    ("trailing", MAIL, "3c6da81af475f0b1ddeac43095199334b3ebfaafff9a7e6794b4d4e38122c597"),
    ("trailing", OTHER_MAIL, "f702b3ff543464bb9bb1bc2e65734f6df07271baeca1a0452e67096ce71a86bb"),
    ("trailing", {"to": "test@test.com"}, "b5c4c35eeacf8bbf2034b0ed8b0e2f9ac3e7da66b79b543e9c6c124d90c371a3"),
    ("trailing", {"to": "other@test.com"}, "fadcd704b379aa47dffc6aadd7d77bfd2a74baa9c1ee9a11913df6f85faa4bd6"),
    ("compact", CALL, "eb28cc4280934762bacd3f603600949c984ff96efe48831313e2e94f7f64ada1"),
    ("compact", NAMES, "0b9ca7f07581994caa848878576fed30e09e7177611c01aeafe7113921090c29"),
    (
        "compact",
        NAMES | {"kwargs": {"example": 99}},
        "3be19cc482f366dcd538c22b8536d7947672071b8c8fb3a2486ebfd04b2216b6",
    ),
    ("compact", NAMES | {"kwargs": {}}, "bcd08012e829243d82e953a8140ffb58aeeb839e545ee1547a894bb2c9ba1b8f"),
]
"""What the documentation and the tests of the other clients say."""

NULL = "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b"
EMPTY = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
EMPTY_LIST = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
ALICE = "b595101af3afe93343acb7181bc1593573485685c06d714e9a9398b0207f8952"

BOTH = [
    (None, NULL, NULL),
    ({}, EMPTY, EMPTY),
    ([], EMPTY_LIST, EMPTY_LIST),
    ("alice@example.com", ALICE, ALICE),
    (
        WELCOME,
        "1f98104cc5a072ae84731379f5888c48c1886f7d58681e806cc9cca4d601f765",
        "edd4242ed0da170fb1bd26add0694531136d18dd76779eb46c399198b100eaac",
    ),
    (
        CALL,
        "067792025bbc86c00c7af08dc4a64b871a02d4c945f7a0d2917c70a2dffe18a9",
        "eb28cc4280934762bacd3f603600949c984ff96efe48831313e2e94f7f64ada1",
    ),
    (
        {"to": "x@y.z"},
        "cce1c97ae83a4adb47e2ceb10ea9bc9e1512f6e7f6b945003d81008ab9cafc38",
        "160477ca1d36675fc8828926bce2b465ef20db92bf7624db747b71513d839258",
    ),
    (
        {"n": 1},
        "8b50cec96a652e1772c4f3e2111029eda44fd4bbe94e831da9894fa1e0841682",
        "2bfd14f43d17fc7cea24e0917a8879b4b2f880b8baeec1b9d90fbaad655e71bd",
    ),
    (["user", 42], None, "4ef95a38636254fed70412e6db75e5ad2f1c20d94599f4f9fb27b72e8b95636e"),
    (
        {"user": {"id": 42}},
        "c37d8feb6424cd301fec7d15547344a17f10ebd33ac3af459c4c614a183beb09",
        "eb955cf79b650ebcf1a47ed6617158e4fbf3a3c8378877af185148e1349239b2",
    ),
    (
        {"platform": "apple", "tenant_id": 42},
        "30ab02de4b858afa81f9d63cbc3895c134bd24a8fb4153c1a21432cecf75b149",
        "3fc8290ffc8354f406b5f52205070e4c9d225adcf728cee46f754b46a298c42c",
    ),
    (
        [True, False, None],
        "e093aaf7cbd73157519520cf93457f7485b7b7fac42b135b4a829ecaaa25bdd7",
        "4d0f18de2133118249c26acc481838d4f6bb6bc1de882d99abbd19ae9397e8df",
    ),
    (
        {"a": [], "b": {}},
        "2707af2090f8bb815a876c0da104dba305b742fa699d7d6a601f24c99251e408",
        "9959f7ea5ff37e0cf81634a894845a335eb6e26fbad0877944e9bc009b4f0644",
    ),
    (
        {"x": 1.5},
        "16539d69856f4295efef7527937df51bf242af36cf0605f38773a2725a227a85",
        "461b06088af6528a5584517dd01a204856b291c4eead2bf678c9a6cc0e615623",
    ),
    (
        [None, "b"],
        "9d78669dbc4a8ed47100e1778fddcfe515f4d734187a79ca71d5f808171b97a0",
        "14dbd1d6c4fc745379b02f2fa87901abc949886d86a7991c933969c1bf4af20f",
    ),
]
"""What follows from the two forms: a value, its hash with trailing commas (or None), its compact one."""


# ── hashes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("canonical", "value", "hashed"), PUBLISHED)
def test_a_hash_is_that_of_the_other_clients(canonical, value, hashed):
    assert hash_of(value, canonical) == hashed


@pytest.mark.parametrize(("value", "trailing", "compact"), BOTH)
def test_a_hash_is_that_of_its_form(value, trailing, compact):
    assert hash_of(value, "compact") == compact
    assert trailing in (None, hash_of(value, "trailing"))


def test_members_are_sorted_and_nothing_is_spaced():
    assert canonical_text({"b": [3, 1, 2], "a": {"d": 4, "c": 3}}, "compact") == b'{"a":{"c":3,"d":4},"b":[3,1,2]}'
    assert canonical_text({"b": [3, 1, 2], "a": {}}, "trailing") == b'{"a":{},"b":[3,1,2,],}'


def test_members_beyond_the_basic_plane_are_sorted_by_code_points():
    assert hash_of({"｡": 1, "😀": 2}, "trailing").startswith("a51bd97a")


def trailing(value):
    """The form with trailing commas, as its definition says it."""
    if isinstance(value, dict):
        return "{" + "".join(f"{trailing(name)}:{trailing(value[name])}," for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + "".join(f"{trailing(item)}," for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


TEXTS = st.text(st.characters(codec="utf-8")) | st.text(list('[]{}",:\\\n\x01é'))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_both_forms_are_as_defined(value):
    compact = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert canonical_text(value, "compact") == compact.encode()
    assert canonical_text(value, "trailing") == trailing(value).encode()


def test_a_payload_that_is_nested_deeply_has_both_forms():
    value = []
    for _ in range(400):
        value = [value]
    assert canonical_text(value, "trailing") == b"[" * 401 + b"]" + b",]" * 400


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".", ()),
        (".to", ("to",)),
        (".a.b", ("a", "b")),
        ("._a1", ("_a1",)),
        (".a[0]", ("a", 0)),
        (".a[0][12].b", ("a", 0, 12, "b")),
        (".[0]", (0,)),
        ('.["any key"]', ("any key",)),
        ('.a["b.c"][0].d', ("a", "b.c", 0, "d")),
        ('.["]"].a', ("]", "a")),
        (r'.["a\"b\\c\d"]', ('a"b\\cd',)),
        ('.[""]', ("",)),
        ('.["é\n"]', ("é\n",)),
    ],
)
def test_a_path_is_read(text, path):
    assert parse_path("only", text) == path
    assert jq.compile(f"path({path_text(path)})").input_value(None).first() == list(path)


@pytest.mark.parametrize(
    "text",
    ["", "to", "..", ".to.", ".a..b", ".a b", ".1a", ".a[", ".a[]", ".a[-1]", ".a[1:2]", ".a.[0]", "[0]", '.["a]', ".é",
     '.["a"b"]', ".a | .b", ".a\n", ".[٣]", 5, None],
)  # fmt: skip
def test_what_is_no_path_is_refused_where_it_is_written(text):
    with pytest.raises(ConfigError, match=r"only: .* is no path: write one such as"):
        Unique(only=[text])


def test_a_path_is_written_as_jq_reads_it():
    assert path_text(()) == "."
    assert path_text((0, "a", 1, "b c", "d")) == '.[0].a[1]["b c"].d'
    assert path_text(("x\\(y",)) == '.["x\\\\(y"]'


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        ([".to"], {"to": "x"}),
        ([".to", ".user.id"], {"to": "x", "user": {"id": 1}}),
        ([".user.id", ".user"], {"user": {"id": 1, "name": "n"}}),
        ([".user", ".user.id"], {"user": {"id": 1, "name": "n"}}),
        ([".none"], {"none": None}),
        ([".none", ".none.x"], {"none": None}),
        ([".list[1]"], {"list": [None, {"b": 2}]}),
        ([".list[1].b", ".list[0]"], {"list": [{"a": 1}, {"b": 2}]}),
        ([".list[0].a", ".list[1].b"], {"list": [{"a": 1}, {"b": 2}]}),
        ([".missing", ".to.x", ".to[0]", ".list.a", ".list[2]", ".user[0]", ".none[0]"], {}),
    ],
)
def test_only_keeps_what_is_at_the_paths_as_it_was_nested(paths, kept):
    payload = {
        "to": "x",
        "user": {"id": 1, "name": "n"},
        "none": None,
        "list": [{"a": 1}, {"b": 2}],
    }
    assert only(payload, [parse_path("only", path) for path in paths]) == kept


def test_only_keeps_all_of_the_payload_where_one_path_is_a_dot():
    assert only({"a": 1, "b": 2}, [("a",), ()]) == {"a": 1, "b": 2}
    assert only([1, "b"], [(1,)]) == [None, "b"]
    assert only("text", [("a",)]) == {}


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        ([".a"], {"list": [1, 2, 3]}),
        ([".a.b"], {"a": {"c": 2}, "list": [1, 2, 3]}),
        ([".x", ".list.a", ".list[3]", ".a[0]", ".a.b.c", ".list[0][0]"], {"a": {"b": 1, "c": 2}, "list": [1, 2, 3]}),
        ([".list[0]", ".list[0]"], {"a": {"b": 1, "c": 2}, "list": [3]}),
        ([".", ".a"], None),
    ],
)
def test_without_drops_one_path_after_the_other(paths, left):
    value = {"a": {"b": 1, "c": 2}, "list": [1, 2, 3]}
    for path in paths:
        value = without(value, parse_path("exclude", path))
    assert value == left


# ── unique ───────────────────────────────────────────────────────────────────────────────────────────

X = "160477ca1d36675fc8828926bce2b465ef20db92bf7624db747b71513d839258"


@pytest.mark.parametrize(
    ("unique", "key"),
    [
        (Unique("the only one"), "the only one"),
        (Unique(lambda payload: f"to:{payload['to']}"), "to:x@y.z"),
        (Unique(only=".to"), f"send:{X}"),
        (Unique(only=[".to", ".missing"]), f"send:{X}"),
        (Unique(exclude={".n", ".s"}), f"send:{X}"),
        (Unique(only=".to", prefix=False), X),
        (Unique(only=".nothing"), f"send:{EMPTY}"),
        (Unique(exclude="."), f"send:{NULL}"),
        (
            Unique(only=".to", canonical="trailing"),
            "send:cce1c97ae83a4adb47e2ceb10ea9bc9e1512f6e7f6b945003d81008ab9cafc38",
        ),
    ],
)
def test_a_key_is_given_made_or_computed(unique, key):
    payload = {"to": "x@y.z", "n": 1, "s": [1]}
    assert unique.key_for("send", payload) == key
    assert payload == {"to": "x@y.z", "n": 1, "s": [1]}


def test_the_whole_payload_counts_unless_told_otherwise():
    assert Unique().key_for("t", WELCOME).removeprefix("t:") == BOTH[4][2]
    assert Unique().key_for("t", dict(reversed(WELCOME.items()))) == Unique().key_for("t", WELCOME)


def test_what_is_excluded_goes_in_the_order_in_which_it_is_named():
    left = Unique(exclude=[".list[0]", ".list[1]"]).key_for("t", {"list": [1, 2, 3]})
    assert left == Unique().key_for("t", {"list": [2]})


def test_a_computed_key_belongs_to_its_type():
    assert Unique().key_for("a", 1) != Unique().key_for("b", 1)


@dataclass
class Tagged:
    at: datetime
    tags: set[str]


def test_the_payload_is_hashed_as_it_travels():
    when = datetime(2030, 1, 1, tzinfo=UTC)
    sent = {"at": "2030-01-01T00:00:00Z", "tags": list("abcdefgh")}
    assert Unique().key_for("t", Tagged(when, set("abcdefgh"))) == Unique().key_for("t", sent)
    assert Unique().key_for("t", {1: (2, float("nan"))}) == Unique().key_for("t", {"1": [2, None]})


def test_a_payload_that_cannot_travel_has_no_key():
    with pytest.raises(EncodeError, match="cannot be sent"):
        Unique().key_for("t", object())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ".a", "exclude": ".b"}, "only and exclude contradict each other"),
        ({"only": []}, r"only=\[\] names no path"),
        ({"exclude": ()}, r"exclude=\(\) names no path"),
        ({"only": 5}, "only=5 names no path"),
        ({"exclude": "b"}, "exclude: 'b' is no path"),
        ({"scope": "forever"}, "scope='forever' is no scope: choose from queued, active, exists"),
        ({"canonical": "json"}, "canonical='json' is no canonical form: choose from compact, trailing"),
        ({"key": 5}, "key=5 is no key"),
        ({"key": "k", "only": ".a"}, "key='k' is all of the key"),
        ({"key": "k", "prefix": False}, "key='k' is all of the key"),
        ({"key": str, "canonical": "trailing"}, "is all of the key"),
    ],
)
def test_arguments_that_make_no_key_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Unique(**options)


@pytest.mark.parametrize("made", [None, 5, b"k"])
def test_a_function_that_makes_no_text_is_refused(made):
    with pytest.raises(ConfigError, match=r"the unique key of 't' is .*: let the function return text"):
        Unique(lambda _: made).key_for("t", 1)
