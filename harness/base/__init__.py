"""What every package may use: errors, files, seeds, paths, untrusted input, words and numbers for people."""
