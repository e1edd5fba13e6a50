"""One module a contestant, each run in the environment of its package: `python -m workers.mace '{"system": ...}'`."""
