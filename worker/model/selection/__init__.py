"""Selection of the fastest runtime whose scores agree with the library's."""
