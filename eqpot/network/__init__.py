"""The networks: features on R^3 x S^2 and its relatives, from edge vectors to atomic energies."""
