"""Results of `against.py --json` over time: a curve for every row, of each machine by itself.

    python benchmarks/history.py FOLDER [--to FILE.png] [--rows WORD ...]

Every file of the folder carries machine, date and commit. Times of two machines are not compared: each is drawn as its
share of the first that its machine measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click


class Point(NamedTuple):
    """A row of a file: machine, group and name, date (ISO 8601), commit, and the best of its times."""

    machine: str
    row: str
    date: str
    commit: str
    best: float


def read_points(folder: Path) -> list[Point]:
    """Points of all files of a folder, by date; ClickException for a file that is no result or does not say of what."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            machine, date, commit = (content["measured"][key] for key in ("machine", "date", "commit"))
            found += [
                Point(machine, f"{r['group']}: {r['row']}", date, commit, min(r["new"])) for r in content["rows"]
            ]
        except (KeyError, TypeError, ValueError) as cause:
            raise click.ClickException(
                f"{path}: {cause!r}, expected a file of `against.py --json` that says machine, date and commit. "
                "Measure again, or move it elsewhere."
            ) from None
    if not found:
        raise click.ClickException(f"{folder}: no results. Write some: against.py COMMIT --json {folder}/NAME.json.")
    return sorted(found, key=lambda p: (p.date, p.row))


def curves(points: Sequence[Point], words: Sequence[str] = ()) -> Iterator[tuple[str, str, list[Point]]]:
    """Machine, row and points of every row that holds one of the words, or of all."""
    for machine in sorted({p.machine for p in points}):
        for row in sorted({p.row for p in points if p.machine == machine}):
            if not words or any(word.lower() in row.lower() for word in words):
                yield machine, row, [p for p in points if (p.machine, p.row) == (machine, row)]


def draw(points: Sequence[Point], path: Path, words: Sequence[str]) -> int:
    """Draw every curve as shares of its first point, a picture for each machine below the other; number of curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = list(curves(points, words))
    machines = sorted({machine for machine, _, _ in found})
    if not found:
        known = ", ".join(sorted({p.row for p in points}))
        raise click.ClickException(f"no row holds {' or '.join(words)}. Rows: {known}.")
    size = 11, 5 * len(machines)
    figure, axes = pyplot.subplots(len(machines), 1, figsize=size, layout="constrained", squeeze=False)
    for ax, machine in zip(axes[:, 0], machines, strict=True):
        own = [p for p in points if p.machine == machine]
        dates = sorted({(p.date, p.commit) for p in own})
        for _, row, curve in (c for c in found if c[0] == machine):
            x = [dates.index((p.date, p.commit)) for p in curve]
            ax.plot(x, [p.best / curve[0].best for p in curve], "o-", label=row, linewidth=1, markersize=3)
        ax.set(title=machine, ylabel="time / time of the first")
        ax.set_xticks(range(len(dates)), [f"{date[:10]}\n{commit[:9]}" for date, commit in dates], fontsize=7)
        ax.axhline(1.0, color="0.7", linewidth=0.8)
        ax.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return len(found)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", "path", type=click.Path(dir_okay=False, path_type=Path), help="[default: FOLDER/history.png]")
@click.option("--rows", "words", multiple=True, help="Words in the names of rows.")
def main(folder: Path, path: Path | None, words: tuple[str, ...]) -> None:
    """Draw the results in FOLDER."""
    to = folder / "history.png" if path is None else path
    click.echo(f"{draw(read_points(folder), to, words)} rows in {to}")


if __name__ == "__main__":
    sys.exit(main())
