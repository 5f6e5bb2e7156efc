"""IST on quadratics: sketched gradient descent, where it is biased, and how to mend it.

In reading order: ``matrices`` and ``quadratics`` (problems), ``supports``, ``sketch`` and
``sketches`` (who holds which coordinates, with which factor), ``laws``, ``moments`` and ``perm_1``
(closed forms), ``step`` (one iteration),
``recursion`` (exact moments of all iterates), ``stability`` (how large a step may be), ``iterate``
(runs), ``bounds`` and ``compressed`` (the theorems, both sides).

Source of equation numbers: Shulgin and Richtarik, "Towards a Better Theoretical Understanding of
Independent Subnetwork Training", arXiv:2306.16484. Everything is float64: NumPy where it is
algebra, JAX under ``jax.enable_x64`` where it runs; what is returned is NumPy, so that no later
operation can round it to float32 in silence. The user's own setting is never touched.
"""
