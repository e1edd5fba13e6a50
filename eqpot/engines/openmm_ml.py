"""openmm-ml: what is behind `MLPotential("eqpot")`; openmm-ml imports it by itself (entry point `openmmml.potentials`)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import openmm
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from eqpot.engines.openmm import make_force


class EqpotImplFactory(MLPotentialImplFactory):  # type: ignore[misc]
    """Makes the implementation."""

    def createImpl(self, name: str, **args: Any) -> "EqpotImpl":  # noqa: ARG002, N802 (openmm-ml's interface)
        return EqpotImpl()


class EqpotImpl(MLPotentialImpl):  # type: ignore[misc]
    """`MLPotential("eqpot").createSystem(topology, model=PATH, dtype="float32")`, or `createMixedSystem` likewise."""

    def getMLLongRange(self) -> bool:  # noqa: N802 (openmm-ml's interface)
        """Nothing reaches farther than the network's blocks times the cutoff, so a mixed system keeps its own long-range terms."""
        return False

    def addForces(  # noqa: N802 (openmm-ml's interface)
        self,
        topology: Any,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,  # noqa: N803
        model: str | Path | None = None,
        dtype: Literal["float32", "float64"] = "float32",
        **_: Any,
    ) -> None:
        if model is None:
            raise ValueError('Give the model file: MLPotential("eqpot").createSystem(topology, model="potential.safetensors").')
        elements = [atom.element for atom in topology.atoms()]
        chosen = list(range(len(elements))) if atoms is None else list(atoms)
        if any(elements[index] is None for index in chosen):
            raise ValueError("Some particles of the topology have no element, so no potential knows them; leave them out of `atoms`.")
        numbers = [elements[index].atomic_number for index in chosen]
        periodic = topology.getPeriodicBoxVectors() is not None or system.usesPeriodicBoundaryConditions()
        force = make_force(model, numbers, periodic, dtype)
        force.setForceGroup(forceGroup)
        if atoms is not None:
            force.setParticles(chosen)
        system.addForce(force)
