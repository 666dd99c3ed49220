"""Depth and lifetime of fluorescent targets in tissue, from arrival times of photons."""
