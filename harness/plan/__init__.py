"""The networks that a scale trains, their stages, and the networks that a claim needs. Nothing is run here."""
