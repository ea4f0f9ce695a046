r"""Image files in folders, zip and tar archives, one after the other, read in place.

Nothing is extracted, so a name in an archive cannot lead anywhere: it is shown, sorted by, and looked at for its class
folder. An archive is believed only as far as its size allows: how many images it may hold, how large each may be, how
large all together, and how many times its own size it may become are limited, before anything is unpacked.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from divergences.errors import InputError
from evaluation import readers
from evaluation.images import Pictures, decoded, is_image_name, shown

__all__ = ["ARCHIVE_SUFFIXES", "read_archive", "read_folder"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_IMAGES = 2_000_000
MAX_IMAGE_FILE = 2**28
# Images hardly shrink in an archive. One that is to become this many times its size is a bomb, unless it is small.
MAX_RATIO = 100
HARMLESS = 2**28


def read_folder(folder: Path) -> Pictures:
    """All images of a folder and its subfolders, sorted by path; links to folders are not followed.

    Raises:
        InputError: no images, unusable ones, or a folder that cannot be read.
    """
    return decoded(_folder_files(folder), str(folder))


def read_archive(path: Path) -> Pictures:
    """All images of a ``.zip`` or ``.tar``, plain or compressed, sorted by name.

    Raises:
        InputError: no images, unusable ones, damage, encryption, or an archive that would explode.
    """
    members = _zip_files(path) if path.suffix.lower() == ".zip" else _tar_files(path)
    return decoded(members, str(path))


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from error

    count = 0
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for file in sorted(files):
            path = Path(place) / file
            name = path.relative_to(folder).as_posix()
            if not is_image_name(name):
                continue
            count += 1
            _check_count(count, folder)
            with readers.opened(path) as opened:
                _check_size(os.fstat(opened.fileno()).st_size, path)
                yield name, opened.read()


def _zip_files(path: Path) -> Iterator[tuple[str, bytes]]:
    readers.opened(path).close()
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir() and is_image_name(info.filename)]
            if not members:
                arrays = any(name.endswith(".npy") for name in archive.namelist())
                hint = " It holds arrays: is it an .npz? Then name it so." if arrays else ""
                raise InputError(f"{path} holds no images.{hint}")
            _check_count(len(members), path)
            total = sum(info.file_size for info in members)
            if total > readers.MAX_BYTES or (total > HARMLESS and total > MAX_RATIO * path.stat().st_size):
                raise _explodes(path, total)
            for info in members:
                _check_size(info.file_size, path, info.filename)
                with archive.open(info) as member:
                    yield info.filename, member.read()
    except InputError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, *readers.BROKEN) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a complete .zip archive, or is encrypted ({shown(reason)}). Copy or write it again."
        ) from error


class _Member(tarfile.TarInfo):
    """Python's own reader takes a damaged header for the end of the archive; here it is damage."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:
        try:
            return super().fromtarfile(tarfile)
        except _HEADER_ERRORS as error:
            raise _Damaged(str(error)) from error


class _Damaged(Exception):
    """The archive breaks off or holds nonsense."""


_HEADER_ERRORS = (
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
    tarfile.SubsequentHeaderError,  # type: ignore[attr-defined]
)


class _Metered:
    """A stream that stops when it has given far more bytes than the file behind it holds."""

    def __init__(self, stream: Any, raw: IO[bytes], path: Path) -> None:
        self.stream, self.raw, self.path = stream, raw, path
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(size)
        self.given += len(data)
        if self.given > readers.MAX_BYTES or (
            self.given > HARMLESS and self.given > MAX_RATIO * max(1, self.raw.tell())
        ):
            raise _explodes(self.path, self.given)
        return data


def _tar_files(path: Path) -> Iterator[tuple[str, bytes]]:
    with readers.opened(path) as raw:
        stream, more = _unpacked(raw)
        failures: tuple[type[Exception], ...] = (_Damaged, tarfile.TarError, *readers.BROKEN, *more)
        count = 0
        try:
            metered = _Metered(stream, raw, path)
            with tarfile.open(fileobj=metered, mode="r|", tarinfo=_Member) as archive:  # type: ignore[call-overload]
                for member in archive:
                    # A member that is skipped is unpacked too, to get past it.
                    if member.size > readers.MAX_BYTES:
                        raise _explodes(path, member.size)
                    if not member.isfile() or not is_image_name(member.name):
                        continue
                    count += 1
                    _check_count(count, path)
                    _check_size(member.size, path, member.name)
                    content = archive.extractfile(member)
                    yield member.name, b"" if content is None else content.read()
                    archive.members = []  # what was read is not needed again, and would pile up
            while metered.read(2**16):
                pass  # to the end, where compressed files have their checksum
        except failures as error:
            if isinstance(error, InputError):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{path} is not a complete .tar archive ({shown(reason)}). Copy or write it again."
            ) from error


def _unpacked(raw: IO[bytes]) -> tuple[Any, tuple[type[Exception], ...]]:
    """The archive behind its compression, and what reading it may raise besides the usual."""
    start = raw.read(6)
    raw.seek(0)
    # Imported where they are needed: not every Python is built with all three.
    if start.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=raw), ()
    if start.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(raw), ()
    if start.startswith(b"\xfd7zXZ\x00"):
        import lzma

        return lzma.LZMAFile(raw), (lzma.LZMAError,)  # noqa: SIM115 (raw is closed by its own with)
    return raw, ()


def _check_count(count: int, path: Path) -> None:
    if count > MAX_IMAGES:
        raise InputError(f"{path} holds more than {MAX_IMAGES} images. Audit a part of it.")


def _check_size(size: int, path: Path, name: str = "") -> None:
    if size > MAX_IMAGE_FILE:
        what = f"{path}: {shown(name)}" if name else str(path)
        raise InputError(f"{what} takes {size / 2**20:.0f} MiB; an image file may take {MAX_IMAGE_FILE / 2**20:.0f}.")


def _explodes(path: Path, size: int) -> InputError:
    return InputError(
        f"{path} would become {size / 2**30:.1f} GiB or more when unpacked; at most {readers.MAX_BYTES / 2**30:g} GiB, "
        f"and {MAX_RATIO} times the size of the archive, are read. If it is honest, audit a part of it."
    )
