"""The ASE calculator."""

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from eqpot.errors import ConfigError
from eqpot.model_file import load_potential
from eqpot.neighbors import build_graph


class EqpotCalculator(Calculator):
    """Energies, forces and stress of a trained potential for ASE Atoms.

    Results, float64: energy and free_energy (eV, equal: there is no smearing), energies [n_atoms] (eV, reference energies
    included), forces [n_atoms, 3] (eV/Å), stress [6] (eV/Å^3, Voigt order xx yy zz yz xz xy, tension positive). The stress exists
    for any structure whose cell has a volume, whatever its pbc, as in ASE's own calculators; elsewhere asking for
    it raises PropertyNotImplementedError.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (ASE's contract)
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012 (ASE's contract)

    def __init__(self, model: str | Path, device: str = "cpu", dtype: Literal["float32", "float64"] = "float32") -> None:
        """Load the model file.

        model: path of a potential.safetensors. dtype: precision of the network; geometry and sums are float64 in any case.
        Raises ModelFileError and ConfigError as `load_potential` does.
        """
        # ASE's constructor calls `set`.
        super().__init__(model=str(model), device=device, dtype=dtype)

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change model, device or dtype and load the potential anew; ConfigError for other names."""
        unknown = set(kwargs) - {"model", "device", "dtype"}
        if unknown:
            raise ConfigError(f"EqpotCalculator has no parameter {', '.join(sorted(unknown))}; it has model, device and dtype.")
        changed: dict[str, Any] = super().set(**kwargs)
        if changed:
            self.potential = load_potential(self.parameters["model"], self.parameters["device"], self.parameters["dtype"])
            self.reset()
        return changed

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes) -> None:
        """Compute everything from one reverse pass, or energies alone without one where nothing else is asked for.

        Raises UnknownElementError and NeighborError for structures it cannot treat.
        """
        super().calculate(atoms, properties, system_changes)
        forces = properties is None or not set(properties) <= {"energy", "free_energy", "energies"}
        structure = cast(Atoms, self.atoms)
        with torch.inference_mode(False):
            graph = build_graph(structure, self.potential.cutoff)
            evaluated = self.potential.evaluate(graph.to(self.potential.device), forces)
            result = {name: value.cpu().numpy() for name, value in evaluated.items()}
        self.results = {
            "energy": float(result["energy"][0]),
            "free_energy": float(result["energy"][0]),
            "energies": result["energies"],
        }
        if not forces:
            return
        self.results["forces"] = result["forces"]
        if structure.cell.rank == 3:
            self.results["stress"] = np.asarray(full_3x3_to_voigt_6_stress(result["stress"][0]))
        elif properties and "stress" in properties:
            raise PropertyNotImplementedError("The structure's cell has no volume, so it has no stress; give it a cell.")
