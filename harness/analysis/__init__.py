"""Analysis: distances, angles, linear interpolation, the tidy table."""
