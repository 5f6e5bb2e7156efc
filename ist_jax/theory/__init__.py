"""What is proved of training with masked neurons, beside what small networks do (float64)."""
