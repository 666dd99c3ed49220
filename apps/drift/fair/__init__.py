"""FEAMOE: mixtures of linear experts that are fair, explained, and grow when a stream drifts."""
