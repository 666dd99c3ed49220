"""Semantic segmentation of point clouds from mixed sensors, by a transformer with mixtures of experts."""
