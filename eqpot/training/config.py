"""What a training run is told; every key with its type, default, bounds and help."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eqpot.data.labels import Units
from eqpot.data.sources import SourceConfig, fill_sources
from eqpot.network.config import NetworkConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the labelled frames are and how they are split."""

    train: list[SourceConfig] = Field(min_length=1, description="Data files: paths, or mappings with path, weight and keys of their own.")
    valid: list[SourceConfig] | None = Field(None, description="Validation files; by default frames are taken from `train`.")
    test: list[SourceConfig] | None = Field(
        None, description="Test files, of which the passport tells the errors; by default the validation frames."
    )
    n_train: int | None = Field(None, ge=1, description="Training frames; by default all that are left.")
    n_valid: int | None = Field(None, ge=1, description="Validation frames; by default 5 % of `train`, or all of `valid`.")
    split: Literal["random", "ordered"] = Field(
        "random", description="Take frames at random, or the first for training and the next for validation."
    )
    energy_key: str | None = Field("energy", description="Name of the energy in the files; null if there is none.")
    forces_key: str | None = Field("forces", description="Name of the forces in the files; null if there are none.")
    stress_key: str | None = Field("stress", description="Name of the stress in the files; frames may lack it.")
    virial_key: str | None = Field(None, description="Name of the virial, -V stress, to be used instead of a stress.")
    units: Units | None = Field(None, description="Units of the files; by default eV and Å, kcal/mol in npz files.")
    reference_energies: Literal["least_squares", "mean", "isolated_atoms", "zero", "keep"] | dict[str, float] = Field(
        "least_squares",
        description="Per-element energies, eV: fitted, the mean per atom, of isolated atoms in `train`, given by symbol, "
        "or those of `init` (new elements are fitted).",
    )
    cache: Path | None = Field(None, description="Folder where parsed frames and neighbour lists are kept for the next start.")

    @model_validator(mode="before")
    @classmethod
    def _fill_sources(cls, values: Any) -> Any:
        return fill_sources(values)


class StageTwo(_Section):
    """Weights of the loss that hold to the end of the run; those left out stay what they are."""

    start: float = Field(0.75, gt=0, lt=1, description="Share of the schedule at which it begins.")
    energy_weight: float | None = Field(None, ge=0, description="Weight of the error of the energy per atom.")
    forces_weight: float | None = Field(None, ge=0, description="Weight of the error of the forces.")
    stress_weight: float | None = Field(None, ge=0, description="Weight of the error of the virial per atom.")

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.energy_weight is None and self.forces_weight is None and self.stress_weight is None:
            raise ValueError("it changes no weight; give energy_weight, forces_weight or stress_weight")
        return self


class OptimizationConfig(_Section):
    """How the weights are found."""

    epochs: int = Field(500, ge=1, description="Passes over the training frames.")
    minutes: float | None = Field(None, gt=0, description="End the schedule after this wall time if the epochs take longer.")
    batch_size: int | None = Field(5, ge=1, description="Structures a step; null where batch_edges is given.")
    batch_edges: int | None = Field(
        None, ge=1, description="Edges (all atoms' neighbours) a step at most, in place of batch_size; a larger frame is a batch alone."
    )
    learning_rate: float = Field(4e-3, gt=0, description="Peak of the learning rate, after a linear warm-up.")
    schedule: Literal["cosine", "plateau"] = Field(
        "cosine", description="After the warm-up a cosine to zero, or a constant rate that falls where validations no longer get better."
    )
    plateau_factor: float = Field(0.5, gt=0, lt=1, description="Factor on the rate at a plateau; the run ends below 1e-3 of the peak.")
    plateau_patience: int = Field(10, ge=1, description="So many validations without a better one are a plateau.")
    warmup_steps: int = Field(500, ge=0, description="Steps of the warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of the weight matrices.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Decay of the moving average of the weights, which is what is kept.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    loss: Literal["mse", "huber", "norm"] = Field(
        "mse", description="Mean squares, Huber's function of every component, or norms of the force vectors (and so of the others)."
    )
    huber_delta: float = Field(0.01, gt=0, description="Error, in units of the root mean square force, from which Huber's loss is linear.")
    energy_weight: float = Field(10.0, ge=0, description="Weight of the error of the energy per atom.")
    forces_weight: float = Field(1.0, ge=0, description="Weight of the error of the forces.")
    stress_weight: float = Field(1.0, ge=0, description="Weight of the error of the virial per atom, V stress / n_atoms.")
    stage_two: StageTwo | None = Field(None, description="Other weights of the loss for the last part of the run.")
    freeze: list[str] = Field(
        [],
        description="Parameters that keep their values: patterns such as `radial.*`; one that begins with ! exempts, as in `!*readout*`.",
    )
    validate_every: int = Field(5, ge=1, description="Epochs between validations.")
    patience: int | None = Field(None, ge=1, description="End the run after so many validations without a better one.")
    checkpoint_minutes: float = Field(5.0, ge=0, description="Longest time between checkpoints; a validation writes one too.")
    compile: bool | None = Field(None, description="Compile the training step; by default for runs long enough to pay for it.")
    threads: int = Field(1, ge=1, le=1024, description="Threads of the training step; small batches gain nothing from more.")
    tensorboard: bool = Field(False, description="Write the rows of metrics.csv for TensorBoard too; needs eqpot[tensorboard].")

    @model_validator(mode="before")
    @classmethod
    def _choose_batches(cls, values: Any) -> Any:
        """Take the default of batch_size back where batch_edges is given."""
        if isinstance(values, dict) and values.get("batch_edges") is not None:
            return {"batch_size": None, **values}
        return values

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        if (self.batch_size is None) == (self.batch_edges is None):
            raise ValueError("give either batch_size or batch_edges, and null for the other")
        return self


class TrainConfig(_Section):
    """A whole training run."""

    output: Path = Field(description="Run folder; it must not exist yet.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the split, the initial weights and the order of the frames.")
    dtype: Literal["float32", "float64"] = Field("float32", description="Precision of the network.")
    device: str = Field("cpu", description="Device that trains.")
    init: Path | None = Field(None, description="Model file to start from; its network and scale are kept, and elements may be added.")
    data: DataConfig
    network: NetworkConfig = NetworkConfig()
    training: OptimizationConfig = OptimizationConfig()
