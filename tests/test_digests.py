"""Every bit of whole runs as at the commit that digests.json names; gradients as there to 1e-12.

Runs of a made country (inputs by whole numbers, the same on every machine), and of the Lez, the Cance and the Grand:
every output after every step by BMI, all fluxes as `cdlm run` writes them, states and totals at the end, the arrays,
and attributes of restart files and of BMI states; in steps, in parts of steps, in blocks and at once, on one thread and
on two.

States have another format since: what is known of that stands in `digest_formats.as_format_3`, and nothing else may
differ. Their raw bytes (but for the version, the file's own digest and bytes that netCDF leaves unset) are compared
among the runs of a case.

What depends on the machine, and is skipped with that reason where its libraries give other bits than those kept:
powers of unit hydrographs (`pow` of libm; the case `short` needs none), sines and exponentials of PET formulas and of
the season (libm and numpy), tanh and exp of a trained checkpoint (numpy). Domains of real basins depend on GDAL and
PROJ: coordinates and attributes are compared to 1e-6. Gradients are numbers, not bits: some sums in them are free in
order, and those of a training go through torch and BLAS; in float32 they agree to 2e-5 only. The compiler may reorder
nothing else, so that processors with shorter or longer vectors agree.

`python tests/make_digests.py --help` makes and compares digests of any checkout. What is meant to change bits comes
with new digests, made from its own commit, and says so in CHANGELOG.md.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import digest_cases as d
import numpy as np
import pytest
from digest_bits import NEW_ATTRIBUTES, Digests, digest, digest_restart, flat, library_digests
from digest_formats import OTHER_CALLS, RAW, STATE, as_format_3, gradients_of_format_3, same_bytes
from digest_gradients import GRADIENTS, TRAININGS, gradients, largest_differences, training_gradients

HERE = Path(__file__).resolve().parent
MOST_SHOWN = 12
pytestmark = pytest.mark.slow


@cache
def kept_digests() -> dict:
    content = json.loads((HERE / "digests.json").read_text(encoding="utf-8"))
    return content | {"digests": {case: flat(tree) for case, tree in content["digests"].items()}}


@cache
def libraries() -> dict[str, str]:
    return library_digests()


def kept_gradients(name: str) -> dict[str, np.ndarray]:
    """Arrays of one case, by case and name."""
    with np.load(HERE / "gradients.npz") as file:
        return {key: file[key] for key in file.files if key.startswith(f"{name}: ")}


def differences(case: str, found: Digests) -> Iterator[str]:
    """What is not as it was at the commit whose digests are kept, but for the format of states, see `as_format_3`.

    Raw bytes of restarts are then others; those that were alike are alike, on one thread and on two.
    """
    kept = kept_digests()["digests"][case]
    if any("array reach_storage_time" in name for name in kept) and not any("reach_storage_time" in n for n in found):
        for one in same_bytes(kept) ^ same_bytes(found):
            yield f"{', '.join(sorted(one))}: {'other bytes' if one in same_bytes(kept) else 'the same bytes'} now"
        kept = as_format_3(case, kept)
        found = {n: v for n, v in found.items() if not RAW.fullmatch(n) and not OTHER_CALLS.fullmatch(n)}
    for name in sorted({*found, *kept}):
        if found.get(name) != kept.get(name):
            yield f"{name}: {found.get(name, 'gone')}, was {kept.get(name, 'not there')}"


def check(case: str, found: Digests) -> None:
    problems = list(differences(case, found))
    shown = "\n".join(problems[:MOST_SHOWN])
    assert not problems, f"{case}: {len(problems)} of {len(found)} digests are others:\n{shown}"


def need(functions: tuple[str, ...]) -> None:
    """Skip where this machine's libraries give other bits."""
    other = [f for f in functions if libraries()[f] != kept_digests()["libraries"][f]]
    if other:
        pytest.skip(f"this machine's {', '.join(other)} gives other bits than that where the digests were made")


@pytest.fixture(scope="module")
def country(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("country")
    d.write_files(folder)
    return folder


@pytest.mark.parametrize("name", d.CASES)
def test_every_bit_of_a_made_country_is_as_it_was(country, name):
    need(d.CASES[name].needs)
    check(f"country, {name}", d.country(country, name))


@pytest.fixture(scope="module")
def basins(tmp_path_factory, prepared) -> Callable[[str], tuple[Path, d.Digests]]:
    """A basin as it was prepared once: its folder, and the digests of its files."""
    folder = tmp_path_factory.mktemp("basins")
    made: dict[str, Digests] = {}

    def make(name: str) -> tuple[Path, Digests]:
        if name not in made:
            if name == "grand":
                source = d.HERE.parents[1] / "shared" / "data" / "example_grand.nc"
                if not source.is_file():
                    pytest.skip(f"reference file {source} is not there")
                made[name] = d.prepare_grand(folder, source)
            else:  # `make_digests` prepares with the checkout that it is of; here that has been done
                made_here = mock.patch.dict(
                    d.prepared.__globals__, command=lambda *words: shutil.copytree(prepared(name), folder / name)
                )
                with made_here:
                    made[name] = d.prepared(folder, name)
        return folder, made[name]

    return make


def marked(names) -> list:
    """Cases with the marks of what they read."""
    return [
        pytest.param(n, marks=pytest.mark.shared_data if n.startswith("grand") else pytest.mark.smash) for n in names
    ]


@pytest.mark.parametrize("name", marked(("lez", "cance", "grand")))
@pytest.mark.filterwarnings("default")
def test_a_real_basin_is_prepared_as_it_was(basins, name):
    check(f"prepare {name}", basins(name)[1])


@pytest.mark.parametrize("name", marked(d.BASINS))
@pytest.mark.filterwarnings("default")
def test_every_bit_of_a_real_basin_is_as_it_was(basins, name):
    basin, keys, needs = d.BASINS[name]
    folder, made = basins(basin)
    need(needs)
    if list(differences(f"prepare {basin}", made)):
        pytest.fail(f"{basin} is prepared otherwise than it was, see the test of that: its run cannot be compared")
    check(name, d.basin(folder, basin, **keys))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_a_recording_are_as_they_were(tmp_path, name, threads):
    arrays, bits = gradients(tmp_path, name, threads)
    found = {f"{name}: {key}": value for key, value in arrays.items()}
    problems = list(largest_differences(found, gradients_of_format_3(name, kept_gradients(name), found), 1e-12))
    assert not problems, "\n".join(problems)
    need(("pow",) if not GRADIENTS[name].hidden else ("pow", *d.SEASON))
    check(f"recorded, {name}", bits)


@pytest.mark.parametrize("precision", TRAININGS)
@pytest.mark.filterwarnings("default")
def test_gradients_of_a_training_step_are_as_they_were(tmp_path, precision):
    pytest.importorskip("torch")
    name = f"training, {precision}"
    found = {f"{name}: {key}": value for key, value in training_gradients(tmp_path, precision).items()}
    problems = list(largest_differences(found, kept_gradients(name), TRAININGS[precision][1]))
    assert not problems, "\n".join(problems)


def test_a_bit_makes_another_digest():
    values = d.inputs.mixed(1, 5)
    same, other = values.copy(), values.copy()
    other[3] = np.nextafter(other[3], 1.0)
    assert digest(values) == digest(same) != digest(other)
    assert digest(values) != digest(values[None])
    assert list(largest_differences({"a": other}, {"a": values}, 1e-12)) == []
    assert "a: off by" in next(largest_differences({"a": values + 1e-9}, {"a": values}, 1e-12))
    assert list(largest_differences({"b": values}, {"a": values}, 1.0)) == ["a: gone", "b: not kept"]


STORED = ("country, short", "country, daily none", "country, daily cemaneige", "grand none")


def now(case: str) -> Digests:
    """What a run of today gives where every bit is as it was."""
    kept = kept_digests()["digests"][case]
    raw = {name: value for name, value in kept.items() if RAW.fullmatch(name)}
    return as_format_3(case, kept) | {name: f"x{value[1:]}" for name, value in raw.items()}


@pytest.mark.parametrize("case", STORED)
def test_the_known_changes_are_no_difference_and_any_other_is_one(case):
    found = now(case)
    assert list(differences(case, found)) == []
    states = [n for n in found if STATE.fullmatch(n)]
    assert any(n.endswith("at once: state: array reach_storage") for n in states)
    assert any("production_store" in n for n in states)
    alone = {name for names in same_bytes(found) if len(names) == 1 for name in names}
    assert not any("threads" in name for name in alone)
    for name in found.keys() - alone:
        problems = list(differences(case, found | {name: "0" * 12}))
        assert any(name in problem for problem in problems), f"another '{name}' is not seen"
        assert list(differences(case, {n: v for n, v in found.items() if n != name})), f"'{name}' may be gone"
    more = found | {"stepped: state: array snow_heat": "0" * 12}
    assert list(differences(case, more)) == ["stepped: state: array snow_heat: 000000000000, was not there"]
    # Digests of the old format are compared as they are.
    kept = kept_digests()["digests"][case]
    assert list(differences(case, kept)) == [] != list(differences(case, kept | {states[0]: "0" * 12}))


def test_an_array_that_was_not_empty_may_not_be_gone():
    case = "country, daily none"
    kept = dict(kept_digests()["digests"][case])
    kept["stepped: state: array snowpack"] = kept["stepped: state: array production_store"]
    with pytest.raises(AssertionError, match="snowpack: it was no array of zeros"):
        as_format_3(case, kept)


def test_one_bit_of_a_state_makes_other_digests():
    """Of the array, and of the bytes; attributes are seen as well."""
    from bmi_cdlm.files.restart import Restart, restart_to_bytes  # not where `make_digests` runs an old checkout

    def state(bits: int, **said: str) -> Digests:
        store = np.arange(1.0, 4.0)
        store[1] = np.nextafter(store[1], bits * 9.0) if bits else store[1]
        cell, reach = {"production_store": store}, {"reach_storage": np.ones(2)}
        return digest_restart(restart_to_bytes(
            Restart(cell, reach, ["a", "b", "c"], ["r", "s"], {**NEW_ATTRIBUTES, **said}, np.datetime64("2001-01-01"))
        ))

    one = state(0)
    assert state(0) == one
    assert {n for n in one if state(1)[n] != one[n]} == {"array production_store", "raw"}
    assert {n for n in one if state(0, snow="none")[n] != one[n]} == {"attributes", "raw"}
    with pytest.raises(AssertionError, match="processes of the state are"):
        state(0, runoff="another")


def test_made_numbers_are_the_same_on_every_machine():
    assert digest(d.inputs.mixed(3, 1000)) == "16772410811c"
