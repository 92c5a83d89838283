"""`harness verify`: does a run that somebody shares hold what it says?

What the run derives is made again from its records, each record is held against the plan and the files, and some of
its networks are trained and compared again. Nothing that the run's files say is believed before its form is checked.
"""
