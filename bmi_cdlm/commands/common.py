"""What all commands share: the screen, errors as one message, commands that load when they are asked for."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.logging import RichHandler

from bmi_cdlm.names.errors import CdlmError, shown

LONGEST_ARGUMENT = 4096
console = Console(markup=False, highlight=False, soft_wrap=True)
screen = Console(highlight=False)


class Once(logging.Filter):
    """Lets a warning pass once, however often its cause comes again."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is new."""
        told = (record.name, record.getMessage())
        if record.levelno < logging.WARNING or told not in self.seen:
            self.seen.add(told)
            return True
        return False


def start_log(*, verbose: bool = False) -> None:
    """Show on stderr what modules log: warnings, once each; with `verbose` also what is filled, cached, reordered."""
    logging.raiseExceptions = False  # a full disk under the screen is no reason for a traceback
    handler = RichHandler(console=Console(stderr=True, markup=False, highlight=False, soft_wrap=True))
    handler.addFilter(Once())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler])


class CleanErrors(click.Command):
    """A command that shows an error of ours as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except CdlmError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read along has gone: click ends in silence
                raise
            _let_go_of_stdout()
            where = shown(str(error.filename)) if error.filename else "the screen, or a file,"
            raise click.ClickException(
                f"{where}: cannot be used ({error.strerror or error}). Check the path, its rights and the space on the "
                "disk, also of the file that the output of this command goes to."
            ) from error
        except MemoryError as error:
            raise click.ClickException(
                f"memory is short ({str(error) or 'for what was asked'}). Cut the domain, or use a larger machine: "
                "`cdlm doctor` estimates what a run takes."
            ) from error


def _let_go_of_stdout() -> None:
    """Forget what a full disk would not take, so that the end of the process does not stumble over it again."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class CleanGroup(CleanErrors, click.Group):
    """A group of such commands."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        """Run; a help text that a full disk does not take is an error too."""
        words = list(sys.argv[1:] if args is None else args)
        long = next((word for word in words if len(word) > LONGEST_ARGUMENT), None)
        if long is not None:
            click.echo(f"Error: {shown(long)}: is longer than {LONGEST_ARGUMENT} letters, as no argument is.", err=True)
            sys.exit(2)
        try:
            return super().main(words, *rest, **kwargs)
        except OSError as error:
            _let_go_of_stdout()
            click.echo(f"Error: the screen cannot be used ({error.strerror or error}).", err=True)
            sys.exit(1)


class LazyGroup(CleanGroup):
    """A group that loads a command's module when the command is asked for.

    `where` names the commands: name to `module:attribute`.
    """

    def __init__(self, *args: Any, where: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.where = where

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in order."""
        return sorted({*self.where, *super().list_commands(ctx)})

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return names and options that begin so, without loading a command: a shell waits for it."""
        if not incomplete.startswith("-"):
            return [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return click.Command.shell_complete(self, ctx, incomplete)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or nothing where there is none of this name."""
        if cmd_name in self.where:
            module, attribute = self.where[cmd_name].split(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)
