"""Programs that are compiled once for several runs of a process."""

import contextlib
import tempfile
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

CACHE = {  # JAX's, for what is compiled; of everything, however small
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": 0,
}


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """What one run compiles, the next ones find: most programs do not depend on what is swept.

    JAX's cache, in a folder that goes at the end; or where the user has set one, there.
    """
    if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        yield
        return
    before = {key: getattr(jax.config, key) for key in CACHE}
    with tempfile.TemporaryDirectory(prefix="ist_jax_", ignore_cleanup_errors=True) as folder:
        try:
            for key, value in {**CACHE, "jax_compilation_cache_dir": folder}.items():
                jax.config.update(key, value)
            compilation_cache.reset_cache()  # which has settled that there is none, if asked before
            yield
        finally:
            for key, value in {**before, "jax_compilation_cache_dir": None}.items():
                jax.config.update(key, value)
            compilation_cache.reset_cache()
