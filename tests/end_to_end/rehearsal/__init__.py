"""The paper scale cut down to minutes, and small data sets in the place of the published ones."""
