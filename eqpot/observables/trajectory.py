"""Trajectories as arrays, and positions that follow atoms through the walls of the cell."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.cell import Cell

from eqpot.errors import DataError, short
from eqpot.units import FEMTOSECOND, GRAM_PER_CM3

_FARTHEST = 1 / 3
"""Part of the cell's width that an atom may seem to move between frames. The image it takes is a guess from 1/2 on, and where atoms
move as far as that some are seen between 1/3 and 1/2."""

_NAMES = ("trajectory.extxyz", "trajectory.traj", "trajectory.h5md")


@dataclass(frozen=True)
class Trajectory:
    """Frames of the same atoms at even intervals of time.

    numbers [n_atoms]; masses [n_atoms], amu; positions [n_frames, n_atoms, 3], Å, wrapped or not; velocities [n_frames, n_atoms, 3],
    Å/fs, or None; cells [n_frames, 3, 3], rows the lattice vectors, Å; pbc [3]; times [n_frames], fs. All of it lies in memory.
    """

    numbers: np.ndarray
    masses: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None
    cells: np.ndarray
    pbc: np.ndarray
    times: np.ndarray

    @property
    def interval(self) -> float:
        """Time between frames, fs; DataError for a single frame."""
        if len(self.times) < 2:
            raise DataError("A trajectory of one frame has no interval; write more frames.")
        return float((self.times[-1] - self.times[0]) / (len(self.times) - 1))

    def between(self, begin: float, end: float = np.inf) -> "Trajectory":
        """Return the frames from `begin` to `end`, both included, in fs."""
        # Times are sums of rounded steps.
        return self.at(slice(*np.searchsorted(self.times, (begin - 1e-6, end + 1e-6)).tolist()))

    def at(self, frames: slice | np.ndarray) -> "Trajectory":
        """Return the frames of these numbers."""
        velocities = None if self.velocities is None else self.velocities[frames]
        return replace(self, positions=self.positions[frames], velocities=velocities, cells=self.cells[frames], times=self.times[frames])

    @property
    def held(self) -> np.ndarray:
        """Which atoms stand still in all frames, as those that are fixed do; [n_atoms] bool."""
        return np.asarray((self.positions == self.positions[0]).all(axis=(0, 2)))

    def at_rest(self) -> "Trajectory":
        """Return the trajectory unwrapped and seen from its centre of mass, in positions and velocities; errors as in `unwrap`.

        Where atoms are held, they are what motion is seen from: momentum is not conserved, and the centre of mass moves with the others.
        """
        weights = (self.masses / self.masses.sum())[:, None]
        positions = unwrap(self.positions, self.cells, self.pbc)
        if len(self.times) > 1 and self.held.any():
            return replace(self, positions=positions)
        positions = positions - (weights * positions).sum(axis=1, keepdims=True)
        velocities = self.velocities
        if velocities is not None:
            velocities = velocities - (weights * velocities).sum(axis=1, keepdims=True)
        return replace(self, positions=positions, velocities=velocities)

    @classmethod
    def from_frames(cls, frames: Iterable[Atoms], interval: float | None = None) -> "Trajectory":
        """Collect ASE frames; interval: time between them in fs, by default from their `info["time_fs"]`.

        A last frame that breaks the even interval, as a run's end may, is left out. Raises DataError for no frame, atoms that change, an
        uneven or unknown interval, and values that are not finite.
        """
        frames = iter(frames)
        first = next(frames, None)
        if first is None:
            raise DataError("The trajectory has no frames; name one that has.")
        positions, velocities, cells, times = [], [], [], []
        for number, atoms in enumerate(chain([first], frames)):
            if not np.array_equal(atoms.numbers, first.numbers):
                raise DataError(f"The atoms of frame {number} are not those of frame 0; give a trajectory of the same atoms in one order.")
            positions.append(atoms.positions)
            velocities.append(atoms.get_velocities() * FEMTOSECOND if atoms.has("momenta") else None)
            cells.append(atoms.cell.array)
            times.append(number * interval if interval is not None else float(atoms.info.get("time_fs", np.nan)))
        moving = None if any(velocity is None for velocity in velocities) else np.array(velocities)
        return cls(
            first.numbers.copy(), first.get_masses(), np.array(positions), moving, np.array(cells), first.pbc.copy(), np.array(times)
        )._checked()  # fmt: skip

    @classmethod
    def from_h5md(cls, path: str | Path, interval: float | None = None) -> "Trajectory":
        """Read an H5MD file (de Buyl, Colberg, Höfling 2014) that has one group of particles, in Å, Å/fs and fs as eqpot writes them.

        Masses default to those of the elements. Raises DataError as `from_frames`, for other units, for what is missing, and without h5py.
        """
        try:
            import h5py  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise DataError("H5MD trajectories need h5py; install eqpot[h5md].") from error
        with h5py.File(path) as file:
            groups = list(file.get("particles", {}).values())
            if len(groups) != 1:
                raise DataError(f"The file has {len(groups)} groups of particles; give one that has a single group.")
            particles = groups[0]
            positions = _h5md_values(particles, "position", "Angstrom")
            if positions is None or "species" not in particles:
                raise DataError("The file lacks the position or the species of its particles; both are needed.")
            numbers = particles["species"][:].astype(int)
            masses = particles["mass"][:] if "mass" in particles else Atoms(numbers).get_masses()
            velocities = _h5md_values(particles, "velocity", "Angstrom fs-1")
            edges = _h5md_values(particles, "box/edges", "Angstrom")
            times = particles["position/time"][:] if interval is None else interval * np.arange(len(positions))
            pbc = np.array([kind in ("periodic", b"periodic") for kind in particles["box"].attrs["boundary"]])
        # The rows of a frame that is being written may not be there yet.
        n_frames = min(len(rows) for rows in (positions, velocities, edges, times) if rows is not None)
        if n_frames == 0:
            raise DataError("The trajectory has no frames; name one that has.")
        cells = np.zeros((n_frames, 3, 3)) if edges is None else edges[:n_frames]
        moving = None if velocities is None else velocities[:n_frames]
        return cls(numbers, masses, positions[:n_frames], moving, cells, pbc, times[:n_frames])._checked()

    def _checked(self) -> "Trajectory":
        """Return the frames at even intervals; DataError if these are not all but the last, or values are not finite."""
        found = self.at(slice(_even(self.times)))
        if not (np.isfinite(found.positions).all() and (found.velocities is None or np.isfinite(found.velocities).all())):
            raise DataError("The positions or velocities of the trajectory hold NaN or infinity; cut it before they do.")
        return found


def read_trajectories(folder: str | Path) -> list[Trajectory]:
    """Read the trajectory of every system of a run folder of `eqpot md`; DataError as in `read_trajectory`."""
    return [read_trajectory(file) for file in _files(Path(folder))]


def read_trajectory(path: str | Path, interval: float | None = None) -> Trajectory:
    """Read a run folder of `eqpot md` with one system, an H5MD file, or any trajectory that ASE reads.

    interval: time between frames in fs, where the frames have no `info["time_fs"]`. DataError as in `Trajectory.from_frames`, for a
    file that is missing or unreadable, and for a folder of several systems.
    """
    file = Path(path)
    if file.is_dir():
        files = _files(file)
        if len(files) > 1:
            raise DataError(f"The folder {file} holds {len(files)} systems; name the file of one, or use read_trajectories.")
        file = files[0]
    try:
        if file.suffix in (".h5md", ".h5"):
            return Trajectory.from_h5md(file, interval)
        return Trajectory.from_frames(ase.io.iread(file, ":"), interval)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    except Exception as error:
        raise DataError(f"{file} cannot be read as a trajectory ({short(error)}); if its end is broken, cut the last frame off.") from error


def unwrap(positions: np.ndarray, cells: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Return positions [n_frames, n_atoms, 3] that follow each atom through the walls of the cell, from where it is in frame 0.

    r(t+1) = r(t) + [s(t+1) - s(t) - n] (h(t) + h(t+1)) / 2, with s the fractional coordinates, h the cell [3, 3] and n the integers nearest
    to the difference along periodic directions. The breathing of a cell at constant pressure moves no atom this way, which other
    schemes let grow into diffusion (von Bülow, Bullerjahn, Hummer, J. Chem. Phys. 153, 021101 (2020)). In an open structure nothing
    changes. cells: [n_frames, 3, 3]; pbc [3]. Raises DataError where an atom moves more than a third of the cell's width between frames,
    from where its image is a guess.
    """
    periodic = np.asarray(pbc, dtype=bool)
    if not periodic.any() or len(positions) < 2:
        return np.array(positions)
    # Open directions may have no lattice vector.
    complete = cells if np.linalg.det(cells).all() else np.array([Cell(cell).complete().array for cell in cells])
    fractional = np.einsum("fai,fij->faj", positions, np.linalg.inv(complete))
    steps = np.diff(fractional, axis=0)
    steps[..., periodic] -= np.round(steps[..., periodic])
    farthest = abs(steps[..., periodic]).max(axis=(1, 2))
    if farthest.max() > _FARTHEST:
        frame = int(np.argmax(farthest > _FARTHEST))
        atom = int(abs(steps[frame][:, periodic]).max(axis=1).argmax())
        raise DataError(
            f"Atom {atom} moves {farthest[frame]:.2f} of the cell's width from frame {frame} to {frame + 1}, so its image cannot be told; "
            "write frames more often."
        )
    moved = np.einsum("fai,fij->faj", steps, (complete[1:] + complete[:-1]) / 2)
    return np.concatenate([positions[:1], positions[:1] + np.cumsum(moved, axis=0)])


def density(masses: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the densities [n_frames] in g/cm^3 of masses [n_atoms] in amu in cells [n_frames, 3, 3] in Å."""
    return masses.sum() / abs(np.linalg.det(cells)) / GRAM_PER_CM3


def _files(folder: Path) -> list[Path]:
    """Return the trajectories of a run folder, one a system, of the first format that can be read."""
    for name in _NAMES:
        stem, suffix = name.split(".")
        if files := [folder / name] if (folder / name).is_file() else sorted(folder.glob(f"{stem}-*.{suffix}")):
            return files
    raise DataError(f"The folder {folder} holds no {' or '.join(_NAMES)}; name a run folder of `eqpot md` or a file.")


def _h5md_values(particles: Any, name: str, unit: str) -> np.ndarray | None:
    """Return the values of an H5MD element in double precision, one row a frame, or None if there is none; DataError for other units."""
    if name not in particles:
        return None
    values = particles[f"{name}/value"]
    found = values.attrs.get("unit", "")
    if (found.decode() if isinstance(found, bytes) else found) != unit:
        raise DataError(f"The unit of {name} is {found!r}; {unit!r} is read.")
    return np.asarray(values[:], dtype=float)


def _even(times: np.ndarray) -> int:
    """Return how many frames are evenly spaced: all, or all but the last."""
    if np.isnan(times).any():
        raise DataError(f'Frame {int(np.argmax(np.isnan(times)))} has no `info["time_fs"]`; give the interval between frames.')
    steps = np.diff(times)
    if len(steps) == 0:
        return len(times)
    uneven = np.nonzero(abs(steps - steps[0]) > 1e-4 * abs(steps[0]))[0]
    if steps[0] <= 0 or (len(uneven) and uneven[0] < len(steps) - 1):
        frame = int(uneven[0]) + 1 if len(uneven) else 1
        raise DataError(f"Frame {frame} is {steps[frame - 1]:g} fs after the one before, others are {steps[0]:g} fs; give even intervals.")
    return len(times) - len(uneven)
