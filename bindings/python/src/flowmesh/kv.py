"""Key-value stores."""

from __future__ import annotations

from datetime import timedelta

from . import _operations as operations
from ._arguments import Bytes
from ._loop import LoopConnection


class KVClient:
    """The stores of a client, as `client.kv`. Tenant, namespace and store name a store; the first set
    creates it.
    """

    def __init__(self, connection: LoopConnection) -> None:
        self._connection = connection

    async def set(
        self,
        tenant: str,
        namespace: str,
        store: str,
        key: str,
        value: Bytes,
        ttl: timedelta | None = None,
    ) -> None:
        """Stores a value of at least 1 byte, for `ttl` (above 0, rounded up to whole seconds) or, without
        one, for ever.
        """
        await self._connection.call(operations.kv_set, tenant, namespace, store, key, value, ttl)

    async def get(self, tenant: str, namespace: str, store: str, key: str) -> bytes:
        """The value of the key; FlowMeshNotFoundError when there is none."""
        return await self._connection.call(operations.kv_get, tenant, namespace, store, key)

    async def delete(self, tenant: str, namespace: str, store: str, key: str) -> None:
        """Removes the key; one that is not there is no failure."""
        await self._connection.call(operations.kv_delete, tenant, namespace, store, key)

    async def exists(self, tenant: str, namespace: str, store: str, key: str) -> bool:
        """Whether the key is there."""
        return await self._connection.call(operations.kv_exists, tenant, namespace, store, key)

    async def list_keys(self, tenant: str, namespace: str, store: str, prefix: str = "") -> list[str]:
        """Every key that starts with `prefix`, in byte order."""
        return await self._connection.call(operations.kv_list_keys, tenant, namespace, store, prefix)
