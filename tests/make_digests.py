"""Make or check the digests that test_digests.py compares with, from any checkout.

    python tests/make_digests.py --checkout ../old --to /tmp/old       # writes digests.json and gradients.npz
    python tests/make_digests.py                                       # checks this checkout against those kept

Kept digests are made from the commit whose bits a change has to keep, never from the change. Whatever bmi_cdlm is
installed does not matter: the checkout's own is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FILES = "digests.json", "gradients.npz"


def all_cases(folder: Path, shared: Path) -> Iterator[tuple[str, Callable[[], dict]]]:
    """Every case by its name, and what makes its digests; those whose data are absent are left out."""
    import digest_cases as d
    from digest_gradients import GRADIENTS, gradients

    d.write_files(folder / "country")
    for name in d.CASES:
        yield f"country, {name}", lambda name=name: d.country(folder / "country", name)
    for name in ("lez", "cance"):
        yield f"prepare {name}", lambda name=name: d.prepared(folder, name)
    source = shared / "example_grand.nc"
    if source.is_file():
        yield "prepare grand", lambda: d.prepare_grand(folder, source)
    for name, (basin, keys, _) in d.BASINS.items():
        if basin != "grand" or source.is_file():
            yield name, lambda basin=basin, keys=keys: d.basin(folder, basin, **keys)
    for name in GRADIENTS:
        yield f"recorded, {name}", lambda name=name: gradients(folder / "gradients", name, 1)[1]


def all_gradients(folder: Path) -> dict[str, np.ndarray]:
    from digest_gradients import GRADIENTS, TRAININGS, gradients, training_gradients

    found = {}
    for name in GRADIENTS:
        arrays = gradients(folder / "gradients", name, 1)[0]
        found |= {f"{name}: {key}": value for key, value in arrays.items()}
    for precision in TRAININGS:
        arrays = training_gradients(folder / "training", precision)
        found |= {f"training, {precision}: {key}": value for key, value in arrays.items()}
    return found


@click.command()
@click.option("--checkout", type=click.Path(path_type=Path, exists=True), default=ROOT, help="Whose bmi_cdlm to run.")
@click.option("--shared", type=click.Path(path_type=Path), default=ROOT.parent / "shared" / "data", show_default=True,
              help="Folder of the reference data beside the project.")
@click.option("--only", default="", help="Cases whose names hold this.")
@click.option("--to", type=click.Path(path_type=Path), help="Write the digests here, in place of a comparison.")
def main(checkout: Path, shared: Path, only: str, to: Path | None) -> None:
    """Make the digests of a checkout; compare them with those kept, or write them."""
    checkout = checkout.resolve()
    sys.path[:0] = [str(checkout), str(checkout / "training"), str(HERE)]
    from digest_bits import library_digests, nested
    from digest_formats import gradients_of_format_3
    from digest_gradients import GRADIENTS, TRAININGS, largest_differences
    from digest_runs import package, version
    from test_digests import differences, kept_digests, kept_gradients

    assert Path(package().__file__).is_relative_to(checkout), f"bmi_cdlm came from {package().__file__}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digests = {case: make() for case, make in all_cases(folder, shared) if only in case or case.startswith("prep")}
        gradients = all_gradients(folder) if not only else {}
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
        commit = subprocess.run(["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"],
                                check=True, capture_output=True, text=True).stdout.strip()
        content = {"commit": commit, "version": version(), "libraries": library_digests(), "digests": {}}
        content["digests"] = {case: nested(found) for case, found in digests.items()}
        (to / FILES[0]).write_text(json.dumps(content, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        np.savez_compressed(to / FILES[1], **{key.replace("/", " "): value for key, value in gradients.items()})
        click.echo(f"wrote {to / FILES[0]} and {to / FILES[1]}: {sum(map(len, digests.values()))} digests, "
                   f"{sum(a.size for a in gradients.values())} numbers")
        return
    problems = []
    for case, found in digests.items():
        problems += [f"{case}: {one}" for one in differences(case, found)]
    for name in GRADIENTS if gradients else ():
        problems += largest_differences(
            {k: v for k, v in gradients.items() if k.startswith(f"{name}: ")},
            gradients_of_format_3(name, kept_gradients(name), gradients), 1e-12
        )
    for precision, (_, tolerance) in TRAININGS.items() if gradients else ():
        name = f"training, {precision}"
        problems += largest_differences(
            {k: v for k, v in gradients.items() if k.startswith(f"{name}: ")}, kept_gradients(name), tolerance
        )
    for problem in problems:
        click.echo(problem)
    click.echo(f"{len(problems)} differences from {kept_digests()['commit']} in {len(digests)} cases")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
