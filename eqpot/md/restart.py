"""Restart files: everything a simulation needs to go on as if it had not stopped, float64, apart from trajectories."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.constraints import FixAtoms

from eqpot.checkpoint import parse_checkpoint, restoring, write_checkpoint
from eqpot.errors import ConfigError
from eqpot.md.settings import Settings
from eqpot.md.simulation import Past, Simulation
from eqpot.md.state import State
from eqpot.md.watchdog import Memory
from eqpot.potential import Potential
from eqpot.uncertainty import Uncertainty

_PLAIN = [field.name for field in fields(State) if field.name not in ("bath", "step")]


def save_restart(path: Path, simulation: Simulation, extra: Mapping[str, Any]) -> None:
    """Write the state of a simulation and a JSON-able mapping, atomically."""
    state, function = simulation.state, simulation.force_function
    tensors = {name: getattr(state, name) for name in _PLAIN}
    tensors |= {f"bath.{name}": values for name, values in state.bath.items()}
    tensors |= {"numbers": function.numbers, "pbc": function.pbc, "degrees_of_freedom": simulation.degrees_of_freedom}
    tensors["has_masses"] = torch.tensor([system.has("masses") for system in simulation.systems])
    header = {
        "step": state.step,
        "settings": json.loads(simulation.settings.model_dump_json()),
        "potential": weights_hash(simulation.potential),
        "watchdog": asdict(simulation.watchdog.memory),
    }
    write_checkpoint(path, {**header, "extra": dict(extra)}, tensors)


def load_restart(
    path: Path,
    potential: Potential,
    settings: Settings | None = None,
    uncertainty: Uncertainty | None = None,
    committee: Sequence[Potential] = (),
) -> tuple[Simulation, dict[str, Any]]:
    """Return the simulation as it was, and the extra mapping; ConfigError if the potential or the settings are not those of the file.

    ModelFileError for a damaged file.

    settings: by default those of the file. More steps than it has are allowed; with fewer the run goes on to those of the file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"There is no restart file {path}; check the folder, or start the run anew.") from error
    header, tensors = parse_checkpoint(content, path)
    with restoring(path):
        stored, potential_hash = Settings(**header["settings"]), header["potential"]
    if settings is not None:
        # A run that was made longer has its first number of steps in config.yaml.
        settings = settings.model_copy(update={"steps": max(settings.steps, stored.steps)})
    if settings is not None and (differences := _differences(stored, settings)):
        raise ConfigError(f"The run of {path} was started with other settings ({'; '.join(differences)}); resume with the same ones.")
    if weights_hash(potential) != potential_hash:
        raise ConfigError(f"The run of {path} was started with another potential, or with another dtype; resume with the same one.")
    with restoring(path):
        tensors = {name: values.to(potential.device) for name, values in tensors.items()}
        bath = {name.removeprefix("bath."): values for name, values in tensors.items() if name.startswith("bath.")}
        state = State(**{name: tensors[name] for name in _PLAIN}, bath=bath, step=header["step"])
        past = Past(state, tensors["degrees_of_freedom"], Memory(**header["watchdog"]))
        return Simulation(_systems(tensors), potential, settings or stored, uncertainty, committee, past), dict(header["extra"])


def weights_hash(potential: Potential) -> str:
    """Return a hash of what the energies depend on, with its dtype."""
    digest = hashlib.sha256(f"{potential.dtype} {potential.elements} {float(potential.scale)!r} {potential.cutoff!r}".encode())
    for name, values in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    digest.update(potential.reference_energies.cpu().numpy().tobytes())
    return digest.hexdigest()


def _differences(stored: Settings, asked: Settings) -> list[str]:
    names = [name for name in Settings.model_fields if name != "steps" and getattr(stored, name) != getattr(asked, name)]
    return [f"{name}: {getattr(stored, name)} -> {getattr(asked, name)}" for name in names]


def _systems(tensors: Mapping[str, torch.Tensor]) -> list[Atoms]:
    arrays = {name: values.cpu().numpy() for name, values in tensors.items()}
    systems = []
    for index in range(len(arrays["cells"])):
        own = arrays["batch"] == index
        atoms = Atoms(
            arrays["numbers"][own],
            arrays["positions"][own],
            cell=arrays["cells"][index],
            pbc=arrays["pbc"][index],
            masses=arrays["masses"][own, 0] if arrays["has_masses"][index] else None,
            velocities=arrays["velocities"][own],
        )
        held = arrays["mobile"][own, 0] == 0
        if held.any():
            atoms.set_constraint(FixAtoms(mask=held))
        systems.append(atoms)
    return systems
