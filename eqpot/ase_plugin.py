"""What ASE asks for by name: the calculator `eqpot` and the format `rmd17`.

ASE looks for a calculator that it does not ship as the class `Name` of the module ase.calculators.name. eqpot/__init__.py puts this
module into sys.modules under that name, which needs neither ASE nor torch and holds whichever of the two is imported first.
`ase run` imports no package but ASE's own and those with an entry point in ase.ioformats: the format's is what loads eqpot there.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms


def __getattr__(name: str) -> Any:
    if name == "Eqpot":
        from eqpot.calculator import EqpotCalculator

        return EqpotCalculator
    if name == "RMD17":
        from ase.utils.plugins import ExternalIOFormat

        return ExternalIOFormat("rMD17 or MD17 npz", "+S", module=__name__, glob=["rmd17_*.npz", "md17_*.npz"])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def read_rmd17(path: str, index: slice = slice(None)) -> "list[Atoms]":
    """Return the frames of an rMD17 or MD17 npz with energy (eV) and forces (eV/Å); ASE's reader of the format `rmd17`.

    Raises DataError as `eqpot.data.read_frames` does.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    from eqpot.data import read_frames

    frames = read_frames(path)[index]
    for frame in frames:
        frame.atoms.calc = SinglePointCalculator(frame.atoms, energy=frame.energy, forces=frame.forces)
    return [frame.atoms for frame in frames]
