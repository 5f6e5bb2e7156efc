"""A file is whole or not there: places where none can be, and disks that fail meanwhile."""

import os
import resource
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax import export
from ist_jax.core.errors import InputError

TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
WRITERS = (export.npz, export.safetensors)


def write_program(path, _):
    export.program(path, lambda x: 2 * x, jax.ShapeDtypeStruct((1, 3), jnp.float32))


@pytest.mark.parametrize("write", [*WRITERS, write_program])
def test_a_place_where_no_file_can_be_is_said(tmp_path, write):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for place, message in {
        tmp_path / "missing" / "net": "there is no folder .*missing. Make it first",
        tmp_path / "folder": "is a folder: add the name of a file",
        "": "is a folder",
        tmp_path / "link": "is a link to .*nowhere, which is not there",
        tmp_path / "pipe": "is a device or a pipe",
        "/dev/full": "is a device or a pipe",
        "/proc/net.npz": "no file can be made there",
        tmp_path / "a\0b": "no file can have that name",
        tmp_path / ("n" * 300): "no file can have that name",
        "~nobody-here/net": "stands for a home folder that is not known",
    }.items():
        with pytest.raises(InputError, match=message):
            write(place, TREE)
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]
    assert os.path.exists("/dev/full")


@pytest.fixture
def not_root():
    """As whom not everything may be written."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_is_said(not_root):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with pytest.raises(InputError, match=r"no file can be made there \(Permission denied\)"):
            export.npz(f"{folder}/net.npz", TREE)


@pytest.mark.parametrize("write", [*WRITERS, write_program])
def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, write):
    """Here a limit on the size of files; a full disk fails in the same call."""
    path = tmp_path / "net"
    path.write_text("before")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limit[1]))
    try:
        with pytest.raises(OSError, match=r"could not be written: .*File too large"):
            write(path, {"w": np.ones(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["net"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_is_there_is_replaced_and_a_link_stays_one(tmp_path, write):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    link.symlink_to(real)
    before = os.umask(0o027)
    try:
        write(link, TREE)
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert real.stat().st_size > 100
    assert real.stat().st_mode & 0o777 == 0o640, "as the umask has it"
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]
