"""One file a figure: what it measures, and how it is drawn."""
