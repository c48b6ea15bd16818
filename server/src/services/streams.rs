//! StreamService. Everything written is in partition 0; another partition is an empty one that
//! has only commits.

use std::{borrow::Cow, sync::Arc};

use flowmesh_proto::{
    server::stream_service_server::StreamService,
    v1::{
        CommitOffsetRequest, CommitOffsetResponse, ConsumerGroupState, GetConsumerGroupStateRequest,
        GetConsumerGroupStateResponse, GetLatestOffsetRequest, GetLatestOffsetResponse, GetOffsetRequest,
        GetOffsetResponse, ReadStreamRequest, ReadStreamResponse, SubscribeRequest, WriteEventsRequest,
        WriteEventsResponse,
    },
};
use tonic::{Request, Response, Result, async_trait};

use super::{PAGE_BYTES, fields, ok, open, subscription::Subscription};
use crate::{
    access::Permission,
    engine::StreamStore,
    limits::Tenants,
    resource::{ResourceKind::Stream as KIND, ResourceName},
};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// `start_offset` of a subscriber that goes on after its group's commit.
const AFTER_COMMIT: i64 = -1;
/// `start_offset` of a subscriber that wants only what is new.
const ONLY_NEW: i64 = -2;

pub struct Streams {
    streams: Arc<dyn StreamStore>,
    tenants: Arc<Tenants>,
}

impl Streams {
    pub fn new(streams: Arc<dyn StreamStore>, tenants: Arc<Tenants>) -> Self {
        Self { streams, tenants }
    }

    /// Newest offset of a partition; fails when the stream is missing, whatever the partition.
    async fn latest(&self, stream: &ResourceName, partition: i32) -> Result<i64> {
        let latest = self.streams.latest(stream).await?;
        Ok(if partition == 0 { latest } else { -1 })
    }

    async fn committed(&self, stream: &ResourceName, group: &str, partition: i32) -> Result<i64> {
        Ok(self.streams.committed(stream, &group_key(group, partition)).await?)
    }
}

#[async_trait]
impl StreamService for Streams {
    type SubscribeStream = Subscription;

    async fn write_events(
        &self,
        request: Request<WriteEventsRequest>,
    ) -> Result<Response<WriteEventsResponse>> {
        let (caller, r) = open(request);
        let stream = fields::resource(r.resource_path, KIND)?;
        fields::events(&r.events)?;
        let count = r.events.len() as i64;
        caller.may(Permission::StreamWrite, &stream)?;
        let first = self.streams.append(&stream, r.events).await?;
        Ok(Response::new(WriteEventsResponse { status: ok(), offsets: (first..first + count).collect() }))
    }

    async fn read_stream(&self, request: Request<ReadStreamRequest>) -> Result<Response<ReadStreamResponse>> {
        let (caller, r) = open(request);
        let stream = fields::resource(r.resource_path, KIND)?;
        fields::offset("offset", r.offset, 0)?;
        caller.may(Permission::StreamRead, &stream)?;
        let messages = if partition(r.partition) == 0 {
            let max_messages = fields::page(r.max_messages, DEFAULT_PAGE, MAX_PAGE);
            self.streams.read(&stream, r.offset, max_messages, PAGE_BYTES).await?
        } else {
            self.streams.latest(&stream).await?;
            Vec::new()
        };
        Ok(Response::new(ReadStreamResponse { status: ok(), messages }))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Subscription>> {
        let (caller, r) = open(request);
        let stream = fields::resource(r.resource_path, KIND)?;
        fields::group(&r.consumer_group)?;
        fields::offset("start_offset", r.start_offset, ONLY_NEW)?;
        // Headers leave when this function returns: by then the position is fixed.
        caller.may(Permission::StreamRead, &stream)?;
        let seat = self.tenants.subscription(&stream)?;
        let follow = self.streams.follow(&stream).await?;
        let offset = match r.start_offset {
            // Nothing ever arrives in another partition; at the last offset there is nothing either.
            _ if partition(r.partition) != 0 => i64::MAX,
            AFTER_COMMIT => self.committed(&stream, &r.consumer_group, 0).await?.saturating_add(1),
            ONLY_NEW => follow.latest() + 1,
            offset => offset,
        };
        let subscription = Subscription::new(follow, offset, &caller, seat);
        let slack = subscription.slack();
        let mut response = Response::new(subscription);
        response.extensions_mut().insert(slack);
        Ok(response)
    }

    async fn commit_offset(
        &self,
        request: Request<CommitOffsetRequest>,
    ) -> Result<Response<CommitOffsetResponse>> {
        let (caller, r) = open(request);
        let stream = fields::resource(r.resource_path, KIND)?;
        fields::group(&r.consumer_group)?;
        fields::offset("offset", r.offset, -1)?;
        let group = group_key(&r.consumer_group, partition(r.partition));
        caller.may(Permission::StreamRead, &stream)?;
        self.streams.commit(&stream, &group, r.offset).await?;
        Ok(Response::new(CommitOffsetResponse { status: ok() }))
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Result<Response<GetOffsetResponse>> {
        let (caller, r) = open(request);
        let stream = fields::resource(r.resource_path, KIND)?;
        fields::group(&r.consumer_group)?;
        caller.may(Permission::StreamRead, &stream)?;
        let offset = self.committed(&stream, &r.consumer_group, partition(r.partition)).await?;
        Ok(Response::new(GetOffsetResponse { status: ok(), offset }))
    }

    async fn get_latest_offset(
        &self,
        request: Request<GetLatestOffsetRequest>,
    ) -> Result<Response<GetLatestOffsetResponse>> {
        let (caller, r) = open(request);
        let stream = fields::resource(r.resource_path, KIND)?;
        caller.may(Permission::StreamRead, &stream)?;
        let offset = self.latest(&stream, partition(r.partition)).await?;
        Ok(Response::new(GetLatestOffsetResponse { status: ok(), offset }))
    }

    async fn get_consumer_group_state(
        &self,
        request: Request<GetConsumerGroupStateRequest>,
    ) -> Result<Response<GetConsumerGroupStateResponse>> {
        let (caller, r) = open(request);
        let stream = fields::resource(r.resource_path, KIND)?;
        fields::group(&r.consumer_group)?;
        let partition = partition(r.partition);
        caller.may(Permission::StreamRead, &stream)?;
        let latest_offset = self.latest(&stream, partition).await?;
        let committed_offset = self.committed(&stream, &r.consumer_group, partition).await?;
        let state = ConsumerGroupState {
            stream: stream.to_string(),
            group: r.consumer_group,
            partition,
            committed_offset,
            latest_offset,
            lag: lag(latest_offset, committed_offset),
        };
        Ok(Response::new(GetConsumerGroupStateResponse { status: ok(), state: Some(state) }))
    }
}

/// `partition` of a request, never refused.
fn partition(partition: i32) -> i32 {
    partition.max(0)
}

/// The engine keeps one commit per stream and group. Those of other partitions live under names
/// that no group can have: groups hold no control characters.
fn group_key(group: &str, partition: i32) -> Cow<'_, str> {
    match partition {
        0 => Cow::Borrowed(group),
        p => Cow::Owned(format!("{group}\0{p}")),
    }
}

/// How many messages a group has not processed yet; -1 when the stream is empty.
fn lag(latest: i64, committed: i64) -> i64 {
    if latest < 0 {
        -1
    } else if committed < 0 {
        latest + 1
    } else {
        latest.saturating_sub(committed).max(0)
    }
}
