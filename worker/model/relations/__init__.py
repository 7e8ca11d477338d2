"""Relations between the entities of a row: scored by gliner's relation models, and decoded."""
