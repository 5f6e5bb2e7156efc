"""Nets whose axes have names; each takes widths of a subnet as well as of the whole."""
