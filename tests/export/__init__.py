"""Tests of the formats; a package, since a benchmark has the name too."""
