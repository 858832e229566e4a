"""The hub: adapters that are shared, found, checked for a base model, and loaded by name; no torch in it."""
