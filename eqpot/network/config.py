"""Hyperparameters of the network: type, default, bounds and help in one place."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eqpot.network.orientations import DESIGN_DEGREES, required_degree


class NetworkConfig(BaseModel):
    """Hyperparameters of `FibreBundleNetwork`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cutoff: float = Field(5.0, gt=0, description="Longest distance between neighbours, Å.")
    n_blocks: int = Field(2, ge=1, le=8, description="Interaction blocks; each lets an atom see one cutoff further.")
    n_channels: int = Field(64, ge=1, description="Channels of a feature.")
    n_orientations: int = Field(24, description="Points of the orientation grid, a spherical design.")
    feature_degree: int = Field(2, ge=0, description="Highest angular degree of a feature.")
    kernel_degree: int = Field(3, ge=0, description="Highest angular degree of a convolution kernel.")
    n_bessel: int = Field(8, ge=1, description="Bessel functions of the edge length.")
    radial_width: int = Field(64, ge=1, description="Width of the radial perceptron.")

    @model_validator(mode="after")
    def _check_degrees(self) -> "NetworkConfig":
        if self.n_orientations not in DESIGN_DEGREES:
            known = ", ".join(str(n) for n in DESIGN_DEGREES)
            raise ValueError(f"n_orientations is {self.n_orientations}; designs are known for {known} points")
        if self.kernel_degree > 2 * self.feature_degree:
            raise ValueError(
                f"kernel_degree {self.kernel_degree} is above twice feature_degree {self.feature_degree}; such degrees cannot contribute"
            )
        needed, given = required_degree(self.feature_degree, self.kernel_degree), DESIGN_DEGREES[self.n_orientations]
        if given < needed:
            raise ValueError(
                f"feature_degree {self.feature_degree} with kernel_degree {self.kernel_degree} is exactly equivariant on a design of "
                f"degree {needed}, and {self.n_orientations} points have degree {given}; use more points or lower degrees"
            )
        return self
