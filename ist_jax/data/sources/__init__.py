"""Readers of data sets; each finds its files, and downloads nothing."""
