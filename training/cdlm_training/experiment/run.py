"""An experiment from its file to its tables and its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.evaluate.evaluation import gauge_areas
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.writing import check_writable, replacing
from cdlm_training.experiment.alone import alone_in
from cdlm_training.experiment.baselines import LocalFits, choose_donors, climatology, distances, write_local
from cdlm_training.experiment.config import WHOLE, Baseline, Experiment, PartOf, load_experiment, narrowed, told
from cdlm_training.experiment.jobs import (
    Job,
    check_splits,
    make_jobs,
    read_discharge,
    run_jobs,
    usable_gauges,
    write_discharge,
)
from cdlm_training.experiment.left_out import left_out_markdown
from cdlm_training.experiment.manifest import write_manifest
from cdlm_training.experiment.record import SCORES
from cdlm_training.experiment.report import write_report
from cdlm_training.experiment.splits import Split, make_splits
from cdlm_training.experiment.table import Key, Result, Scene, Series, markdown, score_all, write_csv
from cdlm_training.experiment.validation import Scenario, designs_of, validation_table

TABLE, VALIDATION = "results.md", "validation.md"
VALIDATION_SCORES = "validation.csv"
DONORS: dict[Baseline, str] = {"nearest": "nearest donors", "similar": "similar donors"}


def run_experiment(
    path: Path, tell: Callable[[str], None], scenarios: Sequence[Scenario] = (), part: PartOf = WHOLE
) -> str:
    """Do all of an experiment that is not done yet, write its tables and its report; returns the Markdown.

    scenarios : with these, the designs that they need in place of those of the file, and one table of them
    (VALIDATION). part : only these designs, seeds and variants; tables and report are of them alone.

    Raises
    ------
    CdlmError
        What is wrong with the configuration or its files, before anything is trained.
    """
    experiment = narrowed(load_experiment(path), part)
    if scenarios:
        experiment = experiment._replace(
            config=experiment.config.model_copy(update={"designs": designs_of(scenarios)})
        )
    ready = _read_and_check(experiment)
    check_writable(experiment.config.output / TABLE)
    with alone_in(experiment.config.output):
        return _carry_out(path, experiment, ready, tell, scenarios)


class Ready(NamedTuple):
    """What an experiment has read, nothing wrong with it; observed and against [time, gauge]."""

    domain: Domain
    chosen: Sequence[str]
    observed: np.ndarray
    splits: list[Split]
    against: Mapping[str, np.ndarray]
    apart: Mapping[Baseline, np.ndarray]


def _read_and_check(experiment: Experiment) -> Ready:
    domain = read_domain(experiment.run.domain)
    chosen, observed = usable_gauges(experiment.run, experiment.training, domain.gauges.id)
    splits = make_splits(domain, experiment.config, chosen)
    against, apart = _others(experiment, domain), _distances(experiment, domain)
    check_splits(experiment, domain.gauges.id, splits, observed)
    return Ready(domain, chosen, observed, splits, against, apart)


def _carry_out(
    path: Path, experiment: Experiment, ready: Ready, tell: Callable[[str], None], scenarios: Sequence[Scenario]
) -> str:
    config, run = experiment.config, experiment.run
    domain, chosen, observed, splits, against, apart = ready
    jobs = make_jobs(experiment, domain, splits)
    if apart:
        write_local(experiment, chosen)
    run_jobs(jobs, config.processes, tell)
    results = [*_trained(experiment, jobs), *_baselines(experiment, domain, splits, observed, chosen, apart, tell), *(
        Result(name, "", ("fitted", "unseen"), _always(series)) for name, series in against.items()
    )]
    starts = run.start + np.arange(run.n_steps) * np.timedelta64(run.time_step, "s")
    periods = {"train": _steps(experiment, "train"), "test": _steps(experiment, "test")}
    scene = Scene(domain.gauges.id, gauge_areas(domain), observed, starts, periods, splits)
    found = score_all(scene, results)
    write_csv(config.output / (VALIDATION_SCORES if scenarios else SCORES), found, scene.areas)
    _write_series(experiment, domain, splits, results)
    notes = _notes(experiment, domain, splits, chosen)
    if scenarios:
        text = validation_table(found, scenarios, f"Validation of {path.stem}", notes)
        with replacing(config.output / VALIDATION) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return text
    text = markdown(found, f"Experiment {path.stem}", notes) + left_out_markdown(found, splits)
    with replacing(config.output / TABLE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_manifest(experiment, jobs, splits, notes)
    tell(f"wrote {write_report(config.output)}")
    return text


def _always(values: np.ndarray) -> Series:
    """The same discharge in every split."""
    return lambda key: values


def _key(split: Split) -> Key:
    return split.design, split.name


def _steps(experiment: Experiment, which: str) -> slice:
    run = experiment.run
    period = experiment.training.train if which == "train" else experiment.config.test
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in period)
    return slice(first, last)


def _others(experiment: Experiment, domain: Domain) -> dict[str, np.ndarray]:
    """Discharge of other models by name, float64[time, gauge]; read before anything is trained."""
    run = experiment.run
    return {
        name: read_observations(path, domain.gauges.id, run.start, run.end, run.time_step)[1]
        for name, path in experiment.config.against.items()
    }


def _distances(experiment: Experiment, domain: Domain) -> dict[Baseline, np.ndarray]:
    """How far gauges are from each other, float64[gauge, gauge], for every kind of donors that is asked for."""
    config, path = experiment.config, experiment.run.domain
    names = config.similarity or experiment.training.cell_attributes
    if "similar" in config.baselines and not names:
        raise ConfigError(
            "experiment.baselines names similar donors, and there are no attributes to compare. Name some in "
            "similarity."
        )
    return {
        kind: distances(domain, path, None if kind == "nearest" else names)
        for kind in DONORS if kind in config.baselines
    }


def _trained(experiment: Experiment, jobs: Sequence[Job]) -> list[Result]:
    """What was trained: every seed, and the ensembles of several seeds or variants."""
    results, by_variant = [], dict[str, list[Mapping[Key, Job]]]()
    for variant in dict.fromkeys(job.variant for job in jobs):
        own = [job for job in jobs if job.variant == variant]
        by_seed = {
            seed: {_key(job.split): job for job in own if job.seed == seed} for seed in experiment.config.seeds
        }
        by_variant[variant] = list(by_seed.values())
        results += [
            Result(variant, f"seed {seed}", ("fitted", "unseen"), _read([found])) for seed, found in by_seed.items()
        ]
        if len(by_seed) > 1:
            every = _read(list(by_seed.values()))
            results.append(Result(variant, f"ensemble of {len(by_seed)}", ("fitted", "unseen"), every, True))
    for name, variants in experiment.config.ensembles.items():
        members = [found for variant in variants for found in by_variant[variant]]
        results.append(Result(name, f"ensemble of {len(members)}", ("fitted", "unseen"), _read(members), True))
    return results


def _read(jobs: Sequence[Mapping[Key, Job]]) -> Series:
    """What jobs have written, of one seed as it is, of several as members."""
    def read(key: Key) -> np.ndarray:
        found = [read_discharge(by_split[key]) for by_split in jobs]
        return found[0] if len(found) == 1 else np.stack(found)
    return read


def _baselines(
    experiment: Experiment, domain: Domain, splits: Sequence[Split], observed: np.ndarray, chosen: Sequence[str],
    apart: Mapping[Baseline, np.ndarray], tell: Callable[[str], None],
) -> list[Result]:
    results, asked = [], experiment.config.baselines
    if "climatology" in asked:
        rows = _steps(experiment, "train")
        run = experiment.run
        starts = run.start + np.arange(run.n_steps) * np.timedelta64(run.time_step, "s")
        mean = climatology(observed, starts, rows.start, rows.stop)
        results.append(Result("climatology", "", ("fitted",), _always(mean)))
    if apart:
        fits = LocalFits(experiment, chosen, tell)
        try:
            results += _donors(experiment, domain, splits, fits, apart)
        finally:
            fits.close()
    return results


def _donors(
    experiment: Experiment, domain: Domain, splits: Sequence[Split], fits: LocalFits,
    apart: Mapping[Baseline, np.ndarray],
) -> list[Result]:
    """Fits to single gauges, and their transfer to gauges that a split holds out."""
    config, run, ids = experiment.config, experiment.run, domain.gauges.id
    own = np.full((run.n_steps, len(ids)), np.nan)
    for k, gauge in enumerate(fits.gauges):
        own[:, ids.index(gauge)] = fits.simulate(gauge, fits.found[k : k + 1])[0]
    results = [Result("each gauge by itself", "", ("fitted",), _always(own))]
    for kind, far in apart.items():
        series: dict[str, dict[Key, np.ndarray]] = {"mean simulation": {}, "mean parameters": {}}
        for split in (s for s in splits if s.held_out):
            both = [np.full((run.n_steps, len(ids)), np.nan) for _ in series]
            for target in (g for g in split.held_out if g in fits.gauges):
                donors = choose_donors(domain, far, target, split.fitted, config.donors)
                if not donors:
                    continue
                sets = fits.found[[fits.gauges.index(g) for g in donors]]
                found = fits.simulate(target, np.vstack([sets, sets.mean(axis=0)]))
                both[0][:, ids.index(target)] = found[:-1].mean(axis=0)
                both[1][:, ids.index(target)] = found[-1]
            for name, values in zip(series, both, strict=True):
                series[name][_key(split)] = values
        results += [Result(DONORS[kind], name, ("unseen",), found.get) for name, found in series.items()]
    return results


def _write_series(
    experiment: Experiment, domain: Domain, splits: Sequence[Split], results: Sequence[Result]
) -> None:
    """Discharge of all gauges per trained model and design, each gauge from the split that holds it out, if one does.

    Of several seeds or variants that of the ensemble.
    """
    ids, several = domain.gauges.id, len(experiment.config.seeds) > 1
    for result in results:
        if not result.is_ensemble and (several or not result.of.startswith("seed")):
            continue
        for design in dict.fromkeys(split.design for split in splits):
            own = [split for split in splits if split.design == design]
            first = result.mean(_key(own[0]))
            assert first is not None
            series = first.copy()
            for split in own[1:]:
                held = [ids.index(g) for g in split.held_out]
                found = result.mean(_key(split))
                assert found is not None
                series[:, held] = found[:, held]
            path = experiment.config.output / f"discharge_{result.model}_{design}.nc"
            write_discharge(path, experiment.run, ids, series)


def _sizes(splits: Sequence[Split]) -> str:
    """How many gauges the splits of a design fit and hold out, in words."""
    each = [f"{len(s.fitted)} fitted, {len(s.held_out)} held out" for s in splits]
    if len(set(each)) == 1:
        return f"{splits[0].design} {each[0]}" + (f" in each of {len(splits)}" if len(splits) > 1 else "")
    return f"{splits[0].design} " + ", ".join(f"{s.name} {one}" for s, one in zip(splits, each, strict=True))


def _notes(experiment: Experiment, domain: Domain, splits: Sequence[Split], chosen: Sequence[str]) -> list[str]:
    """What saw what."""
    training, config = experiment.training, experiment.config
    chosen_on = "the training period" if training.validate_on is None else told(training.validate_on)
    sizes = "; ".join(_sizes([s for s in splits if s.design == one]) for one in dict.fromkeys(s.design for s in splits))
    return [
        f"Trained on {told(training.train)}, epochs chosen on {chosen_on} at fitted gauges, tested on "
        f"{told(config.test)}. {len(domain.gauges.id)} gauges, of which {len(chosen)} can be fitted. "
        f"Splits: {sizes}. Medians over gauges with 95 % bootstrap intervals; attributes of climate may be "
        "those of the whole record.",
        *([experiment.part] if experiment.part else []),
    ]
