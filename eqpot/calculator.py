"""The ASE calculator."""

import copy
import logging
from collections.abc import Callable
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, Parameters, PropertyNotImplementedError, all_changes
from ase.outputs import Properties, all_outputs
from ase.stress import full_3x3_to_voigt_6_stress

from eqpot.distances import distance_table, unknown_distance
from eqpot.errors import ConfigError, UnknownElementError
from eqpot.graph import AtomGraph
from eqpot.hessian import hessian
from eqpot.model_file import load_potential, load_uncertainty
from eqpot.neighbors import VerletList
from eqpot.neighbors.search import near_graph
from eqpot.potential import Potential
from eqpot.uncertainty import Uncertainty

logger = logging.getLogger(__name__)

_Value = TypeVar("_Value")

_PARAMETERS = ("model", "device", "dtype", "skin")
_ENERGIES = ["energy", "free_energy", "energies"]
_STRESSES = ["stress", "stresses"]
_DEVIATIONS = {"energy_std": "energy", "energies_std": "energies", "forces_std": "forces", "stress_std": "stress"}


class EqpotCalculator(Calculator):
    """Energies, forces and stress of a trained potential, or of a committee of several, for ASE Atoms.

    Results, float64: energy and free_energy (eV, equal: there is no smearing), energies [n_atoms] (eV, reference energies
    included), forces [n_atoms, 3] (eV/Å), stress [6] (eV/Å^3, Voigt order xx yy zz yz xz xy, tension positive) and stresses
    [n_atoms, 6], which sum to the stress: what a pair of atoms contributes belongs half to each, over the volume of the cell. Stress
    exists for any structure whose cell has a volume, whatever its pbc, as in ASE's own calculators; elsewhere asking for
    it raises PropertyNotImplementedError.

    Atoms that are much nearer to each other than any in the training data are warned of, once.

    A committee's results are means over its potentials. The sample standard deviations (ddof = 1) of two or more are results
    too: energy_std, energies_std [n_atoms], forces_std [n_atoms, 3], stress_std [6]. A single potential has them where its file is
    calibrated (`eqpot.calibration`), and computes them where they are asked for. ASE has no names for these: its writers leave
    them out and `SinglePointCalculator` refuses them; `export_properties` returns the others.

    Energies asked for alone cost no reverse pass; forces and stress come together, and `stresses` only where they are asked for.
    Ask for the most expensive first, as ASE's optimizers and dynamics do. The structure's `info` has no part in the
    results. Copies, pickles and other processes give the same bits; one calculator serves one thread at a time, as its results are its
    state.
    """

    implemented_properties = [*_ENERGIES, "forces", *_STRESSES]  # noqa: RUF012 (ASE's contract)
    # By which ASE finds the calculator; databases record it.
    name = "eqpot"
    # ASE's command line gives other calculators a label.
    nolabel = True

    potentials: list[Potential]

    def __init__(
        self,
        model: str | Path | list[str | Path],
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        skin: float | Literal["auto"] = "auto",
    ) -> None:
        """Load the model file, or those of a committee.

        model: path of a model file, or the name of a shipped potential, or a list of them. dtype: precision of the networks;
        geometry and sums are float64 in any case. skin: how far beyond the cutoff pairs are kept from call to call, Å, see
        `VerletList`; it changes speed and memory, never a result. Raises ModelFileError and ConfigError as `load_potential` does, and
        ConfigError for an empty list.
        """
        self._looked_at: np.ndarray | None = None
        # ASE's constructor calls `set`.
        super().__init__(model=model, device=device, dtype=dtype, skin=skin)

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change model, device or dtype, for which the potentials are loaded anew, or skin. Nothing changes where it fails.

        Raises ConfigError for other names, and what the constructor raises.
        """
        unknown = set(kwargs) - set(_PARAMETERS)
        if unknown:
            raise ConfigError(f"EqpotCalculator has no parameter {', '.join(sorted(unknown))}; it has {', '.join(_PARAMETERS)}.")
        if "model" in kwargs:
            model = kwargs["model"]
            kwargs["model"] = [str(path) for path in model] if isinstance(model, list | tuple) else str(model)
        # Parameters stay JSON.
        if "device" in kwargs:
            kwargs["device"] = str(kwargs["device"])
        if isinstance(kwargs.get("skin"), Real):
            kwargs["skin"] = float(kwargs["skin"])
        changed = {name: value for name, value in kwargs.items() if self.parameters.get(name, ...) != value}
        if "model" in changed and not changed["model"]:
            raise ConfigError("The list of model files is empty; a committee needs at least one.")
        if changed:
            # A new object: a shallow copy of the calculator keeps the old one.
            parameters = Parameters({**self.parameters, **changed})
            paths = _paths(parameters["model"])
            if changed.keys() == {"skin"}:
                potentials, uncertainty = self.potentials, self.uncertainty
            else:
                potentials = [load_potential(path, parameters["device"], parameters["dtype"]) for path in paths]
                uncertainty = load_uncertainty(paths[0]) if len(paths) == 1 else None
            self._lists = {potential.cutoff: VerletList(potential.cutoff, parameters["skin"]) for potential in potentials}
            self.potentials = potentials
            self.parameters = parameters
            self.uncertainty = uncertainty
            self._looks_at_distances = bool(potentials[0].shortest_distances)
        return changed

    def __getstate__(self) -> dict[str, Any]:
        # Potentials go along, as many bytes as in their files: where a pickle is opened the path may lead to another file, or none.
        # Lists change from call to call: copies have their own.
        return self.__dict__ | {"_lists": {cutoff: copy.copy(verlet) for cutoff, verlet in self._lists.items()}, "_looked_at": None}

    @property
    def uncertainty(self) -> Uncertainty | None:
        """What gives a single potential its standard deviations; None where it is not calibrated, and for a committee."""
        return self._uncertainty

    @uncertainty.setter
    def uncertainty(self, uncertainty: Uncertainty | None) -> None:
        self._uncertainty = uncertainty
        known = set(_DEVIATIONS.values()) if len(self.potentials) > 1 else {*uncertainty.quantities} if uncertainty else set()
        deviations = [name for name, mean in _DEVIATIONS.items() if mean in known]
        self.implemented_properties = [*type(self).implemented_properties, *deviations]
        self.reset()

    @property
    def skin(self) -> float:
        """The skin in use, Å; 0 where pairs are searched at every call, infinity where all pairs of a small molecule are kept."""
        return max(verlet.skin for verlet in self._lists.values())

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:  # noqa: ARG002 (ASE's contract)
        """Return what has changed since the last calculation: positions, numbers, cell or pbc, to the last bit.

        ASE's own comparison, made three times a step of its dynamics, is slow beside the network on a small molecule.
        """
        if self.atoms is None:
            return [*all_changes]
        before, now = _state(self.atoms), _state(atoms)
        return [name for name, array in now.items() if array.tobytes() != before[name].tobytes()]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,  # noqa: ARG002 (ASE's contract)
    ) -> None:
        """Compute what `properties` need in one evaluation of every potential; energies, forces and stress by default.

        Raises UnknownElementError and NeighborError for structures it cannot treat, ConfigError where there is no structure, and
        PropertyNotImplementedError for the stress of a structure whose cell has no volume. Earlier results stay where it fails.
        """
        wanted = {_DEVIATIONS.get(name, name) for name in properties or ["forces"]}
        structure = self._structure(atoms)
        has_stress = _has_volume(structure)
        if not has_stress and not wanted.isdisjoint(_STRESSES):
            raise PropertyNotImplementedError("The structure's cell has no volume, so it has no stress; give it a cell.")
        forces, stresses = not wanted <= set(_ENERGIES), "stresses" in wanted
        uncertainty = self.uncertainty if not _DEVIATIONS.keys().isdisjoint(properties or []) else None

        def evaluate(potential: Potential, graph: AtomGraph) -> dict[str, np.ndarray]:
            deviations = uncertainty.deviations(potential, graph, forces) if uncertainty else {}
            found = _arrays(potential.evaluate(graph, forces, stresses), has_stress)
            return found | {f"{name}_std": value for name, value in _arrays(deviations, has_stress).items()}

        members = self._each(structure, evaluate)
        names, results = list(members[0]), dict[str, Any](members[0])
        if len(members) > 1:
            results = {name: np.mean([member[name] for member in members], axis=0) for name in names}
            deviations = {name: [member[mean] for member in members] for name, mean in _DEVIATIONS.items() if mean in names}
            results |= {name: np.std(values, axis=0, ddof=1) for name, values in deviations.items()}
        results = {name: float(value) if value.ndim == 0 else value for name, value in results.items()}
        # ASE's get_property has copied the structure already.
        if atoms is not None and self.check_state(atoms):
            self.atoms = atoms.copy()
        self.results = {**results, "free_energy": results["energy"]}

    def get_hessian(self, atoms: Atoms | None = None) -> np.ndarray:
        """Return the second derivatives of the energy, [n_atoms, 3, n_atoms, 3] float64, eV/Å^2, symmetric, as VibrationsData takes them.

        They are analytic, in the calculator's dtype, and know no constraints; of a periodic structure those at the Gamma point, of a
        committee the mean. Every column costs several evaluations without the fused kernel; where there is one, `ase.vibrations`
        and `ase.phonons`, which displace atoms, are faster. Errors as in `calculate`.
        """
        matrices = self._each(self._structure(atoms), lambda potential, graph: hessian(potential, graph).cpu().numpy(), near=True)
        return np.asarray(np.mean(matrices, axis=0))

    def export_properties(self) -> Properties:
        """Return the results that ASE has names for."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def _structure(self, atoms: Atoms | None) -> Atoms:
        structure: Atoms | None = self.atoms if atoms is None else atoms
        if structure is None:
            raise ConfigError("The calculator has seen no structure yet; pass it one.")
        return structure

    def _each(self, structure: Atoms, function: Callable[[Potential, AtomGraph], _Value], near: bool = False) -> list[_Value]:
        """Return what `function` makes of every potential and the structure's graph for its cutoff, with more edges unless `near`."""
        values = []
        with torch.inference_mode(False):
            device = self.potentials[0].device
            graphs = {cutoff: verlet.graph(structure, device, near) for cutoff, verlet in self._lists.items()}
            for path, potential in zip(_paths(self.parameters["model"]), self.potentials, strict=True):
                try:
                    values.append(function(potential, graphs[potential.cutoff]))
                except UnknownElementError as error:
                    if len(self.potentials) == 1:
                        raise
                    raise UnknownElementError(f"{path}: {error}") from error
            self._look_at_distances(structure, graphs)
        return values

    def _look_at_distances(self, structure: Atoms, graphs: dict[float, AtomGraph]) -> None:
        """Warn, once, of atoms that are nearer than any in the training data; looks where something moved by 0.1 Å since the last look."""
        potential = self.potentials[0]
        if not self._looks_at_distances:
            return
        places, before = np.concatenate([structure.positions.flat, structure.cell.array.flat, structure.numbers]), self._looked_at
        if before is not None and before.shape == places.shape and abs(places - before).max() < 0.1:
            return
        self._looked_at = places
        # Elements that never met in the training data may be beyond the cutoff of each other.
        graph = near_graph(graphs[potential.cutoff], potential.cutoff)
        sentence = unknown_distance(graph, _table(tuple(potential.shortest_distances.items())).to(graph.numbers.device))
        if sentence is not None:
            logger.warning(sentence)
            self._looks_at_distances = False


@cache
def _table(distances: tuple[tuple[str, float], ...]) -> torch.Tensor:
    """Return `distance_table`; not kept in the calculator, whose pickles it would fill."""
    return distance_table(dict(distances))


def _paths(model: str | list[str]) -> list[str]:
    return [model] if isinstance(model, str) else model


def _has_volume(atoms: Atoms) -> bool:
    """Whether the lattice vectors span space; flat to rounding is flat."""
    if not atoms.cell.array.any():
        return False
    lengths = atoms.cell.lengths()
    return bool(lengths.all() and abs(np.linalg.det(atoms.cell.array / lengths[:, None])) > 1e-8)


def _state(atoms: Atoms) -> dict[str, np.ndarray]:
    """Return what results depend on, under ASE's names."""
    return {"positions": atoms.positions, "numbers": atoms.numbers, "cell": atoms.cell.array, "pbc": atoms.pbc}


def _arrays(evaluated: dict[str, torch.Tensor], has_stress: bool) -> dict[str, np.ndarray]:
    """Return the results of one structure in ASE's shapes, without stresses where there are none."""
    arrays = {name: value.cpu().numpy() for name, value in evaluated.items() if has_stress or name not in _STRESSES}
    arrays |= {name: np.asarray(full_3x3_to_voigt_6_stress(arrays[name])) for name in _STRESSES if name in arrays}
    return arrays | {name: arrays[name][0] for name in ("energy", "stress") if name in arrays}
