"""`gleaner demo`."""


def demo() -> None:
    """See the whole service at work on sample documents."""
