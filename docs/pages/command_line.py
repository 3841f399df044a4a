"""A page per command group, from the commands themselves: whatever there is, is on it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from bmi_cdlm.cli import main as cdlm
from cdlm_training.cli import main as cdlm_train
from pages.processes import module_text

HEAD = """# `{name}`

{help}

`{name} COMMAND --help` shows the same on the screen.
"""


def command_pages() -> Iterator[tuple[str, str]]:
    """The pages of `cdlm` and `cdlm-train`."""
    for name, group in (("cdlm", cdlm), ("cdlm-train", cdlm_train)):
        context = click.Context(group, info_name=name)
        text = HEAD.format(name=name, help=prose(group.help))
        own = options(group, context)
        below = [line for one in group.list_commands(context) for line in section(context, group, one)]
        yield f"reference/{name.replace('-', '_')}", "\n".join([text, *own, "", *below])


def section(above: click.Context, group: click.Group, name: str) -> list[str]:
    """Usage, text and options of a command, and of those below it."""
    command = group.get_command(above, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=above)
    lines = [f"## {context.command_path}", "", prose(command.help), ""]
    if isinstance(command, click.Group):
        below = [section(context, command, one) for one in command.list_commands(context)]
        return [*lines, *(line for one in below for line in one)]
    usage = " ".join(command.collect_usage_pieces(context))
    return [*lines, "```text", f"{context.command_path} {usage}", "```", "", *options(command, context), ""]


def options(command: click.Command, context: click.Context) -> list[str]:
    """A table of the options of a command."""
    records = [p.get_help_record(context) for p in command.get_params(context)]
    told = [(names.replace("|", r"\|"), cell(text)) for names, text in (r for r in records if r)]
    rows = [f"| `{names}` | {text} |" for names, text in told]
    return ["| option | meaning |", "|---|---|", *rows]


def prose(text: str | None) -> str:
    """A help text as Markdown."""
    return module_text(inspect.cleandoc(text or "").replace("\b", ""))


def cell(text: str) -> str:
    """A text within a table."""
    return prose(" ".join(text.split())).replace("|", r"\|")
