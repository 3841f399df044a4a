"""The training loop: windows, gradients, updates, validation, saved states."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.generator.lstm import read_lstm_attributes
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.writing import check_writable
from bmi_cdlm.run.config import Config
from cdlm_training.batches import draw_pairs, make_batch, updates_to_cover
from cdlm_training.config import TrainConfig, load_train_config
from cdlm_training.dataset import Dataset, Window
from cdlm_training.device import choose_device
from cdlm_training.distributed import Team
from cdlm_training.evaluate import copy_written, load_best, write_checkpoint
from cdlm_training.fields import draw_fields
from cdlm_training.findings import against_bounds, left_over, spread_of, unlike_starts
from cdlm_training.fits import Call, Fit, make_optimizer
from cdlm_training.generator import Generator
from cdlm_training.gradient import Gradient, Item
from cdlm_training.identity import Identity
from cdlm_training.labels.teach import make_lessons
from cdlm_training.log import Log
from cdlm_training.making import make_generator, read_generator_inputs, specify
from cdlm_training.objective import Objective
from cdlm_training.posterior import check_size, make_posterior
from cdlm_training.pretraining import Learned, teach
from cdlm_training.regularisation import Regulariser
from cdlm_training.saved_state import STATE, identity, read_state, write_state
from cdlm_training.scores import Epoch, GaugeRuns, Scores, score, simulate_gauges
from cdlm_training.search import choose, cost, count_fits, ended, file_of, next_weight, told
from cdlm_training.simulate import Chain, Part, make_beyond, make_parts
from cdlm_training.transfer import Prior, Pull, adopt, check_terms, freeze, learned_networks
from cdlm_training.window_file import as_checkpoint, begin_from

FINDINGS, PRETRAINED = "findings.txt", "pretrained"
NO_SCORES = Scores(float("nan"), float("nan"), {})


class Trainer:
    """Trains a generator as a configuration says; the same seed gives the same weights.

    Attributes
    ----------
    epoch : int
        Completed epochs.
    best : float
        Best validation score so far.
    fits : list of Fit
        What the fits that began anew (`restarts`) have come to; the last is the one under way.
    findings : list of str
        After `train`, what a user should know: parameters against their bounds, a start that does not fit.
    """

    def __init__(self, path: Path, team: Team) -> None:
        self.path, self.team = path, team
        self.run: Config
        self.config: TrainConfig
        self.run, self.config = load_train_config(path)
        if self.config.learn_start:  # a spin-up would be left out, and every validation would say so
            self.run = self.run.model_copy(update={"spin_up": 0})
        torch.manual_seed(self.config.seed)
        # The kernels have the threads; torch's own would spin beside them, and its share of the work is small.
        torch.set_num_threads(1)
        domain = read_domain(self.run.domain)
        self.device = choose_device(self.config.device)
        self.data = Dataset(self.run, self.config, domain)
        self.spec = specify(self.run, self.config, self.data)
        origin = None
        if self.config.start_from is not None and not self.config.is_field:
            path = self.config.start_from
            origin = load_checkpoint(path, self.run.member) if self.config.mapping != "resnet" else as_checkpoint(
                begin_from(path, self.spec, self.config.resnet)
            )
            self.spec = adopt(self.spec, origin)
        self.generator = self._make_generator(self.config.seed, self.config.dropout).to(self.device)
        if origin is not None:
            self.generator.load(origin.tensors)
        self.generator.reach.requires_grad_(self.config.learn_routing)
        freeze(self.generator, self.config.frozen)
        check_terms(self.generator, self.config.loss)
        check_size(self)
        self.chain = Chain(
            self.data, self.generator,
            read_generator_inputs(self.run, self.config, self.spec, domain),
            read_lstm_attributes(self.spec, self.run.domain, domain),
        )
        taught = self.config.pretrain
        self.lessons = None if taught is None else make_lessons(
            taught, self.run, self.spec, domain, self.data.held_out
        )
        assert self.run.observations is not None
        files = {"domain": self.run.domain, "forcing": Path(self.run.forcing), "observations": self.run.observations}
        files |= {} if self.config.start_from is None else {"start_from": self.config.start_from}
        files |= {} if self.config.pretrain is None else {"labels": self.config.pretrain.labels}
        self.fingerprints = {name: content_digest(file) for name, file in files.items()}
        self.workers = Workers(self.config.threads)
        self.parts = make_parts(self.data, self.workers)
        maps_teach = self.config.loss.of_maps and learned_networks(self.generator) - {"reach"}
        self.beyond = make_beyond(self.data, self.workers, self.parts) if maps_teach else None
        self.objective = Objective(self.chain)
        self._gradient = Gradient(self.objective, team, self.workers, self.config, self.data.gauges.size)
        self.learned: Learned | None = None
        self.validation = GaugeRuns(self.run, self.config.validation[1])
        self.prior = Prior(self.generator, self.chain.attributes) if self.config.loss.prior else None
        pull = self.config.loss.pull
        self.pull = Pull(self.generator, self.chain.attributes, pull) if pull else None
        held = self.config.regularisation
        self.regulariser = None if held is None else Regulariser(self.generator, domain, held)
        self.random = np.random.default_rng(self.config.seed)
        self.optimizer, self.schedule = make_optimizer(self.config, self.weights(), self.updates)
        self.epoch, self.best = 0, -np.inf
        self._last_call: Call | None = None
        self.fits, self.findings = [Fit.new(0.0 if held is None else next_weight(held, []))], list[str]()

    def train(self, *, resume: bool, report: Callable[[Epoch], None], progress: Callable[[float], None]) -> Scores:
        """Train to the end, or until the validation score has not risen for `patience` epochs.

        report is called after each epoch, progress after each update with its loss. Returns the scores of the best
        checkpoint, which is written to the configured output.
        """
        if self.team.leads and not resume:
            check_writable(self.config.output)
        if self.lessons is not None:  # before --resume too, whose prior may be what comes of it: it takes seconds
            self.learned = teach(self, self.lessons)
        if resume:
            self._load_state()
        if self.team.leads:
            if resume:
                check_writable(self.config.output)
            else:
                (self.config.log_folder / STATE).unlink(missing_ok=True)
            self.log = Log(self.config.log_folder, self.path, self.epoch if resume else None)
        try:
            if self.learned is not None and not resume:
                self._begin_taught()
            self._run_epochs(report, progress)
            # The others would read the best checkpoint while the leader may still be writing it.
            return self._conclude() if self.team.leads else NO_SCORES
        finally:
            self.workers.close()
            self.validation.close()
            if self.team.leads:
                self.log.close()

    def _conclude(self) -> Scores:
        """Scores of the best checkpoint; what a user should know of it goes to `findings`."""
        config, chosen = self.config, None
        if self.config.searches_weight:
            chosen = choose(self)
        ids, simulated = simulate_gauges(self.run, config.output)
        values = load_best(self)
        if config.is_field:
            draw_fields(config.log_folder, self.data.domain, values)
        self.findings = [
            *([] if self.learned is None else [self.learned.told()]),
            *unlike_starts(self, simulated), *against_bounds(self.spec, values), *left_over(self),
            *(spread_of(self.fits, config.select_by) if chosen is None else told(self.fits, chosen)),
            *make_posterior(self),
        ]
        (config.log_folder / FINDINGS).write_text("".join(f"{one}\n" for one in self.findings), encoding="utf-8")
        return score(self.run, self.data.ids, ids, simulated, config.validation)

    def _run_epochs(self, report: Callable[[Epoch], None], progress: Callable[[float], None]) -> None:
        config = self.config
        while True:
            fit = self.fits[-1]
            if fit.epochs < config.epochs and fit.epochs - fit.best_epoch < config.patience:
                self._run_epoch(report, progress)
                continue
            if config.searches_weight:
                self.fits[-1] = ended(self)
            if len(self.fits) == self.n_fits:
                return
            self._begin_anew()

    def _run_epoch(self, report: Callable[[Epoch], None], progress: Callable[[float], None]) -> None:
        began = time.perf_counter()
        if self.config.searches_weight and not self.fits[-1].epochs:
            self.fits[-1] = self.fits[-1]._replace(cost_before=cost(self))
        losses = [self._update(progress) for _ in range(self.updates)]
        self.epoch += 1
        scores = self._validate()
        self.fits[-1] = self.fits[-1].after(self._selected(scores), float(np.mean(losses)), self.mean_parameters)
        self._keep(scores, [file_of(self, len(self.fits) - 1)] if self.config.searches_weight else [])
        if self.team.leads:
            epoch = Epoch(self.epoch, float(np.mean(losses)), scores, time.perf_counter() - began)
            # In this order: whatever a kill leaves without a saved state is done, and logged, again.
            self.log.write(epoch)
            self._save_state()
            report(epoch)

    def _keep(self, scores: Scores, more: Sequence[Path] = ()) -> None:
        """Let the weights that were scored be the output, and that of other files, if none so far were better."""
        if not self._selected(scores) > self.best:
            return
        self.best = self._selected(scores)
        if self.team.leads:
            for path in (self.config.output, *more):
                copy_written(self._last, path)

    def _begin_taught(self) -> None:
        """What labels came to is a checkpoint of its own, and the best one so far."""
        scores = self._validate()
        self.fits[-1] = self.fits[-1]._replace(score=self._selected(scores), parameters=self.mean_parameters())
        if self.team.leads:
            copy_written(self._last, self._last.with_stem(PRETRAINED))
        self._keep(scores)

    def _begin_anew(self) -> None:
        """Begin another fit, from drawn parameters, or with another weight; what is not learned stays."""
        seed, weight = self.config.seed + 1000 * len(self.fits), self.fits[-1].weight
        fresh = self._make_generator(seed)
        if self.config.searches_weight and self.config.regularisation is not None:
            weight = next_weight(self.config.regularisation, self.fits)
            self.best = -np.inf  # a fit is not compared with one of another weight
        else:
            fresh.scatter(seed)
        stays = {name: w.detach() for name, w in self.generator.named_parameters() if not w.requires_grad}
        self.generator.load_state_dict({**fresh.state_dict(), **stays})
        self.optimizer, self.schedule = make_optimizer(self.config, self.weights(), self.updates)
        self.fits.append(Fit.new(weight))

    def _make_generator(self, seed: int, dropout: float = 0.0) -> Generator:
        return make_generator(self.run, self.config, self.spec, self.data, seed, dropout)

    @property
    def n_fits(self) -> int:
        """How many fits there are, from several starts or with several weights of the regularisation."""
        held = self.config.regularisation
        return count_fits(held) if held is not None and self.config.searches_weight else self.config.n_starts

    def mean_parameters(self) -> dict[str, float]:
        """Mean over cells or reaches of every generated parameter, by registry name."""
        attributes = self.chain.attributes
        with torch.no_grad():
            made = self.generator.cell_parameters(attributes.cell) | self.generator.reach_parameters(attributes.reach)
        return {name: float(values.double().mean()) for name, values in made.items()}

    # ---- one update --------------------------------------------------------------------------------------

    def _update(self, progress: Callable[[float], None]) -> float:
        if self.config.optimizer == "lbfgs":
            windows = self.all_windows()
            loss = float(self.optimizer.step(lambda: self._gradient_at(windows)))
        else:
            self.generator.draw_dropout(self.random)
            if self.config.pairs_per_update is not None:
                pairs = draw_pairs(self.data, self.random, self.config.pairs_per_update)
                items = make_batch(self.data, pairs, self.workers)
                if self.beyond is not None:
                    items.append((self.data.windows(self.random, 1)[0], self.beyond))
                loss = self.gradient_of(items, 1)
            else:
                windows = self.data.windows(self.random, self.config.windows_per_update)
                loss = self.gradient(windows, self._draw_parts())
            self.generator.draw_dropout(None)
            torch.nn.utils.clip_grad_norm_(self.weights(), self.config.clip)
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        progress(loss)
        return loss

    def _gradient_at(self, windows: list[Window]) -> float:
        """As `gradient`; of the weights of the last call what that gave.

        LBFGS begins a step where its line search ended the last one, and asks for the gradient there once more.
        """
        weights, fit = self.weights(), (len(self.fits), self.fits[-1].weight)
        if self._last_call is None or not self._last_call.is_of(fit, weights):
            loss = self.gradient(windows)
            self._last_call = Call(
                fit, [w.detach().clone() for w in weights], loss,
                [None if w.grad is None else w.grad.clone() for w in weights],
            )
        else:
            for weight, found in zip(weights, self._last_call.gradients, strict=True):
                weight.grad = None if found is None else found.clone()
        return self._last_call.loss

    def _draw_parts(self) -> list[Part]:
        """Parts of one update: all, or sub-networks of some gauges, whose loss has the mean of that of all."""
        count, n = self.config.gauges_per_update, self.data.gauges.size
        if count is None or count >= n:
            return self.parts
        drawn = self.random.choice(n, count, replace=False)
        return make_parts(self.data, self.workers, drawn)

    def gradient(self, windows: list[Window], parts: list[Part] | None = None) -> float:
        """Set the gradient of the mean loss over windows, on all parts or some; returns the loss.

        Equal on every process. Cells that drain to no training gauge count where the loss has maps.
        """
        parts = self.with_beyond(self.parts if parts is None else parts)
        return self.gradient_of([(window, part) for window in windows for part in parts], len(windows))

    def with_beyond(self, parts: list[Part]) -> list[Part]:
        """Some parts, and the cells that drain to no training gauge where the loss has maps of them."""
        return [*parts, *([] if self.beyond is None else [self.beyond])]

    def gradient_of(self, items: list[Item], n_windows: int) -> float:
        """As `gradient`, of runs that are the parts of `n_windows` windows over the domain."""
        self.optimizer.zero_grad(set_to_none=True)
        return self._gradient(items, n_windows, self.weights(), self._held(items))

    def _held(self, items: list[Item]) -> Iterator[torch.Tensor]:
        """What holds weights by themselves: towards where they began, or smooth."""
        if self.prior is not None or self.pull is not None:
            cells = np.unique(np.concatenate([part.cells for _, part in items]))
            reaches = np.unique(np.concatenate([part.reach_places for _, part in items]))
            if self.prior is not None:
                yield self.config.loss.prior * self.prior(cells, reaches)
            if self.pull is not None:
                yield self.pull(cells, reaches)
        weight = self.fits[-1].weight
        if self.regulariser is not None and weight:
            yield weight * self.regulariser()

    def weights(self) -> list[torch.nn.Parameter]:
        """The weights that are learned."""
        return [w for w in self.generator.parameters() if w.requires_grad]

    def all_windows(self) -> list[Window]:
        """Windows that cover the training period, but for a rest shorter than one."""
        train, length = self.data.steps_of(self.config.train), self.data.window_length
        return [self.data.window(first, length) for first in range(train.start, train.stop - length + 1, length)]

    # ---- validation, states, log -------------------------------------------------------------------------

    @property
    def updates(self) -> int:
        """Updates per epoch."""
        config = self.config
        if config.updates != "cover":
            return config.updates
        assert config.pairs_per_update is not None
        train = self.data.steps_of(config.train)
        steps = max(1, train.stop - train.start - config.warm_up)
        return updates_to_cover(config.pairs_per_update, self.data.window_length, self.data.gauges.size, steps)

    @property
    def _last(self) -> Path:
        return self.config.log_folder / f"last{self.config.output.suffix}"

    def _validate(self) -> Scores:
        """Scores of the weights as they are, by the runtime in float64; the leader runs, all get the selected one."""
        scores = NO_SCORES
        if self.team.leads:
            write_checkpoint(self._last, self, None)
            scores = score(self.run, self.data.ids, *self.validation(self._last), self.config.validation)
            write_checkpoint(self._last, self, scores)
        tell = self.team.from_leader
        return Scores(
            tell(scores.nse), tell(scores.kge), scores.gauges, tell(scores.median_nse), tell(scores.median_kge)
        )

    def _selected(self, scores: Scores) -> float:
        return float(getattr(scores, self.config.select_by))

    @property
    def identity(self) -> Identity:
        """What a resumed training must have in common with the one before, wherever it is started from."""
        return identity(self.run, self.config, self.fingerprints, self.data.ids)

    def _save_state(self) -> None:
        write_state(self.config.log_folder / STATE, {
            "generator": self.generator.state_dict(), "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(), "epoch": self.epoch,
            "best": self.best, "fits": [fit._asdict() for fit in self.fits],
            "random": repr(self.random.bit_generator.state), "training": self.identity.text(),
        })

    def _load_state(self) -> None:
        state = read_state(self.config.log_folder / STATE, self.identity, self.device)
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.best = state["epoch"], state["best"]
        self.fits = [Fit(**fit) for fit in state["fits"]]
        self.random.bit_generator.state = ast.literal_eval(state["random"])
