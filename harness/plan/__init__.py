"""Which networks a scale trains, in which stages, and which of them a claim needs. Nothing is run here."""
