"""Hyperparameters of the network: type, default, bounds and help in one place."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eqpot.network.orientations import DESIGN_DEGREES, required_degree


class NetworkConfig(BaseModel):
    """Hyperparameters of the network that `build_network` makes.

    Upper bounds lie far beyond what is of use: they turn slips, and damaged model files, into a sentence where memory would run out.
    A recipe can change the geometry alone: settings of the others have no effect there, as their descriptions say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    geometry: Literal["fibre_bundle", "point_cloud", "position"] = Field(
        "fibre_bundle",
        description="Where features live: at atoms and a grid of orientations, at edges, or at atoms alone.",
    )
    block: Literal["exact", "pointwise"] = Field(
        "exact",
        description="Exactly equivariant, or the paper's perceptron at every orientation, which is so approximately (fibre bundle only).",
    )
    cutoff: float = Field(5.0, gt=0, le=100, description="Longest distance between neighbours, Å.")
    n_blocks: int = Field(2, ge=1, le=8, description="Interaction blocks; each lets an atom see one cutoff further.")
    n_channels: int = Field(64, ge=1, le=4096, description="Channels of a feature.")
    n_orientations: int = Field(24, description="Points of the orientation grid, a spherical design (fibre bundle only).")
    feature_degree: int = Field(
        2, ge=0, le=16, description="Highest angular degree of a feature, or of the pointwise fibre kernel (fibre bundle only)."
    )
    kernel_degree: int = Field(3, ge=0, le=16, description="Highest angular degree of a kernel, but for the first (not for positions).")
    n_bessel: int = Field(8, ge=1, le=256, description="Bessel functions of the edge length.")
    radial_width: int = Field(64, ge=1, le=4096, description="Width of the radial perceptron.")
    widening: int = Field(4, ge=1, le=64, description="Width of a block's perceptron in channels (all but the exact fibre bundle).")
    rotation_average: Literal[1, 12, 24, 60] = Field(
        1, description="Average the energy over so many rotations: the group of the tetrahedron, cube or icosahedron (pointwise only)."
    )

    @model_validator(mode="after")
    def _check_degrees(self) -> "NetworkConfig":
        if self.block == "pointwise" and self.geometry != "fibre_bundle":
            raise ValueError(f"block pointwise belongs to geometry fibre_bundle; {self.geometry} is exactly equivariant without it")
        if self.rotation_average > 1 and self.block != "pointwise":
            raise ValueError(f"rotation_average {self.rotation_average} changes nothing but block pointwise; leave it at 1")
        if self.geometry != "fibre_bundle":
            return self
        if self.n_orientations not in DESIGN_DEGREES:
            known = ", ".join(str(n) for n in DESIGN_DEGREES)
            raise ValueError(f"n_orientations is {self.n_orientations}; designs are known for {known} points")
        if self.block == "pointwise":
            return self
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
