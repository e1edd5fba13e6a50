"""The training loop."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from eqpot.data import Frame, elements_of, file_hash, fit_reference_energies, fit_scale, is_isolated_atom, label_graphs, read_frames
from eqpot.errors import ConfigError, DataError, EqpotError
from eqpot.files import write_atomically
from eqpot.model_file import save_potential
from eqpot.network.build import build_network
from eqpot.potential import DTYPES, Potential, check_device
from eqpot.training.checkpoint import read_checkpoint, write_checkpoint
from eqpot.training.compiled import choose_step
from eqpot.training.config import TrainConfig
from eqpot.training.loss import collate_samples, make_sample
from eqpot.training.metrics import evaluate
from eqpot.training.optimizer import Optimizer, learning_rate, update_average

logger = logging.getLogger(__name__)

Report = Callable[[dict[str, Any]], None]
"""Called after every epoch with epoch, progress (0 to 1), loss, seconds, and the last validation errors if there are any."""


def read_split(config: TrainConfig) -> tuple[list[Frame], list[Frame]]:
    """Return training and validation frames as the configuration says; DataError when there are too few."""
    data = config.data
    frames = read_frames([entry.source() for entry in data.train], cache=data.cache)
    # Isolated atoms define the references: they are trained on, whatever the split, and not counted.
    apart = data.reference_energies == "isolated_atoms"
    isolated = [frame for frame in frames if apart and is_isolated_atom(frame.atoms)]
    frames = [frame for frame in frames if not (apart and is_isolated_atom(frame.atoms))]
    order = np.arange(len(frames))
    if data.split == "random":
        order = np.random.default_rng(config.seed).permutation(order)
    if data.valid is not None:
        valid = read_frames([entry.source() for entry in data.valid], cache=data.cache)
        if data.n_valid is not None and data.n_valid > len(valid):
            raise DataError(f"{data.n_valid} validation frames are asked for, and the files hold {len(valid)}; lower n_valid.")
        valid = valid[: data.n_valid]
        n_valid = 0
    else:
        n_valid = data.n_valid or max(1, round(0.05 * len(frames)))
    n_train = data.n_train if data.n_train is not None else len(frames) - n_valid
    if n_train < 1 or n_train + n_valid > len(frames):
        raise DataError(
            f"{n_train} training and {n_valid} validation frames are asked for, and the files hold {len(frames)}; lower n_train or n_valid."
        )
    if data.valid is None:
        valid = [frames[i] for i in order[n_train : n_train + n_valid]]
    train = [*(frames[i] for i in order[:n_train]), *isolated]
    unknown = set(elements_of(valid)) - set(elements_of(train))
    if unknown:
        raise DataError(
            f"The validation frames hold elements that the training frames lack (atomic numbers {sorted(unknown)}); split differently."
        )
    return train, valid


def new_potential(config: TrainConfig, frames: Sequence[Frame], average_neighbors: float) -> Potential:
    """Return a potential with fresh weights, and reference energies and scale fitted to the frames."""
    elements = elements_of(frames)
    references = fit_reference_energies(frames, config.data.reference_energies)
    scale = fit_scale(frames)
    torch.manual_seed(config.seed)
    network = build_network(config.network, len(elements), average_neighbors)
    return Potential(network, elements, torch.from_numpy(references), scale).to(config.device, DTYPES[config.dtype])


class Trainer:
    """A training run: its data, its weights and where it stands.

    The run folder receives config.yaml, metrics.csv, checkpoint.safetensors and potential.safetensors (the moving average of the
    weights, at its best validation).
    """

    def __init__(self, config: TrainConfig, resume: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the data and set everything up; ConfigError if the run folder exists (or, to resume, does not fit).

        clock: what `training.minutes` is measured with, in seconds; time.process_time compares runs on a busy machine fairly.
        """
        self.config = config
        self.clock = clock
        self.folder = config.output
        if resume and not self._file("checkpoint.safetensors").is_file():
            raise ConfigError(f"There is no checkpoint in {self.folder} to resume from; remove the folder, if it exists, and start anew.")
        if not resume and self.folder.exists():
            raise ConfigError(f"The run folder {self.folder} exists; choose another output, remove it, or continue it with --resume.")
        check_device(config.device)
        torch.set_num_threads(config.training.threads)
        train, valid = read_split(config)
        train_graphs = label_graphs(train, config.network.cutoff, config.data.cache)
        self.valid = label_graphs(valid, config.network.cutoff, config.data.cache)
        n_edges = sum(item.graph.edge_index.shape[1] for item in train_graphs)
        if n_edges == 0:
            raise DataError(
                f"No two atoms of the training frames are closer than the cutoff of {config.network.cutoff} Å; raise network.cutoff."
            )
        self.potential = new_potential(config, train, n_edges / sum(item.graph.n_atoms for item in train_graphs))
        self.samples = [make_sample(item, self.potential) for item in train_graphs]
        self.with_stress = any(frame.stress is not None for frame in train)
        self.data_description = {
            "data_sha256": file_hash([entry.path for entry in (*config.data.train, *(config.data.valid or []))]),
            "training_frames": len(train),
            "validation_frames": len(valid),
        }

        # The step differentiates with respect to leaves of its own; nothing else needs gradients.
        self.parameters = list(self.potential.network.requires_grad_(False).parameters())
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = Optimizer(self.potential.network, config.training)
        self.order = torch.Generator().manual_seed(config.seed)
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.best = math.inf
        self.errors: dict[str, float] = {}
        if resume:
            self._restore()
        else:
            self.folder.mkdir(parents=True)
            text = yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False)
            self._file("config.yaml").write_text(text, encoding="utf-8")
            self._write_checkpoint()

    def run(self, report: Report = lambda _: None) -> None:
        """Train to the end of the schedule."""
        settings = self.config.training
        steps_per_epoch = len(split_batches(range(len(self.samples)), settings.batch_size))
        example = collate_samples(self.samples[: settings.batch_size])
        # The choice must not depend on how much is left: a resumed run has to compute what the first one did.
        n_steps = settings.epochs * steps_per_epoch
        step_function, _ = choose_step(self.potential.network, settings, example, self.with_stress, n_steps)
        # Plain tensors that share the parameters' memory: a compiled step would be compiled again for the class Parameter.
        weights = [parameter.detach() for parameter in self.parameters]
        started = self.clock() - self.seconds
        while self._progress() < 1:
            permutation = torch.randperm(len(self.samples), generator=self.order).tolist()
            batches = split_batches(permutation, settings.batch_size)
            total = 0.0
            for index, members in enumerate(batches):
                batch = collate_samples([self.samples[i] for i in members])
                fraction = (self.epoch + index / len(batches)) / settings.epochs
                loss, *gradients = step_function(weights, *batch.tensors())
                self._update(loss, gradients, fraction)
                total += float(loss) * len(batch.counts)
                self.seconds = self.clock() - started
            self.epoch += 1
            if self.epoch % settings.validate_every == 0 or self._progress() >= 1:
                self._validate(total / len(permutation))
            report(
                {
                    "epoch": self.epoch,
                    "progress": self._progress(),
                    "loss": total / len(permutation),
                    "seconds": self.seconds,
                    **self.errors,
                }
            )

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    def _progress(self, fraction: float | None = None) -> float:
        """Return how much of the schedule is done: by epochs or, where that is further, by wall time."""
        settings = self.config.training
        by_epochs = self.epoch / settings.epochs if fraction is None else fraction
        return max(by_epochs, self.seconds / (60 * settings.minutes)) if settings.minutes else by_epochs

    def _update(self, loss: torch.Tensor, gradients: list[torch.Tensor], fraction: float) -> None:
        settings = self.config.training
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise EqpotError(self._divergence(f"loss {float(loss):.3g}"))
        self.optimizer.step(learning_rate(settings, self.step, self._progress(fraction)))
        self.step += 1
        update_average(self.average, self.parameters, self.step, settings.ema_decay)

    def _validate(self, loss: float) -> None:
        """Evaluate the averaged weights, keep them if they are the best so far, and write a checkpoint."""
        current = [parameter.detach().clone() for parameter in self.parameters]
        _copy(self.average, self.parameters)
        self.errors = evaluate(self.potential, self.valid)
        score = self._score(self.errors)
        if not math.isfinite(score):
            raise EqpotError(self._divergence("the validation errors are not finite"))
        if score < self.best:
            self.best = score
            training = {
                **self.data_description,
                "epochs": self.epoch,
                "steps": self.step,
                "seed": self.config.seed,
                "validation": self.errors,
            }
            save_potential(self.potential, self._file("potential.safetensors"), training)
        _copy(current, self.parameters)
        row = {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "learning_rate": self.optimizer.learning_rate,
            "loss": loss,
            **self.errors,
        }
        _append_row(self._file("metrics.csv"), row)
        self._write_checkpoint()

    def _divergence(self, sign: str) -> str:
        return f"The training diverged at step {self.step} ({sign}); lower training.learning_rate. The last checkpoint is in {self.folder}."

    def _score(self, errors: dict[str, float]) -> float:
        """Return the validation loss, with the weights of the training loss."""
        settings = self.config.training
        return (
            settings.energy_weight * errors["energy_rmse_mev_per_atom"] ** 2
            + settings.forces_weight * errors["force_rmse_mev_per_ang"] ** 2
            + settings.stress_weight * errors.get("virial_rmse_mev_per_atom", 0.0) ** 2
        )

    def _write_checkpoint(self) -> None:
        tensors = {"order": self.order.get_state()}
        for index, (parameter, average) in enumerate(zip(self.parameters, self.average, strict=True)):
            tensors[f"parameter.{index}"], tensors[f"average.{index}"] = parameter, average
            for name, value in self.optimizer.state(parameter).items():
                tensors[f"optimizer.{index}.{name}"] = value
        state = {
            "config": json.loads(self.config.model_dump_json()),
            "data": self.data_description,
            **{name: getattr(self, name) for name in ("epoch", "step", "seconds", "best", "errors")},
        }
        write_checkpoint(self._file("checkpoint.safetensors"), state, tensors)

    def _restore(self) -> None:
        state, tensors = read_checkpoint(self._file("checkpoint.safetensors"))
        settings = {**json.loads(self.config.model_dump_json()), "data files": self.data_description}
        differences = _differences({**state["config"], "data files": state["data"]}, settings)
        if differences:
            raise ConfigError(
                f"The run in {self.folder} was started with other settings ({'; '.join(differences)}); resume with the same ones."
            )
        for name in ("epoch", "step", "seconds", "best", "errors"):
            setattr(self, name, state[name])
        self.order.set_state(tensors.pop("order"))
        for index, (parameter, average) in enumerate(zip(self.parameters, self.average, strict=True)):
            with torch.no_grad():
                parameter.copy_(tensors[f"parameter.{index}"])
                average.copy_(tensors[f"average.{index}"])
            prefix = f"optimizer.{index}."
            remembered = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            self.optimizer.restore(parameter, remembered)
        _drop_rows_after(self._file("metrics.csv"), self.epoch)

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


def _copy(values: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for value, target in zip(values, targets, strict=True):
            target.copy_(value)


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return "key: old -> new" for every value in which two nested dictionaries differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for name in {**old, **new} for line in _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)]
    return [] if old == new else [f"{key}: {old} -> {new}"]


def _drop_rows_after(path: Path, epoch: int) -> None:
    """Drop rows that were written after the checkpoint: the resumed run writes them again."""
    if path.exists():
        header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_atomically(path, "".join([header, *(row for row in rows if int(row.split(",")[0]) <= epoch)]).encode())


def _append_row(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
