"""`zizq serve`: its flags and variables are made from `server.settings`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from zizq.cli.root import root_dir_before
from zizq.errors import ConfigError
from zizq.server.settings import Option, Settings, flag_of, options, variable_of


class _Value(click.ParamType[Any]):
    """A value in the syntax of its option."""

    def __init__(self, option: Option) -> None:
        self.name = option.metavar
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of a text."""
        if not isinstance(value, str):
            return value
        try:
            return self._option.parse(value)
        except ValueError as error:
            if param is not None and _is_foreign_port(param, ctx):
                click.echo(f"Warning: {param.envvar}={value!r} is not a port and is ignored", err=True)
                return None
            self.fail(str(error), param, ctx)


def setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of the server."""
    for setting, option in reversed(options()):
        if option.flag:
            command = _flag(setting.name, setting.default, option)(command)
    return command


def _flag(name: str, default: Any, option: Option) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flags = [flag_of(name), *([f"-{option.short}"] if option.short else [])]
    shown = "" if default is None or option.switch else f" Default: {option.show(default)}."
    choices = f" One of {', '.join(option.choices)}." if option.choices else ""
    text = f"{option.help}{choices}{shown}"
    if option.switch:
        return click.option(*flags, name, is_flag=True, default=default, envvar=variable_of(name),
                            show_envvar=True, help=text)  # fmt: skip
    return click.option(*flags, name, type=_Value(option), default=None, envvar=variable_of(name), show_envvar=True,
                        metavar=option.metavar, help=text)  # fmt: skip


@click.command()
@setting_options
@click.pass_context
def serve(ctx: click.Context, /, **given: Any) -> None:
    """Run the server."""
    from zizq.server import logs
    from zizq.server.serve import run

    settings = given_settings(ctx, given)
    logs.configure(settings)
    run(settings)


def given_settings(ctx: click.Context, given: dict[str, Any]) -> Settings:
    """Settings from flags, variables, and defaults.

    Args:
        ctx: The command, which has the options of the server.
        given: The values of those options; None for one that was not given.

    Raises:
        ConfigError: When options contradict each other, or a variable without a flag is malformed.
    """
    given = {name: value for name, value in given.items() if value is not None}
    root_dir = root_dir_before(ctx)
    if root_dir is not None and ctx.get_parameter_source("root_dir") is not ParameterSource.COMMANDLINE:
        # A flag wins over the variable also where it comes before the name of the command.
        given["root_dir"] = Path(root_dir)
    for setting, option in options():
        text = os.environ.get(variable_of(setting.name))
        if not option.flag and text:
            try:
                given[setting.name] = option.parse(text)
            except ValueError as error:
                raise ConfigError(f"{variable_of(setting.name)}: {error}") from error
    return Settings(**given)


def _is_foreign_port(param: click.Parameter, ctx: click.Context | None) -> bool:
    """Whether it is the variable that Kubernetes sets for a service called zizq or zizq-admin (protocol.md#11.1)."""
    if param.name not in ("port", "admin_port") or ctx is None:
        return False
    return ctx.get_parameter_source(param.name) in (None, ParameterSource.ENVIRONMENT)
