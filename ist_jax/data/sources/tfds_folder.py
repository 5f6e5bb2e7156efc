"""Sets that TensorFlow Datasets has prepared, opened without TensorFlow and without downloading.

They must be prepared with ``file_format="array_record"``, and are read through ``as_data_source``.
"""

from pathlib import Path
from typing import Any

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data.extras import needed
from ist_jax.data.sources.decoding import first_line
from ist_jax.data.sources.image_sets import PARTS, Opened

USUAL = "~/tensorflow_datasets"
INFO = "dataset_info.json"


def opened(name: str, path: str, parts: tuple[str, str]) -> Opened:
    """A set of images that TensorFlow Datasets publishes, or one prepared as it.

    Args:
      path: its folder, or one of sets; ``~/tensorflow_datasets`` if empty.
      parts: what it calls its training and its test part.

    Raises:
      InputError: it is not there, or cannot be read.
    """
    folder = expanded(path or USUAL, "data.path")
    how = (
        f"Prepare it with TensorFlow Datasets ({name}, file_format='array_record') and set "
        "data.path to its folder."
    )
    if not folder.is_dir():
        raise InputError(f"{name} was not found: there is no folder {folder}. {how}")
    builder = builder_of(name, folder, how)
    try:
        features = builder.info.features
        return Opened(
            name,
            Path(builder.data_path),
            features["label"].num_classes,
            tuple(features["image"].shape),
            {
                ours: (f"{name}, {part} part", packed(builder, part, "image"))
                for ours, part in zip(PARTS, parts, strict=True)
            },
        )
    except Exception as error:
        raise unreadable(name, folder, error, how) from None


def files_of(folder: Path) -> list[Path]:
    """What a prepared set is made of."""
    return sorted(path for path in folder.glob("*") if path.is_file())


def check_files(folder: Path, name: str) -> None:
    """Complains about a pipe or a device in a prepared set, which would be waited for."""
    for file in (*folder.glob("*"), *(folder / name).glob("**/*")):
        if file.exists() and not file.is_dir() and not file.is_file():
            raise InputError(f"{file} is no regular file. Prepare {name} again.")


def builder_of(name: str, folder: Path, how: str) -> Any:
    """A builder of TensorFlow Datasets; it never prepares by itself, which would download."""
    check_files(folder, name)
    with needed("datasets"):
        import tensorflow_datasets  # seconds to import, and seldom needed
        from PIL import Image  # noqa: F401  (images are opened with it, much later)

    try:
        if (folder / INFO).exists():
            return tensorflow_datasets.builder_from_directory(str(folder))
        return tensorflow_datasets.builder(name, data_dir=str(folder), file_format="array_record")
    except Exception as error:
        raise unreadable(name, folder, error, how) from None


def unreadable(name: str, folder: Path, error: Exception, how: str) -> InputError:
    """TensorFlow Datasets tells of missing data by many types: registration, assertion, value."""
    return InputError(
        f"TensorFlow Datasets could not read {name} from {folder}: {first_line(error)}. {how}"
    )


def packed(builder: Any, part: str, feature: str) -> Any:
    """Examples whose images are bytes; of mock data, whose bytes need TensorFlow, pixels."""
    import tensorflow_datasets

    skip = tensorflow_datasets.decode.SkipDecoding()
    try:
        source = builder.as_data_source(split=part, decoders={feature: skip})
        source[0]
        return source
    except ImportError:
        return builder.as_data_source(split=part)
