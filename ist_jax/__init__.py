"""Independent Subnet Training and its family.

In reading order: ``axes`` (which axes are neurons), ``partition`` (who trains which), ``decompose``
(subnets out of the net, and back), ``local`` (J steps of a subnet), ``round`` (all of it, once),
``method`` (what makes the baselines different), ``workers`` (S workers on D devices).
"""
