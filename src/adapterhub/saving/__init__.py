"""Saving and loading the parts of a model: in our own format, in those of other libraries, whole setups."""
