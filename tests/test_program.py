"""Work and width of programs, against closed forms and XLA's count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mlp_loss, mlp_tree

from ist_jax import axes
from ist_jax.cost import program
from ist_jax.models import normalise
from ist_jax.models.cnn import CNN
from ist_jax.models.convolution import Convolution
from ist_jax.tasks import classification

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize("workers", [1, 4])
def test_flops_of_a_step_are_the_closed_form(workers):
    """Six operations for every weight but the first layer's, which needs no input gradient."""
    n0, n1, n2, n3 = (784, 1024, 512, 10)
    m1, m2, batch = n1 // workers, n2 // workers, 32
    net, _ = mlp_tree((n0, m1, m2, n3))
    data = {"x": jnp.ones((batch, n0)), "y": jnp.ones((batch, n3))}
    got = program.flops(jax.grad(mlp_loss), net, data, jax.random.key(0))
    assert got == batch * (4 * n0 * m1 + 6 * m1 * m2 + 6 * m2 * n3)


def test_loops_count_as_often_as_they_run():
    x = jnp.ones((4, 4))
    assert (
        program.flops(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=5), x) == 5 * 128
    )
    assert program.flops(jax.jit(lambda x: x @ x), x) == 128


def test_flops_of_a_convolutional_net_agree_with_xla():
    """XLA also counts what is not a product, and leaves out taps in the padding: within 10 %."""
    model = CNN({"filters0": 16, "filters1": 32, "hidden0": 64}, classes=10, normalise="none")
    data = {"x": jnp.ones((16, 28, 28, 1)), "y": jnp.zeros(16, jnp.int32)}
    params, _ = axes.of(model.init(jax.random.key(0), data["x"], train=True))
    grad = jax.grad(classification.cross_entropy(normalise.subnet(model, {})))
    ours = program.flops(grad, params, data, jax.random.key(0))
    cost = jax.jit(grad).lower(params, data, jax.random.key(0)).compile().cost_analysis()
    assert cost["flops"] * 0.9 < ours < cost["flops"] * 1.1


def test_the_widest_array_is_found_wherever_it_is():
    x = jnp.ones((3, 4))
    assert program.widest(lambda x: jnp.sum(x[:, None] * x), x) == 3 * 3 * 4
    assert program.widest(jax.jit(lambda x: jnp.tile(x, (1, 5)).sum()), x) == 3 * 20
    looped = lambda x: jax.lax.scan(lambda c, _: (jnp.tile(c, (2, 1))[:3], None), x, length=9)[0]
    assert program.widest(looped, x) == 6 * 4


def test_patches_count_and_shapes_are_enough():
    model = Convolution(filters=8)
    x = jax.ShapeDtypeStruct((100, 28, 28, 16), np.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    assert program.widest(model.apply, params, x) == 100 * 28 * 28 * 9 * 16
