"""What a method costs, in closed form: bytes, seconds, FLOPs."""
