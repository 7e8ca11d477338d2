"""The subcommands of `gleaner`."""
