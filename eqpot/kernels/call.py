"""What a call of the compiled kernel passes: the structures of fibre_bundle.c, memory to work in, and the exchange of ghosts."""

import ctypes

import torch

from eqpot.ghosts import GhostExchange
from eqpot.network.config import NetworkConfig

MAX_BLOCKS = 8
Pointer = ctypes.c_void_p
MATRICES = (
    *("message_mixing", "message_mixing_t", "self_mixing", "self_mixing_t", "factors", "factors_t", "gates", "gates_t", "gate_bias"),
    *("update", "update_t", "readout", "readout_t", "readout_bias", "energy_weight"),
)


class Block(ctypes.Structure):
    """Weights of a block."""

    _fields_ = [*((name, Pointer) for name in MATRICES), ("energy_bias", ctypes.c_double)]


class Model(ctypes.Structure):
    """A network."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_blocks", "n_species")),
        *((name, ctypes.c_double) for name in ("cutoff", "inverse_spacing")),
        *((name, Pointer) for name in ("orientations", "synthesis", "harmonic_norms", "embedding", "tables")),
        ("blocks", Block * MAX_BLOCKS),
    ]


class Structures(ctypes.Structure):
    """A batch of structures, and what is wanted of it."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_structures", "n_edges")),
        *((name, ctypes.c_double) for name in ("scale", "closest")),
        *((name, Pointer) for name in ("reference_energies", "species", "batch", "edges", "shifts", "positions", "cells")),
        *((name, Pointer) for name in ("source", "target", "vectors", "gradient", "energy", "forces", "stress")),
    ]


Exchange = ctypes.CFUNCTYPE(None, Pointer, Pointer, ctypes.c_int64, ctypes.c_int)
NO_EXCHANGE = Exchange()
NOT_FINITE, NOT_SORTED, NO_TABLE, TOO_CLOSE, NO_ATOM = 1, 2, 4, 8, 16
"""What the library may find wrong."""


class System(ctypes.Structure):
    """What a call works on."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_atoms", "n_local", "n_edges", "n_threads", "want_gradient")),
        ("exchange", Exchange),
        ("context", Pointer),
        *((name, Pointer) for name in ("species", "vectors", "source", "target", "in_row", "out_row", "out_edge")),
        *(
            (name, Pointer)
            for name in ("energies", "gradient", "lift_gradient", "messages", "scalars", "joined", "features", "values", "pull")
        ),
        *((name, Pointer) for name in ("scalar_gradient", "feature_gradient", "scratch")),
    ]


class Workspace:
    """Memory of a call, kept from call to call: fresh memory would cost page faults at every step.

    of_edges: the addresses of what `Structures` has of edges, source to gradient, as of the last call of `system`.
    """

    def __init__(self, config: NetworkConfig, n_points: int, dtype: torch.dtype, scratch: int) -> None:
        """n_points: of the grid. scratch: numbers that the library wants for itself in every thread."""
        self._n_blocks, self._points, self._channels = config.n_blocks, n_points, config.n_channels
        self._coefficients, self._dtype, self._scratch = (config.feature_degree + 1) ** 2, dtype, scratch
        self._system = System()
        self._n_edges = -1
        self.of_edges: list[int] = []
        self._held: dict[str, torch.Tensor] = {}

    def system(self, n_atoms: int, n_edges: int) -> System:
        """Return what describes a call, with the addresses of all arrays that are the kernel's own."""
        system = self._system
        n_threads = max(1, min(torch.get_num_threads(), n_atoms // 64))
        # Whatever ends this early, the next call begins anew.
        if (n_atoms, n_threads) != (system.n_atoms, system.n_threads):
            system.n_atoms = -1
            flat, later = n_atoms * self._channels, self._n_blocks - 1
            full, grid = flat * self._coefficients, flat * self._points
            self._set(torch.int32, {"species": n_atoms, "in_row": n_atoms + 1, "out_row": n_atoms + 1})
            sizes = {"messages": later * full, "scalars": self._n_blocks * flat, "joined": later * full, "features": full if later else 0}
            sizes |= {"values": later * grid, "pull": grid if later else 0, "scalar_gradient": flat}
            sizes |= {"feature_gradient": full if later > 1 else 0, "scratch": n_threads * self._scratch}
            self._set(self._dtype, sizes)
        if n_edges != self._n_edges:
            self._n_edges = -1
            self._set(torch.int32, dict.fromkeys(("source", "target", "out_edge"), n_edges))
            self._set(self._dtype, dict.fromkeys(("vectors", "gradient", "lift_gradient"), 3 * n_edges))
            ends = [self._fit(f"near {name}", n_edges, torch.int64) for name in ("source", "target")]
            self.of_edges = ends + [self._fit(f"near {name}", 3 * n_edges, torch.float64) for name in ("vectors", "gradient")]
        system.n_atoms, system.n_threads = n_atoms, n_threads
        system.n_edges = self._n_edges = n_edges
        return system

    def _set(self, dtype: torch.dtype, sizes: dict[str, int]) -> None:
        for name, size in sizes.items():
            setattr(self._system, name, self._fit(name, size, dtype))

    def _fit(self, name: str, size: int, dtype: torch.dtype) -> int:
        """Return the address of an array of at least this size, and not of many times as much."""
        held = self._held.get(name)
        if held is None or not size <= len(held) <= max(4 * size, 1 << 20):
            held = self._held[name] = aligned_empty(size, dtype)
        return held.data_ptr()


class Callback:
    """What the kernel calls to exchange rows of `joined` between domains; no exception leaves it before `check`."""

    def __init__(self, ghosts: GhostExchange | None, n_atoms: int, dtype: torch.dtype) -> None:
        self._ghosts, self._n_atoms, self._dtype = ghosts, n_atoms, dtype
        self._error: BaseException | None = None
        self.function = Exchange(self._call) if ghosts else NO_EXCHANGE

    def _call(self, _: int, address: int, width: int, reverse: int) -> None:
        assert self._ghosts is not None
        try:
            rows = torch.zeros((0, width), dtype=self._dtype, device="cpu")
            if self._n_atoms:
                memory = (ctypes.c_byte * (self._n_atoms * width * self._dtype.itemsize)).from_address(address)
                rows = torch.frombuffer(memory, dtype=self._dtype).view(self._n_atoms, width)
            (self._ghosts.reverse if reverse else self._ghosts.forward)(rows)
        except BaseException as error:  # noqa: BLE001 (the kernel is in between; it is raised afterwards)
            self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def aligned_empty(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return uninitialised numbers [size] whose address is a multiple of 64 bytes, as the kernel's vectors want it."""
    buffer = torch.empty(size + 64 // dtype.itemsize, dtype=dtype, device="cpu")
    skip = -buffer.data_ptr() % 64 // dtype.itemsize
    return buffer[skip : skip + size]
