"""The network: features on R^3 x S^2, exactly equivariant on a finite grid of orientations."""
