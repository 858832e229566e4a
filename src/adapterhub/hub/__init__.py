"""The hub: adapters that are published, found, checked for compatibility and stitched in by one line."""
