"""The paper's algorithm: masks, criteria, branches, distances, interpolation. No files, no workflow."""
