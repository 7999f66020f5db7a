"""Users that do anything to a folder, reproducibly."""

from __future__ import annotations

import os
import random
import shutil
import time
import unicodedata
from pathlib import Path

MANY = 40
"""Trees with more paths than this are not copied."""
TICK_NS = 10_000_000
NAMES = ("a", "b", "c", "d.txt", "é", "name.tar.gz")


class User:
    """Changes a folder at random. What it saves is told apart by a number, but for some contents that everybody has."""

    def __init__(self, root: Path, rng: random.Random, name: str) -> None:
        self.root = root
        self.rng = rng
        self.name = name
        self.saved = 0

    def act(self, *, honest: bool = False) -> str:
        """Do something, and say what. The `honest` do not hide an edit by giving a file its old time again."""
        action = self.rng.choices(
            [
                self.write, self.edit, self.rename, self.rename_directory, self.delete, self.make_directory, self.link,
                self.set_mode, self.save_by_replacing, self.swap, self.touch, self.delete_tree,
                self.turn_into_directory, self.nest, self.overwrite_by_move, self.respell,
                self.edit_keeping_time, self.copy, self.copy_tree, self.turn_into_file, self.append, self.backdate,
            ],
            weights=[6, 6, 5, 4, 2, 3, 3, 6, 2, 1, 1, 2, 1, 1, 1, 0.3, 1, 1, 0.5, 0.7, 1, 0.5],
        )[0]  # fmt: skip
        if honest and action == self.edit_keeping_time:
            action = self.edit
        try:
            action()
        except OSError as error:
            return f"{action.__name__}: {error}"
        return action.__name__

    # ---- what there is ----

    def paths(self) -> list[Path]:
        found = []
        for directory, names, files in os.walk(self.root):
            if Path(directory) == self.root and ".syncline" in names:
                names.remove(".syncline")
            found += [Path(directory) / name for name in (*names, *files)]
        return sorted(found)

    def files(self) -> list[Path]:
        return [path for path in self.paths() if path.is_file() and not path.is_symlink()]

    def directories(self) -> list[Path]:
        return [path for path in self.paths() if path.is_dir() and not path.is_symlink()]

    def a_directory(self) -> Path:
        return self.rng.choice([self.root, *self.directories()])

    def a_place(self) -> Path:
        """A name in a directory; as it is spelled there, if it is there."""
        directory, name = self.a_directory(), self.rng.choice(NAMES)
        for there in directory.iterdir():
            if unicodedata.normalize("NFC", there.name) == name:
                return there
        return directory / name

    def content(self) -> bytes:
        if self.rng.random() < 0.15:
            return self.rng.choice((b"", b"common", b"shared by many"))
        self.saved += 1
        return f"{self.name} {self.saved:05}".encode()

    # ---- what it does ----

    def write(self) -> None:
        place = self.a_place()
        if not place.is_symlink() and not place.is_dir():
            place.write_bytes(self.content())

    def edit(self) -> None:
        if files := self.files():
            self.rng.choice(files).write_bytes(self.content())

    def rename(self) -> None:
        if paths := self.paths():
            place = self.a_place()
            if not place.exists() and not place.is_symlink():
                self.rng.choice(paths).rename(place)

    def rename_directory(self) -> None:
        if directories := self.directories():
            place = self.a_place()
            if not place.exists() and not place.is_symlink():
                self.rng.choice(directories).rename(place)

    def delete(self) -> None:
        if files := [path for path in self.paths() if not path.is_dir() or path.is_symlink()]:
            self.rng.choice(files).unlink()

    def delete_tree(self) -> None:
        if directories := self.directories():
            shutil.rmtree(self.rng.choice(directories))

    def make_directory(self) -> None:
        place = self.a_place()
        if not place.is_symlink():
            place.mkdir(exist_ok=True)

    def link(self) -> None:
        self.a_place().symlink_to(self.rng.choice(("a", "../b", "/nowhere", "c/d.txt")))

    def set_mode(self) -> None:
        if files := self.files():
            file = self.rng.choice(files)
            file.chmod(file.stat().st_mode ^ 0o111)

    def save_by_replacing(self) -> None:
        if files := self.files():
            file = self.rng.choice(files)
            temporary = file.with_name("editor~")
            temporary.write_bytes(self.content())
            temporary.rename(file)

    def swap(self) -> None:
        paths = self.paths()
        if len(paths) >= 2:
            one, other = self.rng.sample(paths, 2)
            if one not in other.parents and other not in one.parents:
                aside = self.root / "aside"
                one.rename(aside)
                other.rename(one)
                aside.rename(other)

    def touch(self) -> None:
        if files := self.files():
            os.utime(self.rng.choice(files))

    def turn_into_directory(self) -> None:
        if files := self.files():
            file = self.rng.choice(files)
            file.unlink()
            file.mkdir()
            (file / "inside").write_bytes(self.content())

    def nest(self) -> None:
        """Put a directory into one that was in it."""
        inner = [path for path in self.directories() if path.parent != self.root]
        if inner:
            chosen = self.rng.choice(inner)
            outer = chosen.parent
            name = unicodedata.normalize("NFC", outer.name)
            if any(unicodedata.normalize("NFC", there.name) == name for there in chosen.iterdir()):
                return
            aside = self.root / "nested"
            chosen.rename(aside)
            outer.rename(aside / outer.name)
            aside.rename(outer)

    def overwrite_by_move(self) -> None:
        files = self.files()
        if len(files) >= 2:
            one, other = self.rng.sample(files, 2)
            one.rename(other)

    def respell(self) -> None:
        """Use the other Unicode form of a name."""
        for path in self.paths():
            for form in ("NFC", "NFD"):
                name = unicodedata.normalize(form, path.name)
                if name != path.name and not path.with_name(name).exists():
                    path.rename(path.with_name(name))
                    return

    def edit_keeping_time(self) -> None:
        """Write as many bytes as were there, and give the file the time that it had."""
        if files := self.files():
            file = self.rng.choice(files)
            before = file.stat()
            # Within a tick of the kernel's clock nobody could tell.
            while time.time_ns() - before.st_ctime_ns < TICK_NS:
                time.sleep(0.001)
            self.saved += 1
            data = f"{self.name} {self.saved:05}".encode()
            if before.st_size == len(data):
                file.write_bytes(data)
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    def copy(self) -> None:
        """Keeping the time, as cp -p does."""
        place = self.a_place()
        if (files := self.files()) and not place.exists() and not place.is_symlink():
            shutil.copy2(self.rng.choice(files), place)

    def copy_tree(self) -> None:
        place = self.a_place()
        directories = [path for path in self.directories() if path not in (place, *place.parents)]
        if directories and not place.exists() and not place.is_symlink() and len(self.paths()) < MANY:
            shutil.copytree(self.rng.choice(directories), place, symlinks=True)

    def turn_into_file(self) -> None:
        if directories := self.directories():
            directory = self.rng.choice(directories)
            shutil.rmtree(directory)
            directory.write_bytes(self.content())

    def append(self) -> None:
        if files := self.files():
            with self.rng.choice(files).open("ab") as file:
                self.saved += 1
                file.write(f", {self.name} {self.saved:05}".encode())

    def backdate(self) -> None:
        if files := self.files():
            os.utime(self.rng.choice(files), ns=(10**18, 10**18))
