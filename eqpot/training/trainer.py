"""The training loop."""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from eqpot.checkpoint import parse_checkpoint, remove_leftovers, restore_attributes, restoring, write_checkpoint
from eqpot.data import Frame, batches_by_size, densities, file_hash, label_graphs
from eqpot.data.sources import bare_sources
from eqpot.distances import shortest_distances
from eqpot.errors import ConfigError, DataError, EqpotError, ModelFileError
from eqpot.files import whole_folder
from eqpot.model_file import save_potential
from eqpot.potential import check_device
from eqpot.shipped import model_path
from eqpot.training.compiled import choose_step
from eqpot.training.config import TrainConfig
from eqpot.training.logs import append_row, check_tensorboard, cut, open_events, resume_timings, write_events
from eqpot.training.loss import Step, collate_samples, make_sample
from eqpot.training.metrics import evaluate
from eqpot.training.optimizer import Optimizer, update_average
from eqpot.training.processes import Processes
from eqpot.training.schedule import Schedule
from eqpot.training.start import read_split, resolve, start_potential, trained_names

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

Report = Callable[[dict[str, Any]], None]
"""Called after every epoch with epoch, step, progress (0 to 1), learning_rate, loss, seconds, stage (1 or 2), the last validation errors
if there are any, and is_best: whether this epoch's validation was the best so far of its stage, None if it had none."""

_STATE = ("epoch", "batch", "step", "total", "rate", "errors", "metrics_length")


class Trainer:
    """A training run: its data, its weights and where it stands.

    The run folder receives config.yaml, metrics.csv, timings.csv, checkpoint.safetensors and potential.safetensors (the moving average
    of the weights, at its best validation). Under torchrun every process has a Trainer and works on its share of each batch; the
    first one writes. `progress`, 0 to 1, and `step` may be read while it runs.
    """

    def __init__(self, config: TrainConfig, resume: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the data and set everything up; ConfigError if the run folder exists (or, to resume, does not fit).

        A run that torchrun has started again goes on from its checkpoint. clock: what `training.minutes` is measured with, in
        seconds; time.process_time compares runs on a busy machine fairly.
        """
        self.config = config = resolve(config)
        self.clock = clock
        self.folder = config.output
        check_device(config.device)
        if config.training.tensorboard:
            check_tensorboard()
        self.processes = Processes(config.device)
        checkpoint = self.processes.broadcast(self._find_checkpoint(resume) if self.processes.is_first else b"")
        torch.set_num_threads(config.training.threads)
        self._read_data()

        # The step differentiates with respect to leaves of its own; nothing else needs gradients.
        network = self.potential.network.requires_grad_(False)
        self.names = trained_names(network, config.training.freeze)
        self.parameters: list[torch.Tensor] = [network.get_parameter(name) for name in self.names]
        # Plain tensors that share the parameters' memory: a compiled step would be compiled again for the class Parameter.
        self.weights = [parameter.detach() for parameter in self.parameters]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = Optimizer(network, config.training, self.names)
        self.schedule = Schedule(config.training)
        self.epoch = self.batch = self.step = self.metrics_length = 0
        self.seconds = self.total = self.rate = 0.0
        self.errors: dict[str, float] = {}
        self.events: SummaryWriter | None = None
        self.stop_requested = False
        if checkpoint:
            self._restore(checkpoint)
        elif self.processes.is_first:
            self._warn_of_warmup()
            self._make_folder()
        self.progress = self._progress(self.epoch)

    def run(self, report: Report = lambda _: None) -> bool:
        """Train to the end of the schedule; False if `stop_requested` became True before, once a checkpoint is written."""
        if self.config.training.tensorboard and self.processes.is_first:
            self.events = open_events(self._file("tensorboard"), self.step)
        try:
            return self._train(report)
        finally:
            if self.events:
                self.events.close()

    def _train(self, report: Report) -> bool:
        settings = self.config.training
        step_function = self._choose_step()
        started = self.clock() - self.seconds
        written = time.monotonic()
        while not self.is_finished:
            batches = self._batches(self.epoch)
            for index in range(self.batch, len(batches)):
                progress = self._progress(self.epoch + index / len(batches))
                self.schedule.advance(progress)
                loss, seconds, stopped, *gradients = self._gradients(step_function, batches[index], self.clock() - started)
                self._update(loss, gradients, progress)
                self.seconds = float(seconds)
                self.total += float(loss) * len(batches[index])
                self.batch = index + 1
                self.progress = self._progress(self.epoch + self.batch / len(batches))
                if stopped or time.monotonic() - written >= 60 * settings.checkpoint_minutes:
                    self._write_checkpoint()
                    written = time.monotonic()
                if stopped:
                    return False
            loss_of_epoch = self.total / len(self.samples)
            self.epoch, self.batch, self.total = self.epoch + 1, 0, 0.0
            is_best = None
            if self.epoch % settings.validate_every == 0 or self._progress(self.epoch) >= 1:
                is_best = self._validate(loss_of_epoch)
                written = time.monotonic()
            self.progress = 1.0 if self.is_finished else self._progress(self.epoch)
            status = {"progress": self.progress, "seconds": self.seconds, "stage": self.schedule.stage, "is_best": is_best}
            report({"epoch": self.epoch, "step": self.step, "learning_rate": self.rate, "loss": loss_of_epoch, **status, **self.errors})
        return True

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def is_finished(self) -> bool:
        """Whether the schedule is at its end, or ends early."""
        return self._progress(self.epoch) >= 1 or self.schedule.is_over

    def _read_data(self) -> None:
        config = self.config
        train, valid = read_split(config)
        train_graphs = label_graphs(train, config.network.cutoff, config.data.cache)
        self.valid = label_graphs(valid, config.network.cutoff, config.data.cache)
        n_edges = sum(item.graph.edge_index.shape[1] for item in train_graphs)
        if n_edges == 0:
            raise DataError(
                f"No two atoms of the training frames are closer than the cutoff of {config.network.cutoff} Å; raise network.cutoff."
            )
        device_config = config.model_copy(update={"device": self.processes.device})
        self.potential = start_potential(device_config, train, n_edges / sum(item.graph.n_atoms for item in train_graphs))
        self._know_distances(shortest_distances(item.graph for item in train_graphs))
        self.samples = [make_sample(item, self.potential) for item in train_graphs]
        self.with_stress = any(bool(item.has_stress.any()) for item in train_graphs)
        self.data_description = _describe(config, train, valid)

    def _know_distances(self, met: dict[str, float]) -> None:
        """Let the potential know the shortest distances of its data; those of a potential that learns on count too, if it knows them."""
        known = self.potential.shortest_distances
        if known:
            met = {name: min(table[name] for table in (known, met) if name in table) for name in {**known, **met}}
        if known or self.config.init is None:
            self.potential.shortest_distances = met

    def _batches(self, epoch: int) -> list[Sequence[int]]:
        """Return the samples of every step of an epoch; they depend on nothing but seed and epoch."""
        settings = self.config.training
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.samples)).tolist()
        if settings.batch_edges is None:
            assert settings.batch_size is not None
            return split_batches(order, settings.batch_size)
        n_edges = [self.samples[i].edge_index.shape[1] for i in order]
        return [[order[place] for place in batch] for batch in batches_by_size(n_edges, settings.batch_edges)]

    def _warn_of_warmup(self) -> None:
        settings = self.config.training
        n_steps = settings.epochs * len(self._batches(0))
        if settings.warmup_steps >= n_steps:
            logger.warning(
                "warmup_steps is %d, and the run has %d steps, so the learning rate never reaches its peak; lower training.warmup_steps or "
                "raise training.epochs",
                settings.warmup_steps,
                n_steps,
            )

    def _choose_step(self) -> Step:
        settings = self.config.training
        # The choice must not depend on how much is left: a resumed run has to compute what the first one did.
        batches = self._batches(0)
        members = max(batches, key=len)
        share = members[: -(-len(members) // self.processes.size)]
        # What has the length 0 or 1 in the example has it in every batch of a compiled step.
        n_structures = 1 if settings.batch_size == 1 else 2
        if len(share) < n_structures or any(sum(sizes) < 2 for sizes in zip(*map(self._sizes, share), strict=True)):
            share = sorted(range(len(self.samples)), key=self._sizes, reverse=True)[: max(len(share), n_structures)]
        example = collate_samples([self.samples[i] for i in share])
        n_steps = settings.epochs * len(batches)
        return choose_step(self.potential.network, settings, example, self.with_stress, n_steps, self.names)[0]

    def _sizes(self, index: int) -> tuple[int, int]:
        """Return how many atoms and edges a sample has."""
        return len(self.samples[index].species), self.samples[index].edge_index.shape[1]

    def _gradients(self, function: Step, members: Sequence[int], seconds: float) -> list[torch.Tensor]:
        """Return the loss of a batch, the first process's seconds, how many want to stop, and the gradients."""
        n_labels = torch.stack([self.samples[i].n_labels.sum(dim=0) for i in members]).sum(dim=0)
        share = members[self.processes.rank :: self.processes.size]
        if share:
            loss_weights = self.weights[0].new_tensor(self.schedule.loss_weights)
            values = function(self.weights, loss_weights, *collate_samples([self.samples[i] for i in share], n_labels).tensors())
        else:
            values = [self.weights[0].new_zeros(()), *(torch.zeros_like(weight) for weight in self.weights)]
        own = [seconds if self.processes.is_first else 0.0, float(self.stop_requested)]
        if self.processes.size == 1:
            return [values[0], *(torch.tensor(value, dtype=torch.float64) for value in own), *values[1:]]
        parts = [values[0].view(1), torch.tensor(own).to(values[0]), *(value.flatten() for value in values[1:])]
        loss, seconds_of_first, stopped, rest = self.processes.sum(torch.cat(parts)).split([1, 1, 1, self.n_parameters])
        gradients = rest.split([weight.numel() for weight in self.weights])
        return [loss[0], seconds_of_first, stopped, *(part.view_as(weight) for part, weight in zip(gradients, self.weights, strict=True))]

    def _progress(self, epochs: float) -> float:
        """Return how much of the schedule is done after so many epochs or, where that is further, by wall time."""
        settings = self.config.training
        by_epochs = epochs / settings.epochs
        return max(by_epochs, self.seconds / (60 * settings.minutes)) if settings.minutes else by_epochs

    def _update(self, loss: torch.Tensor, gradients: list[torch.Tensor], progress: float) -> None:
        settings = self.config.training
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise EqpotError(self._divergence(f"loss {float(loss):.3g}"))
        self.rate = self.schedule.learning_rate(self.step, progress)
        self.optimizer.step(self.rate)
        self.step += 1
        update_average(self.average, self.parameters, self.step, settings.ema_decay)

    def _validate(self, loss: float) -> bool:
        """Evaluate the averaged weights, keep them if they are the best so far, write a checkpoint, and return whether they are."""
        current = [parameter.detach().clone() for parameter in self.parameters]
        _copy(self.average, self.parameters)
        share = slice(self.processes.rank, None, self.processes.size)
        self.errors = evaluate(self.potential, self.valid, share=share, sum_shares=self.processes.sum)
        if not math.isfinite(self.schedule.score(self.errors)):
            raise EqpotError(self._divergence("the validation errors are not finite"))
        stage = {"stage": self.schedule.stage} if self.config.training.stage_two else {}
        is_best = self.schedule.judge(self.errors)
        if is_best and self.processes.is_first:
            progress = {"epochs": self.epoch, "steps": self.step, "seed": self.config.seed, "validation": self.errors}
            save_potential(self.potential, self._file("potential.safetensors"), {**self.data_description, **progress})
        _copy(current, self.parameters)
        if self.processes.is_first:
            row = {"epoch": self.epoch, "step": self.step, "learning_rate": self.rate, "loss": loss, **stage, **self.errors}
            self.metrics_length = append_row(self._file("metrics.csv"), row)
            if self.events:
                write_events(self.events, row)
        self._write_checkpoint()
        return is_best

    def _divergence(self, sign: str) -> str:
        return f"The training diverged at step {self.step} ({sign}); lower training.learning_rate. The last checkpoint is in {self.folder}."

    def _find_checkpoint(self, resume: bool) -> bytes:
        """Return the bytes of the checkpoint to go on from, or none for a new run; ConfigError if the folder allows neither."""
        path = self._file("checkpoint.safetensors")
        if path.is_file() and (resume or self.processes.restarted):
            content = path.read_bytes()
            if not content:
                raise ModelFileError(f"The checkpoint {path} is empty; bring it back, or start the run anew in another folder.")
            return content
        if resume:
            raise ConfigError(f"There is no checkpoint in {self.folder} to resume from; remove the folder, if it exists, and start anew.")
        if self.folder.exists():
            raise ConfigError(f"The run folder {self.folder} exists; choose another output, remove it, or continue it with --resume.")
        return b""

    def _make_folder(self) -> None:
        """Make the run folder with its first checkpoint; a kill leaves none or a whole one."""
        with whole_folder(self.folder) as staging:
            values = json.loads(self.config.model_dump_json())
            text = yaml.safe_dump({**values, "data": bare_sources(values["data"])}, sort_keys=False)
            (staging / "config.yaml").write_text(text, encoding="utf-8")
            self._write_checkpoint(staging)

    def _write_checkpoint(self, folder: Path | None = None) -> None:
        if not self.processes.is_first:
            return
        folder = folder or self.folder
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter, average in zip(self.names, self.parameters, self.average, strict=True):
            tensors[f"parameter.{name}"], tensors[f"average.{name}"] = parameter, average
            for key, value in self.optimizer.state(parameter).items():
                tensors[f"optimizer.{name}.{key}"] = value
        state = {name: getattr(self, name) for name in _STATE} | self.schedule.state()
        append_row(folder / "timings.csv", {"step": self.step, "seconds": round(self.seconds, 3)})
        state.update(config=json.loads(self.config.model_dump_json()), data=self.data_description)
        write_checkpoint(folder / "checkpoint.safetensors", state, tensors)

    def _restore(self, content: bytes) -> None:
        path = self._file("checkpoint.safetensors")
        state, tensors = parse_checkpoint(content, path)
        with restoring(path):
            # Keys that came later have had their defaults.
            started = TrainConfig.model_validate(state["config"])
            described = {name: self.data_description.get(name) for name in state["data"]}
            old = {**json.loads(started.model_dump_json()), "data files": dict(state["data"])}
        differences = _differences(old, {**json.loads(self.config.model_dump_json()), "data files": described})
        if differences:
            raise ConfigError(
                f"The run in {self.folder} was started with other settings ({'; '.join(differences)}); resume with the same ones, or, to "
                f"train longer or on other data, start a new run with init: {self._file('potential.safetensors')}."
            )
        with restoring(path):
            restore_attributes(self, _STATE, state)
            self.schedule.restore(state)
            _copy([tensors[f"parameter.{name}"] for name in self.names], self.parameters)
            _copy([tensors[f"average.{name}"] for name in self.names], self.average)
            for name, parameter in zip(self.names, self.parameters, strict=True):
                prefix = f"optimizer.{name}."
                own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                self.optimizer.restore(parameter, own)
        if self.processes.is_first:
            remove_leftovers(self.folder)
            cut(self._file("metrics.csv"), self.metrics_length)
            self.seconds = resume_timings(self._file("timings.csv"), self.step)
        self.seconds = float(self.processes.sum(torch.tensor(self.seconds, dtype=torch.float64)))

    def _file(self, name: str) -> Path:
        return self.folder / name


def split_batches(order: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """Cut a sequence into batches; a last batch of one joins the one before.

    A batch of a single structure has another graph when compiled, and would be compiled again.
    """
    starts = list(range(0, len(order), batch_size))
    if len(starts) > 1 and batch_size > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    return [order[start:end] for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]


def _describe(config: TrainConfig, train: Sequence[Frame], valid: Sequence[Frame]) -> dict[str, Any]:
    """Return what the model file and the checkpoint say about the data, and about the potential that the run started from."""
    description = {
        "data_sha256": file_hash([entry.path for entry in (*config.data.train, *(config.data.valid or []))]),
        "training_frames": len(train),
        "validation_frames": len(valid),
    }
    if known := densities(train):
        description["densities_g_per_cm3"] = [min(known), max(known)]
    return description if config.init is None else {**description, "init_sha256": file_hash([model_path(config.init)])}


def _copy(values: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for value, target in zip(values, targets, strict=True):
            target.copy_(value)


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return "key: old -> new" for every value in which two nested dictionaries differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for name in {**old, **new} for line in _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)]
    return [] if old == new else [f"{key}: {old} -> {new}"]
