"""`python -m controller.cli` is the command `streamswarm`."""

from controller.cli.main import cli

if __name__ == "__main__":
    cli(prog_name="streamswarm")
