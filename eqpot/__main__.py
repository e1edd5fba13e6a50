from eqpot.cli.main import app

app()
