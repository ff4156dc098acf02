"""Tests of meshes; a package, since a benchmark has the name too."""
