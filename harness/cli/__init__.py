"""The `harness` command: a file for each group of commands, the shared options, no logic."""


def main() -> None:
    """Entry point of the `harness` command."""
    from harness.cli.app import main as run

    run()
