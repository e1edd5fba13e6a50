#!/usr/bin/env bash
# NVE of ethanol: the drift printed at the end is that of the total energy. A first argument replaces the number of steps.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
eqpot md --potential "$root/potentials/ethanol/potential.safetensors" --structure "$root/potentials/ethanol/structure.extxyz" \
    --ensemble nve --temperature 300 --timestep 0.5 --steps "${1:-40000}" --interval 20 --dtype float64 --output ethanol_nve
