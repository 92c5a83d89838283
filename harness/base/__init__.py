"""Shared by every package: errors, files, seeds, paths, untrusted input, words and numbers for people."""
