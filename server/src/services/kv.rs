//! KVService.

use std::sync::Arc;

use flowmesh_proto::{
    server::kv_service_server::KvService,
    v1::{
        DeleteRequest, DeleteResponse, ExistsRequest, ExistsResponse, GetRequest, GetResponse,
        ListKeysRequest, ListKeysResponse, SetRequest, SetResponse,
    },
};
use tonic::{Request, Response, Result, Status, async_trait};

use super::{fields, ok, open};
use crate::{access::Permission, engine::KvStore, resource::ResourceKind::Kv as KIND};

pub struct Kv {
    stores: Arc<dyn KvStore>,
}

impl Kv {
    pub fn new(stores: Arc<dyn KvStore>) -> Self {
        Self { stores }
    }
}

#[async_trait]
impl KvService for Kv {
    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>> {
        let (caller, r) = open(request);
        let store = fields::resource(r.resource_path, KIND)?;
        fields::key(&r.key)?;
        fields::not_empty("value", &r.value)?;
        fields::seconds("ttl_seconds", r.ttl_seconds)?;
        caller.may(Permission::KvWrite, &store)?;
        self.stores.set(&store, &r.key, r.value, r.ttl_seconds).await?;
        Ok(Response::new(SetResponse { status: ok() }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>> {
        let (caller, r) = open(request);
        let store = fields::resource(r.resource_path, KIND)?;
        fields::key(&r.key)?;
        caller.may(Permission::KvRead, &store)?;
        match self.stores.get(&store, &r.key).await? {
            Some(value) => Ok(Response::new(GetResponse { status: ok(), value })),
            None => Err(Status::not_found(format!("no key {:?} in {store}", r.key))),
        }
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>> {
        let (caller, r) = open(request);
        let store = fields::resource(r.resource_path, KIND)?;
        fields::key(&r.key)?;
        caller.may(Permission::KvWrite, &store)?;
        self.stores.delete(&store, &r.key).await?;
        Ok(Response::new(DeleteResponse { status: ok() }))
    }

    async fn exists(&self, request: Request<ExistsRequest>) -> Result<Response<ExistsResponse>> {
        let (caller, r) = open(request);
        let store = fields::resource(r.resource_path, KIND)?;
        fields::key(&r.key)?;
        caller.may(Permission::KvRead, &store)?;
        let exists = self.stores.exists(&store, &r.key).await?;
        Ok(Response::new(ExistsResponse { status: ok(), exists }))
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>> {
        let (caller, r) = open(request);
        let store = fields::resource(r.resource_path, KIND)?;
        caller.may(Permission::KvRead, &store)?;
        let keys = self.stores.list_keys(&store, &r.prefix).await?;
        Ok(Response::new(ListKeysResponse { status: ok(), keys }))
    }
}
