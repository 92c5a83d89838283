"""`harness bench`: what a training step costs here, against the machine's limit and a straightforward PyTorch training.

Every way of doing a step waits, ready, in processes of its own; they take turns, round by round, and medians count.
"""
