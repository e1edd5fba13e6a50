"""Hyperparameters of the reference form, under the names of the official code."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eqpot.config_file import explain
from eqpot.errors import ConfigError


class ReferenceConfig(BaseModel):
    """Hyperparameters of the three networks of Bekkers et al. (ICLR 2024); names and defaults are those of the official `Ponita`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input_dim: int = Field(ge=1, le=4096, description="Input channels of an atom: scalars, and one for each input vector.")
    hidden_dim: int = Field(ge=1, le=4096, description="Channels of a feature.")
    output_dim: int = Field(ge=0, le=4096, description="Scalar outputs.")
    num_layers: int = Field(ge=1, le=256, description="Interaction layers.")
    output_dim_vec: int = Field(0, ge=0, le=4096, description="Vector outputs.")
    radius: float | None = Field(None, gt=0, description="Cutoff of the window, Å; null: no window, every atom sees every other.")
    num_ori: int = Field(
        20,
        ge=-1,
        le=1024,
        description="Orientations of the fibre bundle; 0: positions only; -1: point cloud of positions and orientations.",
    )
    basis_dim: int | None = Field(None, ge=1, le=4096, description="Size of the kernel basis; null: hidden_dim.")
    degree: int = Field(3, ge=1, le=8, description="Highest power of the invariants.")
    widening_factor: int = Field(4, ge=1, le=64, description="Width of a layer's perceptron in units of hidden_dim.")
    layer_scale: float | None = Field(None, description="Initial value of the factor after the perceptron; null: no factor.")
    task_level: Literal["graph", "node"] = Field("graph", description="Whether outputs are summed over the atoms of a structure.")
    multiple_readouts: bool = Field(True, description="Read out after every layer, and not after the last alone.")

    @property
    def cutoff(self) -> float | None:
        """`radius`, under the name that a `Potential` asks for."""
        return self.radius

    @property
    def kernel_basis_size(self) -> int:
        return self.hidden_dim if self.basis_dim is None else self.basis_dim


def read_reference_config(values: Mapping[str, Any]) -> ReferenceConfig:
    """Return the hyperparameters among `values`; ConfigError if one is missing or impossible.

    Official configurations hold other entries too (seed, paths, settings of the training), which are passed over. A misspelled
    hyperparameter does not go unnoticed: names and shapes of the weights follow from the configuration and are compared.
    """
    known = {name: value for name, value in values.items() if name in ReferenceConfig.model_fields}
    try:
        return ReferenceConfig.model_validate(known)
    except ValidationError as error:
        raise ConfigError(f"The configuration of the reference network: {explain(ReferenceConfig, error)}.") from error
