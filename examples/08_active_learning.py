"""
From a committee to active learning
===================================

Potentials that were fitted to the same few frames agree where these tell them what to do. Where they differ, a label helps most.
"""

import sys
from pathlib import Path

import ase.io
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

from eqpot import load_potential
from eqpot.neighbors import build_graph
from eqpot.training import TrainConfig, Trainer
from eqpot.training.selection import descriptors, disagreements, select

EPOCHS = 40
OUTPUT = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/active")
frames = ase.io.read(Path(__file__).parent / "data" / "ethanol.npz", ":", format="rmd17")


def fit(name, labelled, seed):
    OUTPUT.mkdir(parents=True, exist_ok=True)
    ase.io.write(OUTPUT / f"{name}.extxyz", [frames[k] for k in labelled])
    data = {"train": OUTPUT / f"{name}.extxyz", "n_valid": 5, "reference_energies": "mean"}
    network = {"cutoff": 4.0, "n_channels": 32, "radial_width": 32}
    training = {"epochs": EPOCHS, "warmup_steps": 20, "validate_every": 10}
    Trainer(TrainConfig(output=OUTPUT / name, seed=seed, data=data, network=network, training=training)).run()
    return load_potential(OUTPUT / name / "potential.safetensors")


def force_errors(potential):
    found = [potential.evaluate(graph)["forces"].numpy() - frames[k].get_forces() for k, graph in zip(pool, graphs, strict=True)]
    return 1000 * np.array([abs(error).mean() for error in found])


# %%
# Three potentials know 40 frames. Of the 80 others, taken for unlabelled, they say how sure they are of the forces.
known, pool = list(range(40)), list(range(40, 120))
committee = [fit(f"committee-{seed}", known, seed) for seed in range(3)]
graphs = [build_graph(frames[k], 4.0) for k in pool]
disagreement, before = disagreements(committee, graphs), force_errors(committee[0])
print(f"rank correlation of disagreement and error: {spearmanr(disagreement, before).statistic:.2f}")

# %%
# The fit is repeated with the labels of 12 frames of large disagreement that differ from each other.
chosen = [choice.index for choice in select(12, descriptors(committee[0], graphs), disagreement)]
after, rest = force_errors(fit("second", [*known, *(pool[k] for k in chosen)], 0)), np.setdiff1d(range(len(pool)), chosen)
print(f"mean error of the frames that nobody has learned: {before[rest].mean():.0f} meV/Å before, {after[rest].mean():.0f} meV/Å after")

figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
axes.plot(1000 * disagreement[rest], before[rest], "o", 1000 * disagreement[chosen], before[chosen], "o")
axes.set(xlabel="largest disagreement of a frame (meV/Å)", ylabel="mean error of its forces (meV/Å)")
axes.legend(["not chosen", "chosen"], frameon=False)
figure.savefig(OUTPUT / "disagreement.png", dpi=150)
