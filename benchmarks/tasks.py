"""Data sets that the benchmarks train on, with the split of their publications.

Paths are relative to a data folder, given by --data or the environment variable EQPOT_DATA:

rmd17/rmd17_{molecule}_{train,test}_01.npz          split 01 of rMD17 (Christensen and von Lilienfeld 2020)
acac/{train_300K,test_MD_300K}.extxyz.gz            acetylacetone (Batatia et al. 2022, BOTNet-datasets)
mlearn/{Li,Mo,Si,Cu}_{train,test}.extxyz.gz         elements (Zuo et al. 2020)
monbtaw/train.extxyz.gz, monbtaw/test_*.extxyz.gz   the alloy (Li et al. 2020)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """Data to learn from, and the settings of `eqpot train` that belong to them; where there are several tests, they have names."""

    train: str | tuple[str, ...]
    tests: Mapping[str, str]
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def test(self) -> str:
        """The test, or the first of several."""
        return next(iter(self.tests.values()))

    def config(self, folder: Path, output: Path, network: Mapping[str, Any], training: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
        """Return the configuration of a run; folder is that of the data."""
        return {
            "output": output,
            "seed": seed,
            "data": {**self.data, "train": [folder / path for path in ((self.train,) if isinstance(self.train, str) else self.train)]},
            "network": network,
            "training": {**self.training, **training},
        }


MOLECULES = (
    "ethanol",
    "malonaldehyde",
    "uracil",
    "toluene",
    "naphthalene",
    "salicylic",
    "aspirin",
    "paracetamol",
    "azobenzene",
    "benzene",
)
ORDERED = {"n_train": 950, "n_valid": 50, "split": "ordered", "reference_energies": "mean"}
_CRYSTAL = {"batch_size": 2, "energy_weight": 30}

TASKS = {
    **{name: Task(f"rmd17/rmd17_{name}_train_01.npz", {"": f"rmd17/rmd17_{name}_test_01.npz"}, ORDERED) for name in MOLECULES},
    # Of every file 950 frames on average, for one potential of all.
    "molecules": Task(
        tuple(f"rmd17/rmd17_{name}_train_01.npz" for name in MOLECULES),
        {name: f"rmd17/rmd17_{name}_test_01.npz" for name in MOLECULES},
        {"n_train": 9500, "n_valid": 500},
    ),
    "acetylacetone": Task(
        "acac/train_300K.extxyz.gz", {"": "acac/test_MD_300K.extxyz.gz"}, {"n_train": 450, "n_valid": 50, "reference_energies": "mean"}
    ),
    **{
        name: Task(f"mlearn/{symbol}_train.extxyz.gz", {"": f"mlearn/{symbol}_test.extxyz.gz"}, {}, _CRYSTAL)
        for name, symbol in (("lithium", "Li"), ("molybdenum", "Mo"), ("silicon", "Si"))
    },
    # The stresses of copper lack a constant pressure and contradict its energies.
    "copper": Task("mlearn/Cu_train.extxyz.gz", {"": "mlearn/Cu_test.extxyz.gz"}, {"stress_key": None}, _CRYSTAL),
    "MoNbTaW": Task(
        "monbtaw/train.extxyz.gz",
        {name: f"monbtaw/test_{name}.extxyz.gz" for name in ("Mo", "Nb", "Ta", "MoTa", "NbMo", "TaW")},
        {},
        {"batch_size": 4, "energy_weight": 30},
    ),
}
