//! Streams: write, read, consumer group positions, and the two ways to follow.

use bytes::Bytes;
use flowmesh_proto::v1::{
    CommitOffsetRequest, ConsumerGroupState, GetConsumerGroupStateRequest, GetLatestOffsetRequest,
    GetOffsetRequest, ReadStreamRequest, WriteEventsRequest, WriteEventsResponse,
    stream_service_client::StreamServiceClient,
};

use super::{
    client::{Client, Resource},
    error::{Effect, Error, Outcome, Result, Status},
    options::CallOptions,
    reader::Reader,
    rules,
    subscription::{SubscribeOptions, Subscription},
};

/// A stream of a client.
#[derive(Debug, Clone)]
pub struct Stream(Resource);

impl Stream {
    pub(crate) fn new(resource: Resource) -> Self {
        Self(resource)
    }

    pub(crate) fn resource(&self) -> &Resource {
        &self.0
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// `tenant/namespace/stream/name`.
    pub fn canonical_path(&self) -> &str {
        &self.0.text
    }

    /// Appends `events` (encoded `Event` messages, see `flowmesh_proto::wire::encode_event`) as
    /// one batch, stored whole or not at all; returns their offsets. Never repeated by itself: a
    /// repeat could store the batch twice.
    pub async fn write(&self, events: Vec<Bytes>, options: &CallOptions) -> Result<Vec<i64>> {
        rules::events(&events)?;
        let count = events.len();
        let call = self.0.call("write to", Effect::Once, options);
        let request = WriteEventsRequest { resource_path: self.0.path(), events };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(StreamServiceClient::new).write_events(request).await
            })
            .await?;
        self.offsets(reply, count)
    }

    /// Its path as requests in wire form begin with it.
    pub(crate) fn encoded_path(&self) -> &[u8] {
        &self.0.encoded_path
    }

    /// As [`Stream::write`], of `count` events that are a whole request in wire form.
    pub(crate) async fn write_encoded(
        &self,
        request: Bytes,
        count: usize,
        options: &CallOptions,
    ) -> Result<Vec<i64>> {
        let call = self.0.call("write to", Effect::Once, options);
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.call_encoded("/flowmesh.v1.StreamService/WriteEvents", request).await
            })
            .await?;
        self.offsets(reply, count)
    }

    fn offsets(&self, reply: WriteEventsResponse, count: usize) -> Result<Vec<i64>> {
        if reply.offsets.len() == count {
            return Ok(reply.offsets);
        }
        let message = format!(
            "write to {}: the server stored the batch and gave {} offsets for {count} events",
            self.0.text,
            reply.offsets.len()
        );
        Err(Error::local(Status::INTERNAL, message).with_outcome(Outcome::Applied))
    }

    /// Up to `max_messages` (0: the server's page) encoded `Message`s from `offset` on; fewer when
    /// the reply would grow too large, none past the end.
    pub async fn read(
        &self,
        partition: i32,
        offset: i64,
        max_messages: i32,
        options: &CallOptions,
    ) -> Result<Vec<Bytes>> {
        rules::partition(partition)?;
        rules::position("offset", offset, 0)?;
        rules::most("max_messages", max_messages)?;
        let call = self.0.call("read from", Effect::None, options);
        let request = ReadStreamRequest { resource_path: self.0.path(), partition, offset, max_messages };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(StreamServiceClient::new).read_stream(request).await
            })
            .await?;
        Ok(reply.messages)
    }

    /// Records `offset` as the last one that `group` has processed; -1 forgets.
    pub async fn commit_offset(
        &self,
        group: &str,
        partition: i32,
        offset: i64,
        options: &CallOptions,
    ) -> Result<()> {
        rules::partition(partition)?;
        rules::group("consumer_group", group)?;
        rules::position("offset", offset, -1)?;
        let call = self.0.call("commit an offset of", Effect::Idempotent, options);
        let request = CommitOffsetRequest {
            resource_path: self.0.path(),
            consumer_group: group.to_owned(),
            partition,
            offset,
        };
        self.client()
            .call(call, request, async |wire, request| {
                wire.client(StreamServiceClient::new).commit_offset(request).await
            })
            .await
            .map(drop)
    }

    /// The last offset that `group` committed, -1 when none.
    pub async fn offset(&self, group: &str, partition: i32, options: &CallOptions) -> Result<i64> {
        rules::partition(partition)?;
        rules::group("consumer_group", group)?;
        let call = self.0.call("get an offset of", Effect::None, options);
        let request =
            GetOffsetRequest { resource_path: self.0.path(), consumer_group: group.to_owned(), partition };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(StreamServiceClient::new).get_offset(request).await
            })
            .await?;
        Ok(reply.offset)
    }

    /// The offset of the newest message, -1 when there is none.
    pub async fn latest_offset(&self, partition: i32, options: &CallOptions) -> Result<i64> {
        let call = self.0.call("get the latest offset of", Effect::None, options);
        let request = GetLatestOffsetRequest { resource_path: self.0.path(), partition };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(StreamServiceClient::new).get_latest_offset(request).await
            })
            .await?;
        Ok(reply.offset)
    }

    /// How far `group` is.
    pub async fn group_state(
        &self,
        group: &str,
        partition: i32,
        options: &CallOptions,
    ) -> Result<ConsumerGroupState> {
        rules::partition(partition)?;
        rules::group("consumer_group", group)?;
        let call = self.0.call("get the state of a group of", Effect::None, options);
        let request = GetConsumerGroupStateRequest {
            resource_path: self.0.path(),
            consumer_group: group.to_owned(),
            partition,
        };
        let reply = self
            .client()
            .call(call, request, async |wire, request| {
                wire.client(StreamServiceClient::new).get_consumer_group_state(request).await
            })
            .await?;
        reply.state.ok_or_else(|| {
            Error::local(
                Status::INTERNAL,
                format!("the state of a group of {}: the reply has none", self.0.text),
            )
        })
    }

    /// Follows the stream; nothing is sent before the first
    /// [`next_batch`](Subscription::next_batch).
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription> {
        Subscription::new(self.clone(), options)
    }

    /// Reads the stream page by page from `offset` on, at most `page` messages each (0: the
    /// server's default).
    pub fn reader(&self, partition: i32, offset: i64, page: i32) -> Result<Reader> {
        Reader::new(self.clone(), partition, offset, page)
    }
}
