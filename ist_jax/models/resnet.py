"""ResNets of basic blocks for small images, cut in one of three ways: depth, filters, dense layers.

Stages are numbered from 1, as the papers do. What is cut is what has a width:

==================  ==============================================  ================================
group               its members                                     method
==================  ==============================================  ================================
``stage3``          the equal blocks of a stage (all but a strided  ResIST, Dun et al., UAI 2022
                    first one), stacked on a leading axis
``strided3``        the residual branch of a strided block          ResIST's "naive" cut
``filters3_1``      filters between the two convolutions of a       LoFT, Dun et al.; any number of
                    block (counted from 0)                          them, its wide variant has twice
                                                                    as many as usual
``hidden0``, ...    dense neurons under the logits                  IST, Yuan et al., PVLDB 15, 2022
==================  ==============================================  ================================

Everything else is shared by all workers and averaged. A worker's net has as many blocks as the
largest share has. An empty slot of a smaller share has parameters of zeros, and then a block is the
identity; it is computed all the same.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError
from ist_jax.models import normalise
from ist_jax.models.augment import CropAndFlip
from ist_jax.models.convolution import Convolution, check_counts
from ist_jax.models.mlp import MLP


def equal_blocks(blocks: Sequence[int]) -> dict[str, int]:
    """How many blocks of each stage are equal: all, but of later stages the strided first one."""
    return {f"stage{n}": count - (n > 1) for n, count in enumerate(blocks, 1)}


class Block(nn.Module):
    """Two 3x3 convolutions beside a way around them: ``[B, H, W, C] -> [B, H/s, W/s, filters]``.

    Attributes:
      filters: that come out; as many lie between, unless ``inner`` says how many.
      group: the name of those between.
      gain: factor on the convolutions' result.
      preactivate: normalise and activate before the convolutions (He et al., ECCV 2016).
      branch: leave out the way around.
    """

    filters: int
    inner: int = 0
    group: str | None = None
    stride: int = 1
    gain: float = 1.0
    preactivate: bool = False
    branch: bool = False
    normalise: str = "standardise"
    affine: bool = True

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        norm = lambda x, name, group=None: _norm(self, x, name, train, group)
        ready = nn.relu(norm(x, "before")) if self.preactivate else x
        inner, around = self.inner or self.filters, (None, None)
        y = Convolution(inner, stride=self.stride, names=(*around, None, self.group), name="in")(
            ready
        )
        y = nn.relu(norm(y, "between", self.group))
        y = Convolution(self.filters, names=(*around, self.group, None), name="out")(y)
        if not self.preactivate:  # the last shift of an empty slot would learn
            kernel: Any = nn.meta.unbox(self.variables["params"]["out"]["kernel"])
            y = jnp.where(jnp.any(kernel), norm(y, "after"), 0)
        y = self.gain * y
        if self.branch:
            return y
        if self.stride > 1 or x.shape[-1] != self.filters:
            x = Convolution(self.filters, 1, self.stride, name="around")(ready)
            x = x if self.preactivate else norm(x, "around")
        return x + y if self.preactivate else nn.relu(x + y)


class ResNet(nn.Module):
    """``x [B, H, W, C] -> logits [B, classes]``.

    Attributes:
      widths: of each group that is cut, ``{"stage3": 22}``.
      classes: number of logits.
      blocks: of each stage; a stage has twice the filters of the one before it and half its image.
        The default is ResNet18. (3, 4, 23, 3) is what ResIST's paper calls ResNet101, with 36 and
        50 in place of 23 ResNet152 and ResNet200.
      base: filters of the first stage.
      large: for images of 224: a 7x7 stem of stride 2 and the largest of 3x3, again of stride 2.
      preactivate: He et al.'s blocks of 2016, and nothing after the last.
      bias: of the logits.
      crop: pixels that training images are shifted by at most; half are mirrored (``augment``).
      normalise, affine, logits: as ``ist_jax.models.mlp.MLP``.
      gains: factor on the residual branches of a group's blocks, or on a dense layer.
    """

    widths: Mapping[str, int]
    classes: int
    blocks: Sequence[int] = (2, 2, 2, 2)
    base: int = 64
    large: bool = False
    preactivate: bool = False
    bias: bool = False
    crop: int = 0
    normalise: str = "standardise"
    affine: bool = True
    logits: bool = True
    gains: Mapping[str, float] = FrozenDict()

    @property
    def sequences(self) -> tuple[str, ...]:
        """Groups whose members have an order: the blocks of a stage."""
        return tuple(group for group in self.widths if group.startswith("stage"))

    @nn.compact
    def __call__(self, x: Array | np.ndarray, *, train: bool) -> Float[Array, "B classes"]:
        self._check(x)
        size, stride = (7, 2) if self.large else (3, 1)
        y = Convolution(self.base, size, stride, name="stem")(
            CropAndFlip(self.crop)(x, train=train)
        )
        if not self.preactivate:
            y = nn.relu(_norm(self, y, "stem", train))
        if self.large:
            y = nn.max_pool(y, (3, 3), (2, 2), "SAME")
        for stage in range(1, len(self.blocks) + 1):
            y = self._stage(stage, y, train)
        hidden = {group: n for group, n in self.widths.items() if group.startswith("hidden")}
        gains = {group: gain for group, gain in self.gains.items() if group in hidden}
        head = MLP(
            hidden,
            self.classes,
            self.normalise,
            self.affine,
            self.logits,
            FrozenDict(gains),
            flat=False,
            bias=self.bias,
            name="head",
        )
        return head(y.mean(axis=(1, 2)), train=train)

    def _stage(self, stage: int, x: Array, train: bool) -> Array:
        filters, strided, equal = self.base * 2 ** (stage - 1), f"strided{stage}", f"stage{stage}"

        block = functools.partial(self._block, filters)

        def stacked(lift, group, function, **more):
            return lift(
                function,
                variable_axes={"params": 0, "statistics": 0},
                split_rngs={"params": True},
                metadata_params={nn.PARTITION_NAME: group},
                **more,
            )

        if strided in self.widths:
            each = lambda block, x: block(x, train=train)
            branches = stacked(nn.vmap, strided, each, in_axes=None, axis_size=self.widths[strided])
            y = branches(block(strided, stride=2, branch=True), x).sum(axis=0)
            x = Convolution(filters, 1, 2, name=f"around{stage}")(x)
            x = nn.relu(_norm(self, x, f"around{stage}", train) + y)
        elif stage > 1:
            x = block(f"stage{stage}_0", stride=2)(x, train=train)
        if equal in self.widths:
            step = lambda block, x, _: (block(x, train=train), None)
            run = stacked(nn.scan, equal, step, length=self.widths[equal])
            return run(block(equal), x, None)[0]
        for number in range(stage > 1, self.blocks[stage - 1]):
            x = block(f"stage{stage}_{number}", f"filters{stage}_{number}")(x, train=train)
        return x

    def _block(self, filters: int, name: str, group: str = "", **more: Any) -> Block:
        """A block whose inner channels are the group's, if the net cuts that."""
        return Block(
            filters,
            self.widths.get(group, filters),
            group if group in self.widths else None,
            gain=self.gains.get(group or name, 1.0),
            preactivate=self.preactivate,
            normalise=self.normalise,
            affine=self.affine,
            name=name,
            **more,
        )

    def _check(self, x: Array | np.ndarray) -> None:
        normalise.check_policy(self.normalise)
        if x.ndim != 4:
            raise InputError(f"a ResNet takes images [B, H, W, C]; found shape {x.shape}")
        check_counts("blocks of a ResNet", self.blocks)
        check_counts("base of a ResNet", (self.base,))
        if self.crop < 0:
            raise InputError(f"crop of a ResNet must not be negative; found {self.crop}")
        most: dict[str, float] = dict(equal_blocks(self.blocks))  # that can be cut
        for stage, count in enumerate(self.blocks, 1):
            first = int(stage > 1)
            if first and not self.preactivate:
                most[f"strided{stage}"] = 1
            if f"stage{stage}" not in self.widths:
                most |= {f"filters{stage}_{n}": math.inf for n in range(first, count)}
        for group, width in self.widths.items():
            if group.startswith("hidden"):
                continue
            if group not in most:
                raise InputError(
                    f"a ResNet has no {group!r}; it has hidden0, ..., {', '.join(most)}"
                )
            if not 0 < width <= most[group]:
                raise InputError(f"{group} must have 1 to {most[group]} members, found {width}")


def _norm(of: Block | ResNet, x: Array, name: str, train: bool, group: str | None = None) -> Array:
    if of.normalise != "standardise":
        return x
    return normalise.Standardise(group, of.affine, name=f"norm_{name}")(x, train)
