"""The `gleaner` command."""


def main() -> None:
    """Run the command and leave with its exit code."""
    from gleaner.cli.app import app

    app()
