"""How a worker imports a person's modules: by name, from the files as they were when the session began.

So what a module does when it is imported is in force, its classes can be pickled, a file that is edited while
the search runs changes nothing, and the nodes of a cluster need not have the files.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any


class Sources(MetaPathFinder):
    """Finds the modules in `files` (relative paths and contents), which were read in the folder `root`. Any
    other module in `root` is imported from its file, after all other places."""

    def __init__(self, root: str, files: Mapping[str, bytes]):
        self._root, self._files = Path(root), files
        self.digest = hashlib.sha256(repr((root, sorted(files.items()))).encode()).hexdigest()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        inside = name.replace(".", "/")
        for file, package in ((f"{inside}/__init__.py", True), (f"{inside}.py", False)):
            if file in self._files:
                place = str(self._root / file)
                folders = [str(self._root / inside)] if package else None
                loader = _Loader(name, place, self._files[file])
                return spec_from_file_location(name, place, loader=loader, submodule_search_locations=folders)
        if any(file.startswith(f"{inside}/") for file in self._files):  # a package without __init__.py
            spec = ModuleSpec(name, None, is_package=True)
            elsewhere = PathFinder.find_spec(name, path)  # its other parts
            more = elsewhere.submodule_search_locations or () if elsewhere else ()
            here = str(self._root / inside)
            spec.submodule_search_locations = [here, *(p for p in more if p != here)]
            return spec
        return None

    def holds(self, name: str) -> bool:
        """Whether a module called `name` is one of these."""
        return self.find_spec(name, None) is not None


class _Loader(SourceFileLoader):
    """Loads a module from a content that was read before, as if it were its file's."""

    def __init__(self, name: str, path: str, content: bytes):
        super().__init__(name, path)
        self._content = content

    def get_data(self, path: str) -> bytes:
        return self._content if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("the compiled file belongs to the file, which may have changed")


def install(root: str, files: Mapping[str, bytes]) -> None:
    """Import these modules in this process from now on, instead of those of an earlier study."""
    new = Sources(root, files)
    known = next((f for f in sys.meta_path if isinstance(f, Sources)), None)
    if known is not None and known.digest == new.digest:
        return
    if known is not None:
        sys.meta_path.remove(known)
    for name in [n for n in sys.modules if new.holds(n) or (known is not None and known.holds(n))]:
        del sys.modules[name]
    sys.meta_path.insert(0, new)
    if root not in sys.path:
        sys.path.append(root)  # at the end, so that a file there hides nothing
