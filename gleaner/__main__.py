"""`python -m gleaner` is the `gleaner` command."""

from gleaner.cli import main

main()
