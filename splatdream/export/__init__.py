"""Exporters: one file per format, each a function of a cloud and a path."""
