"""`zizq serve`: its flags and variables are made from `server.settings`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

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
            if _is_foreign_port(param, ctx):
                click.echo(f"Warning: ZIZQ_PORT={value!r} is not a port and is ignored", err=True)
                return None
            self.fail(str(error), param, ctx)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
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
@_with_options
def serve(**given: Any) -> None:
    """Run the server."""
    from zizq.server import logs
    from zizq.server.serve import run

    settings = settings_from({name: value for name, value in given.items() if value is not None})
    logs.configure(settings)
    run(settings)


def settings_from(given: dict[str, Any]) -> Settings:
    """Settings from flags, variables, and defaults.

    Raises:
        ConfigError: When options contradict each other, or a variable without a flag is malformed.
    """
    for setting, option in options():
        text = os.environ.get(variable_of(setting.name))
        if not option.flag and text:
            try:
                given[setting.name] = option.parse(text)
            except ValueError as error:
                raise ConfigError(f"{variable_of(setting.name)}: {error}") from error
    return Settings(**given)


def _is_foreign_port(param: click.Parameter | None, ctx: click.Context | None) -> bool:
    """Whether a value is the variable that Kubernetes sets for a service called zizq (protocol.md#11.1)."""
    if param is None or param.name != "port" or ctx is None:
        return False
    return ctx.get_parameter_source("port") in (None, ParameterSource.ENVIRONMENT)
