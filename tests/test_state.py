"""States between rounds: what they are begun from, changed by, and when they are used up."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mlp_tree, regression_batches, same_bits
from training import trainer_of

import ist_jax
from ist_jax import method, validate
from ist_jax.core.errors import InputError
from ist_jax.sharded import placement as devices

DIMS = (6, 12, 8, 3)


@jax.tree_util.register_pytree_node_class
class Callable:
    """A tree of parameters that can be called, as an Equinox module is."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __call__(self, x):
        return jnp.tanh(x @ self.a) @ self.b

    def tree_flatten(self):
        return (self.a, self.b), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


def test_a_tree_of_parameters_may_be_callable():
    net = Callable(jnp.ones((3, 8)), jnp.ones((8, 2)))
    names = Callable((None, "h"), ("h", None))
    loss = lambda net, x, key: jnp.mean(net(x) ** 2)
    x = np.ones((2, 2, 4, 3), np.float32)
    for policy in ("reset", "keep"):
        trainer = ist_jax.build(
            loss, optax.adam(0.1), net, names, method=method.ist(), workers=2,
            optimizer_state=policy,
        )  # fmt: skip
        state, _ = trainer.round(trainer.init(net, jax.random.key(0)), x)
        assert isinstance(state.params, Callable)
        assert not same_bits(state.params, net)
    make = lambda key: net
    assert same_bits(trainer.init(make, jax.random.key(0)).params, net), "a function of a key, too"


@pytest.mark.parametrize("many", [1, 4])
def test_a_state_that_is_used_up_says_which_call_took_it(many):
    params, names = mlp_tree(DIMS)
    trainer = trainer_of(params, names, method.ist(), 4, mesh=devices.mesh(4, many))
    batch = regression_batches(1, 4, 2, 8, 6, 3)[0]
    used = trainer.init(params, jax.random.key(0))
    state, _ = trainer.round(used, batch)
    said = "used up: Trainer.round was called with it before.*the state that call returned"
    calls = [
        lambda: trainer.round(used, batch),
        lambda: trainer.unsharded(used),
        lambda: trainer.whole(used),
        lambda: trainer.sharded_params(used),
        lambda: trainer.resume(used),
        lambda: trainer.map_params(jnp.abs, used),
    ]
    for call in calls:
        with pytest.raises(InputError, match=said):
            call()
    trainer.round(state, batch)


@pytest.mark.optimized
@pytest.mark.parametrize("how", [method.ist(), method.local_sgd(), method.resist(2)])
def test_a_function_of_leaves_gives_the_same_net_on_any_number_of_devices(how):
    """Functions that see more than an entry: of its place, and of the leaf's shape."""

    def function(leaf):
        place = jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)
        return leaf * 0.5 + place / leaf.shape[0]

    params, names = mlp_tree(DIMS)
    found = []
    for many in (1, 2, 4):
        trainer = trainer_of(
            params, names, how, 4, optax.sgd(0.1, 0.9), optimizer_state="keep", exact=True,
            mesh=devices.mesh(4, many),
        )  # fmt: skip
        state = trainer.init(params, jax.random.key(0))
        for batch in regression_batches(3, 4, 2, 8, 6, 3):
            before = trainer.whole(state).params
            state = trainer.map_params(function, state)
            expected = jax.jit(lambda tree: jax.tree.map(function, tree))(before)
            assert same_bits(trainer.whole(state).params, expected)
            state, _ = trainer.round(state, batch)
        found.append(trainer.whole(state))
    for other in found[1:]:
        assert same_bits((other.params, other.opt_state), (found[0].params, found[0].opt_state))


def test_a_function_of_leaves_must_keep_their_shapes():
    params, names = mlp_tree(DIMS)
    trainer = trainer_of(params, names, method.ist(), 4)
    with pytest.raises(InputError, match="does not fit the trainer"):
        trainer.map_params(lambda leaf: leaf[:1], trainer.init(params, jax.random.key(0)))


@pytest.mark.parametrize("wrong", [2.0, True, "4", None, 0, -1])
def test_a_number_of_workers_that_is_none(wrong):
    with pytest.raises(InputError, match="workers must be an integer >= 1, found"):
        validate.check_workers(wrong)


@pytest.mark.parametrize(
    "wrong", [["False"] * 4, np.ones(4), [0, 1, 1, 0], [[True] * 4], [None] * 4]
)
def test_who_took_part_must_be_truth_values(wrong):
    params, names = mlp_tree(DIMS)
    trainer = trainer_of(params, names, method.ist(), 4)
    batch = regression_batches(1, 4, 2, 8, 6, 3)[0]
    with pytest.raises(InputError, match=r"took_part must be bool\[4\], found"):
        trainer.round(trainer.init(params, jax.random.key(0)), batch, wrong)
