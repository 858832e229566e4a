"""What our servers over HTTP have in common, the hub's and that of models."""
