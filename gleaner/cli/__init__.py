"""The `gleaner` command."""


def main() -> None:
    """Run the command and leave with its exit code."""
    from gleaner.cli.app import app, prepare_streams

    prepare_streams()
    app()
