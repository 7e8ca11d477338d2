"""Tasks as prompts, in the forms that models read."""
