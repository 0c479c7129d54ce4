"""`python -m benchmarks gpu`: everything worth knowing about one GPU, in one run of at most eight minutes.

The machine needs this source tree and PyTorch with CUDA, but no network and none of the project's five distributions.
What a stage lacks makes that stage skipped, with the reason.
"""
