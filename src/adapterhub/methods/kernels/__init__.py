"""Triton kernels, one file each: nothing here is imported before it runs on a GPU."""
