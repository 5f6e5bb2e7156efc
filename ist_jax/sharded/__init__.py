"""The same round over D devices: where a net is, and what moves between devices."""
