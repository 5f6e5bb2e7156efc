"""Pages of results, each a function of run folders and of rows that benchmarks wrote."""
