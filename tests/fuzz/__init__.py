"""Fuzzing of every parser of bytes from outside: exceptions, time and memory."""
