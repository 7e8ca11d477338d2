"""The HTTP side: routes -> auth -> admission -> submission, waiting, and the courier."""
