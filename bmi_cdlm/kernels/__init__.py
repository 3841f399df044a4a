"""How scalar steps are run: loops, compilation for processors and CUDA devices, threads, cache."""
