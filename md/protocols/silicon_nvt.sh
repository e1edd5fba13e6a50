#!/usr/bin/env bash
# NVT of silicon: diamond, 64 atoms, 600 K. A first argument replaces the number of steps.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
eqpot md --potential "$root/potentials/silicon/potential.safetensors" --structure "$root/potentials/silicon/structure.extxyz" \
    --ensemble nvt --temperature 600 --timestep 1 --friction 10 --steps "${1:-2000}" --output silicon_nvt
