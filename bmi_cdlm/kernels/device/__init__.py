"""The loops of a CUDA device, around the same scalar steps."""
