"""eqpot: interatomic potentials on position-orientation space."""

import sys
from typing import TYPE_CHECKING, Any

from eqpot import ase_plugin

if TYPE_CHECKING:
    from eqpot.calculator import EqpotCalculator
    from eqpot.model_file import load_potential, save_potential

__all__ = ["EqpotCalculator", "load_potential", "save_potential"]

_HOMES = {"EqpotCalculator": "eqpot.calculator", "load_potential": "eqpot.model_file", "save_potential": "eqpot.model_file"}

# ase.calculators.calculator.get_calculator_class("eqpot") imports this name.
sys.modules.setdefault("ase.calculators.eqpot", ase_plugin)


def __getattr__(name: str) -> Any:
    # Imported on first use: `import eqpot` and `eqpot --help` do not wait for torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'eqpot' has no attribute {name!r}")
