"""`python -m eqpot`."""

from eqpot.cli.main import app

app()
