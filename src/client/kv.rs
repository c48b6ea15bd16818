//! Key-value stores.

use bytes::Bytes;
use flowmesh_proto::v1::{
    DeleteRequest, ExistsRequest, GetRequest, ListKeysRequest, SetRequest, kv_service_client::KvServiceClient,
};

use super::{
    client::{Client, Resource},
    error::{Effect, Result},
    options::CallOptions,
    rules,
};

/// A key-value store of a client.
#[derive(Debug, Clone)]
pub struct Kv(Resource);

impl Kv {
    pub(crate) fn new(resource: Resource) -> Self {
        Self(resource)
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// `tenant/namespace/kv/name`.
    pub fn canonical_path(&self) -> &str {
        &self.0.text
    }

    /// Stores `value` in place of what `key` held, time to live included; `ttl_ms` 0 keeps it for
    /// ever.
    pub async fn set(&self, key: &str, value: Bytes, ttl_ms: i64, options: &CallOptions) -> Result<()> {
        rules::key(key)?;
        rules::not_empty("value", &value)?;
        let ttl_seconds = rules::delay_seconds("ttl_ms", ttl_ms)?;
        let call = self.0.call("set a key of", Effect::Idempotent, options);
        let request = SetRequest { resource_path: self.0.path(), key: key.to_owned(), value, ttl_seconds };
        self.client()
            .call(call, request, async |wire, request| wire.client(KvServiceClient::new).set(request).await)
            .await
            .map(drop)
    }

    /// The value of `key`; NOT_FOUND when it has none.
    pub async fn get(&self, key: &str, options: &CallOptions) -> Result<Bytes> {
        rules::key(key)?;
        let call = self.0.call("get a key of", Effect::None, options);
        let request = GetRequest { resource_path: self.0.path(), key: key.to_owned() };
        let reply = self
            .client()
            .call(call, request, async |wire, request| wire.client(KvServiceClient::new).get(request).await)
            .await?;
        Ok(reply.value)
    }

    /// Removes `key`; fine when it is not there.
    pub async fn delete(&self, key: &str, options: &CallOptions) -> Result<()> {
        rules::key(key)?;
        let call = self.0.call("delete a key of", Effect::Idempotent, options);
        let request = DeleteRequest { resource_path: self.0.path(), key: key.to_owned() };
        self.client()
            .call(call, request, async |wire, request| {
                wire.client(KvServiceClient::new).delete(request).await
            })
            .await
            .map(drop)
    }

    /// Whether `key` has a value.
    pub async fn exists(&self, key: &str, options: &CallOptions) -> Result<bool> {
        rules::key(key)?;
        let call = self.0.call("look for a key of", Effect::None, options);
        let request = ExistsRequest { resource_path: self.0.path(), key: key.to_owned() };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(KvServiceClient::new).exists(request).await
            })
            .await?;
        Ok(reply.exists)
    }

    /// Every key that starts with `prefix`, in byte order.
    pub async fn list_keys(&self, prefix: &str, options: &CallOptions) -> Result<Vec<String>> {
        let call = self.0.call("list keys of", Effect::None, options);
        let request = ListKeysRequest { resource_path: self.0.path(), prefix: prefix.to_owned() };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(KvServiceClient::new).list_keys(request).await
            })
            .await?;
        Ok(reply.keys)
    }
}
