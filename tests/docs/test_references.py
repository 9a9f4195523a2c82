"""What the pages name is there: options, variables, extras, commands, files, headings."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from importlib.metadata import metadata
from pathlib import Path

import click
import pytest
from trust.__main__ import TRIALS

from docs.pages import OURS, PAGES, ROOT, Block, blocks, prose
from zizq.cli.budgets import budgets
from zizq.cli.cron import cron
from zizq.cli.doctor import doctor
from zizq.cli.health import health
from zizq.cli.jobs import jobs
from zizq.cli.main import cli
from zizq.cli.migrate import migrate
from zizq.cli.queues import queues
from zizq.cli.restore import restore
from zizq.cli.store import store
from zizq.cli.tls import tls
from zizq.cli.token import token
from zizq.cli.top import top
from zizq.cli.upkeep import backup, compact
from zizq.cli.work import work
from zizq.server.settings import flag_of, options, variable_of

FOREIGN = {
    "--preload", "--from", "--to", "--size", "--seed", "--system", "--home-dir", "--shell", "--upgrade", "--now",
    "--build", "--name", "--stop-timeout", "--ulimit", "--schema", "--rounds", "--systems", "--shapes",
}  # fmt: skip
"""Options of other programs: gunicorn, caddy, the trials, the benchmarks, useradd, pip, systemctl, docker."""

WORK = [parameter for parameter in work.params if isinstance(parameter, click.Option)]
FLAGS = {flag_of(setting.name) for setting, option in options() if option.flag}
FLAGS |= {flag for option in WORK for flag in option.opts}
GROUPS = {
    group: [one for found in group.commands.values() for one in found.params if isinstance(one, click.Option)]
    for group in (jobs, queues, cron, budgets, token, tls, store)
}
FLAGS |= {flag for found in GROUPS.values() for option in found for flag in option.opts}
FLAGS |= {flag for option in doctor.params for flag in option.opts}
VARIABLES = {variable_of(setting.name) for setting, _ in options()} | {str(option.envvar) for option in WORK}

for command in (backup, compact, restore, health, top, migrate):
    found = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    FLAGS |= {flag for option in found for flag in option.opts}
    VARIABLES |= {str(option.envvar) for option in found if option.envvar}

COMMANDS = [
    pytest.param(command, id=f"{block.name}-{number}")
    for page in OURS
    for block in blocks(page)
    for number, command in enumerate(block.commands)
]


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_options_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    assert named - FLAGS - FOREIGN == set()


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_variables_exist(page: Path) -> None:
    assert set(re.findall(r"\bZIZQ_[A-Z_]+", page.read_text(encoding="utf-8"))) - VARIABLES == set()


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_extras_exist(page: Path) -> None:
    lists = re.findall(r"zizq\[([\w,]+)\]", page.read_text(encoding="utf-8"))
    named = {name for names in lists for name in names.split(",")}
    assert named <= set(metadata("zizq").get_all("Provides-Extra") or [])


def test_every_option_of_the_worker_is_explained() -> None:
    text = (ROOT / "docs" / "guides" / "workers.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| `--"))
    for option in WORK:
        shown = option.opts[0] if option.opts[0].startswith("--") else option.opts[1]
        assert f"`{shown}`" in rows
        assert option.envvar is None or f"`{option.envvar}`" in rows


@pytest.mark.parametrize(("group", "guides"), [(jobs, ["querying"]), (cron, ["cron", "querying"]), (tls, ["tls"])])
def test_every_option_of_a_group_is_explained(group: click.Group, guides: list[str]) -> None:
    text = "".join((ROOT / "docs" / "guides" / f"{name}.md").read_text(encoding="utf-8") for name in guides)
    assert {option.opts[0] for option in GROUPS[group] if f"`{option.opts[0]}`" not in text} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    if Path(words[0]).name != "zizq":
        return
    for word in words:
        if word.endswith((".pem", ".key", ".tar.gz")):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
    understand(words)


def understand(words: list[str]) -> None:
    """Parse a command of `zizq`, and do not run it."""
    with click.Context(cli) as context:
        found, words = cli.get_command(context, words[1]), words[1:]
        while isinstance(found, click.Group) and len(words) > 1:
            found, words = found.get_command(context, words[1]), words[1:]
        assert found is not None
        found.make_context(words[0], words[1:])


def test_the_commands_of_the_runbook_are_understood() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("\n## Runbook\n")[2]
    commands = re.findall(r"`(zizq [^`]+)`", runbook)
    assert len(commands) > 10
    for command in commands:
        understand(shlex.split(command))


def test_all_trials_are_told_of_and_can_be_run() -> None:
    page = (ROOT / "docs" / "guides" / "trust.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(TRIALS)
    for name in TRIALS:
        parameters = inspect.signature(importlib.import_module(f"trust.{name}").run).parameters
        assert list(parameters) == ["size", "seed"]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            assert heading in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_a_line_of_prose_is_one_sentence(page: Path) -> None:
    for line in prose(page).splitlines():
        text = re.sub(r"`[^`]*`|\*\*.*?\*\*", "", line)  # a line may begin with a few words in bold
        if not line.startswith(("|", "#")):
            assert not re.search(r"\w[.?!] +[A-Z]", text), line


def test_every_page_can_be_reached() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        paths = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+\.md[^)\s]*)\)", prose(page))]
        waiting += [(page.parent / path).resolve() for path in paths if not re.match(r"[a-z]+:", path)]
    assert set(OURS) <= reached


def test_blocks_say_what_they_are() -> None:
    known = {"python", "console", "sh", "ini", "json", "mermaid", "yaml", "nginx", "caddy", "text", "sql"}
    unnamed: list[Block] = [one for page in OURS for one in blocks(page) if one.language not in known]
    assert unnamed == []


def test_both_commands_read_the_same_words_in_the_variable_that_they_share() -> None:
    [level] = [option for option in WORK if option.envvar == "ZIZQ_LOG_LEVEL"]
    [served] = [option for setting, option in options() if setting.name == "log_level"]
    assert isinstance(level.type, click.Choice)
    assert tuple(level.type.choices) == served.choices
