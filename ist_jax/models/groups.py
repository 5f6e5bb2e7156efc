"""Groups that a model declares (``widths``) beside those that its leaves name.

Where the two differ, training would go on and cut less than was asked for: a width that no leaf
has changes nothing, and a group that is not declared is never cut.
"""

from collections.abc import Mapping
from typing import Any

from ist_jax import axes
from ist_jax.axes import Net
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.models.gcn import ENDS

PyTree = Any


def check_groups(declared: Mapping[str, int], net: Net) -> None:
    """Compares declared widths with a net that was made with them.

    With the widths of a subnet, and the net that a model makes of those, it finds a model that is
    as wide at any widths.

    Args:
      declared: neurons of every group, ``{"hidden0": 4096}``.
      net: the shapes and names of its leaves (``axes.describe``).

    Raises:
      InputError: a declared group that no leaf names, a named group that is not declared, or a leaf
        whose axis is not as long as the group is wide.

    Example:
      >>> import jax
      >>> leaf = jax.ShapeDtypeStruct((3, 8), "float32")
      >>> check_groups({"h": 8}, axes.describe({"up": leaf}, {"up": (None, "h")}))
    """
    for group in declared:
        if group not in net.widths:
            raise InputError(
                f"no leaf of the model names group {group!r} of its widths: name the axis, or "
                f"leave the width out{by_name.hint(group, net.widths, 'named are')}"
            )
    for leaf in net.leaves:
        for axis, (name, size) in enumerate(zip(leaf.names, leaf.shape, strict=True)):
            if name is None:
                continue
            where = f"axis {axis} of leaf {leaf.path} is of group {name!r}"
            if name not in declared:
                raise InputError(
                    f"{where}, which is not among the model's widths: give it a width, or None in "
                    f"place of its name{by_name.hint(name, declared, 'those are')}"
                )
            if size != declared[name]:
                raise InputError(
                    f"{where}, which should be {declared[name]} wide, and has {size} entries: "
                    f"let the model make it as wide as widths[{name!r}]"
                )


def check(model: Any, shapes: PyTree, names: PyTree) -> None:
    """The same of a Flax model with an attribute ``widths``.

    Args:
      shapes, names: what its ``init`` gives (``axes.of``), of which shapes will do.
    """
    inner = getattr(model, "member", None)  # of an ensemble, whose leaves name its groups too
    declared = {**getattr(inner, "widths", {}), **getattr(model, "widths", {})}
    whole = set(ENDS) - set(getattr(model, "external", ENDS))  # of XMC, named where they are cut
    some = {group: width for group, width in declared.items() if group not in whole}
    check_groups(some, axes.describe(shapes, names))
