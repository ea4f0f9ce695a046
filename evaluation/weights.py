r"""Weight files of the Inception network: read without running them, never downloaded.

A ``.pth`` file is read by ``torch.load(weights_only=True)``, which runs no code; its names and shapes are compared with
those of the network, and its SHA-256 is kept for the report. A TorchScript archive (``inception-2015-12-05.pt``) is a
program: merely loading one can write files. It is refused unless the caller vouches for it with ``trust``.

The public files hold equal tensors under equal names; the first digits of their SHA-256 stand in their names.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divergences.errors import InputError
from evaluation.inception import tensor_shapes

if TYPE_CHECKING:
    import torch

__all__ = ["PUBLIC_FILES", "PUBLIC_SHA256", "Weights", "load_weights", "missing_weights"]

PUBLIC_FILES = {
    "pt_inception-2015-12-05-6726825d.pth": (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
    ),
    "weights-inception-2015-12-05-6726825d.pth": (
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
    ),
}
# The first digits of the public file's SHA-256, which its name carries.
PUBLIC_SHA256 = "6726825d"
_LARGEST_FILE = 2**30


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights that were read and checked.

    Attributes:
        tensors: by name, or None for a program (TorchScript) with layers of its own.
        program: the network of a trusted TorchScript archive, or None.
        sha256: of the file, 64 hexadecimal digits.
        file: its name.
    """

    tensors: dict[str, torch.Tensor] | None
    program: Any
    sha256: str
    file: str

    @property
    def public(self) -> bool:
        """Whether this is the public file, so that scores can be compared with published ones."""
        return self.sha256.startswith(PUBLIC_SHA256)


def missing_weights() -> InputError:
    """The error for Inception features without a weight file: what to get, where, and how to check it."""
    name, address = next(iter(PUBLIC_FILES.items()))
    return InputError(
        f"features=inception needs the network's weights, which are never downloaded for you: get {name} (96 MB, "
        f"SHA-256 beginning {PUBLIC_SHA256}) from {address} and pass weights= (--weights PATH on the command line). "
        "Without them: pixels, pca:N, random-conv or classifier."
    )


def load_weights(path: str | os.PathLike[str], *, trust: bool = False) -> Weights:
    """Read a weight file without running anything in it.

    Args:
        path: one of ``PUBLIC_FILES``, or another file of the same tensors.
        trust: load TorchScript archives too, which runs the code in them.

    Raises:
        InputError: missing, damaged, a program without ``trust``, or the weights of another network.
    """
    file = Path(path)
    data = _bytes_of(file)
    sha256 = hashlib.sha256(data).hexdigest()
    if _is_program(data):
        return _program(data, sha256, file, trust)
    return Weights(_checked(_unpickled(data, file), file), None, sha256, file.name)


def _bytes_of(file: Path) -> bytes:
    """All of the file at once, so that what is hashed is what is loaded."""
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "this is a folder; name the .pth file in it")
        size = file.stat().st_size
        if size > _LARGEST_FILE:
            raise InputError(f"{file} holds {size / 2**30:.1f} GiB; Inception weights take 96 MB. Is it another file?")
        return file.read_bytes()
    except FileNotFoundError as error:
        name, address = next(iter(PUBLIC_FILES.items()))
        raise InputError(f"{file}: there is no such weight file. {name} is published at {address}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _is_program(data: bytes) -> bool:
    """TorchScript archives hold code beside the tensors."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _unpickled(data: bytes, file: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch wonders about in a file that it then refuses
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from KeyError to RuntimeError on damaged or hostile files
        raise InputError(
            f"{file} is no file of weights that can be read without running code, or it is damaged (its SHA-256 is "
            f"{hashlib.sha256(data).hexdigest()}; the public file's begins {PUBLIC_SHA256}). Download it again, or "
            "save a plain state_dict()."
        ) from error


def _checked(given: Any, file: Path) -> dict[str, torch.Tensor]:
    """The tensors of our network; names, shapes and values are compared with what it needs."""
    import torch

    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{file} must hold a state_dict, names → tensors; it holds a {type(given).__name__}.")
    head = given.get("fc.weight")
    if any(name.startswith("AuxLogits") for name in given) or (torch.is_tensor(head) and head.shape[0] == 1000):
        raise InputError(
            f"{file} holds the ImageNet weights of another Inception v3 (torchvision's): FID is defined with the "
            f"network of 2015-12-05, {next(iter(PUBLIC_FILES))}."
        )
    shapes = tensor_shapes()
    lacking = [name for name in shapes if not torch.is_tensor(given.get(name))]
    if lacking:
        raise InputError(
            f"{file} lacks {len(lacking)} of the {len(shapes)} tensors of the Inception network (first: {lacking[0]}). "
            f"The file to get is {next(iter(PUBLIC_FILES))}."
        )
    tensors = {}
    for name, shape in shapes.items():
        tensor = given[name]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point() or tensor.is_sparse:
            raise InputError(f"{file}: {name} must be floats of shape {shape}; it is {tuple(tensor.shape)}.")
        tensors[name] = tensor.detach().to(torch.float32).contiguous()
        if not bool(torch.isfinite(tensors[name]).all()) or (name.endswith("running_var") and bool((tensor < 0).any())):
            raise InputError(f"{file}: {name} holds NaN, infinite or impossible values. Download the file again.")
    return tensors


def _program(data: bytes, sha256: str, file: Path, trust: bool) -> Weights:  # noqa: FBT001
    if not trust:
        raise InputError(
            f"{file} is a TorchScript archive, a program: merely loading one runs code in it, which can write files. "
            f"Use {next(iter(PUBLIC_FILES))} instead, which holds numbers only; or, if you trust where it comes from, "
            "pass trust=True (--trust on the command line)."
        )
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out; such files are not
            program = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{file} is a damaged TorchScript archive ({str(error).splitlines()[0]}).") from error
    names = program.state_dict()
    if set(tensor_shapes()) <= set(names):
        return Weights(_checked(dict(names), file), None, sha256, file.name)
    return Weights(None, program, sha256, file.name)
