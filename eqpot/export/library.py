"""Export to a shared library: the fused kernel with the weights in it, behind the plain C interface of eqpot.h."""

import ctypes
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.elements import symbols_of
from eqpot.errors import EqpotError, UnknownElementError
from eqpot.export.torchscript import check_structures
from eqpot.files import write_atomically
from eqpot.graph import AtomGraph, edge_vectors
from eqpot.kernels.compiler import FLAGS, CompilationError, compile_file
from eqpot.kernels.fibre_bundle import SOURCES, Packed
from eqpot.kernels.verify import TOLERANCES
from eqpot.model_file import load_potential, read_header
from eqpot.neighbors import build_graph
from eqpot.potential import Potential

_SOURCE = Path(__file__).with_name("library.c")


def export_library(model: str | Path, output: str | Path, dtype: str | None = None) -> float:
    """Write the potential of a model file as a library for processors like this one; return its largest relative deviation from eager.

    It is called on the check structures before it reaches `output`; EqpotError, and no file, where it deviates, where the
    network has no fused kernel, or where there is no C compiler.
    """
    potential = load_potential(model, dtype=dtype)
    kernel = potential.fused_kernel()
    if kernel is None:
        raise EqpotError(
            f"The network of {model} has no fused kernel, so it cannot be a library: that takes the geometry fibre_bundle with the exact "
            "block, channels in multiples of 16 (of 8 in float64), and a C compiler. Export torchscript instead."
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed = kernel.packed()
        (folder / "weights").write_bytes(packed.content)
        (folder / "model.h").write_text(_constants(potential, packed, read_header(model).model_dump_json(), folder / "weights"))
        definitions = [f"-D{name}={value}" for name, value in kernel.definitions]
        folders = [f"-I{place}" for place in (folder, _SOURCE.parent, SOURCES[0].parent)]
        made = folder / "potential.so"
        try:
            compile_file(_SOURCE, [*FLAGS, "-fvisibility=hidden", *definitions, *folders], made)
        except CompilationError as error:
            raise EqpotError(f"The library could not be compiled: {error}.") from error
        deviation = _deviation(potential, Library(made))
        if not deviation <= 10 * TOLERANCES[potential.dtype]:
            raise EqpotError(f"The library deviates from eager by {deviation:.1e} relative; nothing was written. Please report this.")
        write_atomically(Path(output), made.read_bytes())
    return deviation


def _constants(potential: Potential, packed: Packed, header: str, weights: Path) -> str:
    """Return the text of model.h."""
    constants = {
        "N_BLOCKS": len(packed.energy_biases),
        "N_SPECIES": len(potential.elements),
        "CUTOFF": potential.cutoff.hex(),
        "INVERSE_SPACING": packed.inverse_spacing.hex(),
        "SCALE": float(potential.scale).hex(),
        "HEADER": _c_string(header),
        "WEIGHTS": _c_string(str(weights)),
    }
    arrays: dict[str, Sequence[object]] = {
        "int NUMBERS": potential.elements,
        "char *const SYMBOLS": [f'"{symbol}"' for symbol in symbols_of(potential.elements)],
        "double REFERENCE_ENERGIES": [value.hex() for value in potential.reference_energies.tolist()],
        "double ENERGY_BIASES": [value.hex() for value in packed.energy_biases],
        "int64_t OFFSETS": packed.offsets,
    }
    lines = [f"#define {name} {value}" for name, value in constants.items()]
    lines += [f"static const {name}[] = {{{', '.join(map(str, values))}}};" for name, values in arrays.items()]
    return "\n".join(lines) + "\n"


def _c_string(text: str) -> str:
    """Return text as C writes its bytes of UTF-8; three digits a byte, as more would be read as one."""
    return '"' + "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03o}" for byte in text.encode()) + '"'


class _System(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_atoms", "n_local", "n_edges", "n_threads")),
        *((name, ctypes.c_void_p) for name in ("species", "source", "target", "vectors", "exchange", "context", "energies", "gradient")),
    ]


class Library:
    """A library that `export_library` wrote, called from Python as any program calls it."""

    def __init__(self, path: str | Path) -> None:
        # A copy: the loader takes a name that it has met for the same library, and the file may have been written anew.
        with tempfile.NamedTemporaryFile(suffix=".so") as copy:
            copy.write(Path(path).read_bytes())
            copy.flush()
            self._library = ctypes.CDLL(copy.name)
        self._library.eqpot_header.restype = ctypes.c_char_p
        self._library.eqpot_cutoff.restype = ctypes.c_double
        self._library.eqpot_open.restype = ctypes.c_void_p
        self.cutoff: float = self._library.eqpot_cutoff()
        numbers, symbols = ctypes.POINTER(ctypes.c_int)(), ctypes.c_void_p()
        self.elements: list[int] = numbers[: self._library.eqpot_elements(ctypes.byref(numbers), ctypes.byref(symbols))]
        self._workspace = ctypes.c_void_p(self._library.eqpot_open())

    def __del__(self) -> None:
        if hasattr(self, "_workspace"):
            self._library.eqpot_close(self._workspace)

    @property
    def header(self) -> dict[str, Any]:
        """The header of the model file."""
        found: dict[str, Any] = json.loads(self._library.eqpot_header())
        return found

    def evaluate(self, vectors: np.ndarray, numbers: np.ndarray, edge_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return energies [n_atoms], eV, and the gradient [n_edges, 3] of their sum, eV/Å, of edges [2, n_edges] sorted by target.

        Raises UnknownElementError, and EqpotError for edges that are not sorted or lead nowhere.
        """
        if unknown := sorted(set(np.asarray(numbers).tolist()) - set(self.elements)):
            known = ", ".join(symbols_of(self.elements))
            raise UnknownElementError(f"The library was not fitted to {', '.join(symbols_of(unknown))}; it knows {known}.")
        species = np.array([self.elements.index(number) for number in numbers], dtype=np.int32)
        source, target = np.ascontiguousarray(edge_index, dtype=np.int32)
        vectors = np.ascontiguousarray(vectors, dtype=np.float64)
        energies, gradient = np.empty(len(numbers)), np.empty_like(vectors)
        arrays = {"species": species, "source": source, "target": target, "vectors": vectors, "energies": energies, "gradient": gradient}
        pointers = {name: array.ctypes.data for name, array in arrays.items()}
        system = _System(n_atoms=len(numbers), n_local=len(numbers), n_edges=len(vectors), n_threads=1, **pointers)
        found = self._library.eqpot_evaluate(self._workspace, ctypes.byref(system))
        if found == 1:
            raise MemoryError
        if found:
            raise EqpotError("The edges are not sorted by target, or lead to atoms that are not there; sort them, as `build_graph` does.")
        return energies, gradient


def _deviation(potential: Potential, library: Library) -> float:
    """Return the largest deviation of atomic energies and gradients from eager, relative to the largest of each."""
    found = []
    for atoms in check_structures(potential):
        graph: AtomGraph = build_graph(atoms, potential.cutoff)
        vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
        energies, gradient = library.evaluate(vectors.numpy(), atoms.numbers, graph.edge_index.numpy())
        expected = potential.energies_and_gradient(vectors, graph.numbers, graph.edge_index)
        for mine, theirs in zip((energies, gradient), expected, strict=True):
            exact = theirs.detach().numpy()
            found.append(np.abs(mine - exact).max(initial=0) / max(np.abs(exact).max(initial=0), 1e-3))
    # np.max and not max: a NaN must come out.
    return float(np.max(found))
