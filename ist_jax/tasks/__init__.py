"""What is learnt and measured: one label, many labels, the nodes of a graph."""
