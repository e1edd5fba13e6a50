"""Exports: one file each for engines that do not run eqpot."""
