"""An artifact store in a dictionary."""

from __future__ import annotations

from mlretrain.errors import NotFound


class MemoryStore:
    """An :class:`mlretrain.ports.ArtifactStore` that lives as long as the test."""

    def __init__(self, root_uri: str = "memory://artifacts") -> None:
        self.root_uri = root_uri
        self.objects: dict[str, bytes] = {}

    def read(self, path: str) -> bytes:
        if path not in self.objects:
            raise NotFound("there is no such object", where=f"{self.root_uri}/{path}")
        return self.objects[path]

    def write(self, path: str, data: bytes) -> None:
        self.objects[path] = data

    def create(self, path: str, data: bytes) -> bool:
        if path in self.objects:
            return False
        self.objects[path] = data
        return True

    def list(self, prefix: str) -> list[str]:
        return sorted(path for path in self.objects if path.startswith(prefix))
