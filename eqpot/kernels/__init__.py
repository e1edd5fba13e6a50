"""Compiled kernels: the network's energies and gradients, fused for the processor at hand."""
