"""Holes in one's own photographs, filled by a trained network: any size, any place, every other pixel kept."""
