"""Classification of rows of numbers by a routed network."""
