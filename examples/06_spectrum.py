"""
Vibrations of ethanol
=====================

Molecular dynamics of four replicas side by side, and the spectrum of their velocities beside the harmonic wavenumbers of the minimum.
"""

import sys
from pathlib import Path

import ase.io
import matplotlib.pyplot as plt
import numpy as np
import torch

from eqpot import EqpotCalculator, load_potential
from eqpot.md import Settings, Simulation, start_run
from eqpot.observables import average, read_thermo, read_trajectories, vibrational_spectrum
from eqpot.properties import relax, vibrations

STEPS, REPLICAS = 8000, 4
OUTPUT = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/spectrum")
ethanol = ase.io.read(Path(__file__).parents[1] / "potentials" / "ethanol" / "structure.extxyz")
torch.set_num_threads(1)  # so few atoms gain nothing from more

# %%
# Langevin dynamics bring the replicas to 300 K. Their friction would broaden the lines, so the spectrum is that of the run at constant
# energy afterwards. Frames every 4 steps of 0.5 fs are close enough for the stretching of O-H.

potential = load_potential("ethanol")
heating = Simulation([ethanol] * REPLICAS, potential, Settings(ensemble="nvt", temperature=300.0, seed=1))
for _ in range(STEPS // 4):
    heating.step()
replicas = [heating.current_atoms(k) for k in range(REPLICAS)]
start_run(Simulation(replicas, potential, Settings(steps=STEPS, interval=4)), OUTPUT).run()
temperature = average(read_thermo(OUTPUT)["temperature_k"])
print(f"{STEPS / 2000:g} ps at constant energy, {REPLICAS} times: {temperature.mean:.0f} ± {temperature.error:.0f} K")

# %%
# Without translation and rotation what is left are vibrations. The mean over the replicas is less noisy than one long run.

trajectories = [trajectory.at_rest() for trajectory in read_trajectories(OUTPUT)]
spectra = [vibrational_spectrum(t.velocities, t.numbers, t.masses, t.interval, resolution=40.0) for t in trajectories]

ethanol.calc = EqpotCalculator("ethanol", dtype="float64")
relax(ethanol, fmax=1e-4)
harmonic = vibrations(ethanol)
print(f"the fastest harmonic vibration, O-H: {harmonic.wavenumbers[-1]:.0f} 1/cm")

figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
axes.plot(spectra[0].wavenumbers, np.mean([spectrum.total for spectrum in spectra], axis=0), label="dynamics at 300 K")
axes.vlines(harmonic.wavenumbers, 0, 0.01, color="tab:orange", label="harmonic, at the minimum")
axes.set(xlim=(0, 4000), ylim=(0, None), xlabel="wavenumber (1/cm)", ylabel="modes per 1/cm")
axes.legend(frameon=False)
figure.savefig(OUTPUT / "spectrum.png", dpi=150)
