"""`harness bench`: the cost of a training step, against the machine's limit and a straightforward PyTorch training.

Each implementation of a step stays ready in its own processes. They are timed in interleaved rounds, and medians count.
"""
