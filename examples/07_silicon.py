"""
Silicon from DFT to phonons
===========================

A fit to 73 frames of crystalline silicon, strained and at 300 K, and what it says of elastic constants and phonons.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from ase.build import bulk

from eqpot import EqpotCalculator
from eqpot.properties import elastic_constants, phonons, relax
from eqpot.training import TrainConfig, Trainer

EPOCHS = 10
OUTPUT = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/silicon")
DATA = Path(__file__).parent / "data" / "silicon_crystal.extxyz.gz"

# %%
# Energies, forces and stresses are learned together. The network is half as wide as the default one, and the run a twentieth as long as
# that of the shipped potential, whose data hold liquids, vacancies and surfaces too.
network = {"cutoff": 4.5, "n_channels": 32, "radial_width": 32}
training = {"epochs": EPOCHS, "batch_size": 2, "warmup_steps": 50, "energy_weight": 30}
config = TrainConfig(output=OUTPUT, data={"train": DATA, "n_valid": 5}, network=network, training=training)
Trainer(config).run()

# %%
# Differences need float64. What comes out is of this functional, PBE, and of these data.
silicon = bulk("Si")
silicon.calc = EqpotCalculator(OUTPUT / "potential.safetensors", dtype="float64")
relax(silicon, fmax=1e-4, cell="full")
constants = elastic_constants(silicon)
print(f"lattice constant {2**0.5 * silicon.cell.lengths()[0]:.3f} Å, bulk modulus {constants.bulk_modulus.hill:.0f} GPa")
print(f"C11 {constants.cubic.c11:.0f}, C12 {constants.cubic.c12:.0f}, C44 {constants.cubic.c44:.0f} GPa")
print("differences between strained frames of the DFT data: C11 153, C12 57 GPa (benchmarks/properties.py)")

# %%
# Phonons along the path through the special points of the Brillouin zone, in THz.
modes = phonons(silicon, path="GXL", length=15.0)
print(f"optical modes at Γ: {modes.bands[0, -1]:.1f} THz; neutrons at room temperature see 15.5")
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
distances = modes.path.get_linear_kpoint_axis()[0]
axes.plot(distances, modes.bands, color="tab:blue")
places, names, _ = zip(*modes.ticks(), strict=True)
axes.set_xticks(places, names)
axes.set(xlim=(0, distances[-1]), ylim=(0, None), ylabel="frequency (THz)")
figure.savefig(OUTPUT / "phonons.png", dpi=150)
