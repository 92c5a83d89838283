"""The regression check: does a change of the code still support what the committed baseline supports?"""
