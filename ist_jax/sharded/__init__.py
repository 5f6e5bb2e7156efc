"""The same round over D devices: where a net lies, and what moves between devices."""
