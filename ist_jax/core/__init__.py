"""What everything else stands on: keys, errors, indexing, means, paths, strict JSON."""
