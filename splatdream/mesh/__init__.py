"""Meshes: from a cloud of Gaussians to a closed, textured surface in a file."""
