"""A run on disk: what a simulation writes, and how it goes on after whatever stopped it."""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.io.extxyz import write_xyz

from eqpot.errors import ConfigError, SimulationError
from eqpot.files import write_atomically
from eqpot.md.restart import load_restart, save_restart
from eqpot.md.settings import Settings
from eqpot.md.simulation import Simulation
from eqpot.md.trajectory import Table, Writer, open_table, open_trajectory
from eqpot.potential import Potential

Report = Callable[[list[dict[str, float]]], None]
"""Called with `Simulation.thermo()` whenever a frame is written."""

Callback = tuple[int, Callable[[Simulation], None]]
"""Every so many steps the function is called."""

RESTART = "restart.safetensors"
