"""`cdlm reference`: every key, variable and parameter."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.plugin import render_plugin
from bmi_cdlm.reference import render


@click.command(cls=CleanErrors)
@click.option("--to", "path", type=click.Path(path_type=Path), help="File to write.  [default: the screen]")
@click.option("--pymt", "folder", type=click.Path(path_type=Path), help="Folder for the keys of pymt's `setup`.")
def reference(path: Path | None, folder: Path | None) -> None:
    """Show every configuration key, variable and parameter."""
    if folder is not None:
        for name, text in render_plugin().items():
            (folder / name).write_text(text, encoding="utf-8")
        return
    if path is None:
        console.print(render(), end="")
        return
    with replacing(path) as temporary:
        temporary.write_text(render(), encoding="utf-8")
