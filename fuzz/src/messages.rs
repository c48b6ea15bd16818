//! Messages and events in wire form: what our views read, against what prost reads.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use flowmesh_proto::{
    v1::{Event, Message},
    wire::{
        EventView, Header, MessageHead, MessageView, WriteEventsRequest, encode_event, encode_message,
        event_len, message_len,
    },
};
use prost::Message as _;

/// The bytes are an event, a message and a request.
pub fn run(data: &[u8]) {
    let event = EventView::parse(data);
    match (&event, Event::decode(data)) {
        (Ok(view), Ok(event)) => {
            assert_eq!(view.payload, event.payload);
            assert_eq!(headers(view.headers()), event.headers);
            assert_eq!(view.headers().count(), view.header_entries().count());
        }
        (view, event) => assert_eq!(view.is_ok(), event.is_ok(), "{view:?}, prost: {event:?}"),
    }
    match (MessageView::parse(data), Message::decode(data)) {
        (Ok(view), Ok(message)) => same(&view, &message),
        (view, message) => assert_eq!(view.is_ok(), message.is_ok(), "{view:?}, prost: {message:?}"),
    }
    if let Ok(event) = event {
        store(&event);
    }
    if let Ok(request) = WriteEventsRequest::decode(data) {
        let again = WriteEventsRequest::decode(&request.encode_to_vec()[..]);
        assert_eq!(again, Ok(request));
    }
}

fn headers<'a>(view: impl Iterator<Item = Header<'a>>) -> BTreeMap<String, String> {
    view.map(|header| (header.key.to_owned(), header.value.to_owned())).collect()
}

fn same(view: &MessageView<'_>, message: &Message) {
    assert_eq!(view.id, message.id);
    assert_eq!(view.resource_path, message.resource_path);
    assert_eq!(view.partition, message.partition);
    assert_eq!(view.offset, message.offset);
    assert_eq!(view.payload, message.payload);
    assert_eq!(headers(view.headers()), message.headers);
    assert_eq!(view.headers().count(), view.header_entries);
    assert_eq!(view.created_at, message.created_at);
    assert_eq!(view.schema_version, message.schema_version);
}

/// What an event becomes when it is stored, and when it is sent again.
fn store(event: &EventView<'_>) {
    let head = MessageHead {
        id: "an id",
        resource_path: "t/n/stream/s",
        offset: event.payload.len() as i64,
        created_at: i64::MIN,
        schema_version: 0,
    };
    let mut stored = BytesMut::new();
    encode_message(&mut stored, &head, event);
    assert_eq!(stored.len(), message_len(&head, event));
    let message = Message::decode(&stored[..]).expect("our own message");
    assert_eq!((&message.id[..], message.offset, message.created_at), (head.id, head.offset, i64::MIN));
    assert_eq!(message.payload, event.payload);
    assert_eq!(message.headers, headers(event.headers()));
    same(&MessageView::parse(&stored).expect("our own message"), &message);

    let mut sent = BytesMut::new();
    encode_event(&mut sent, event.payload, event.headers());
    assert_eq!(sent.len(), event_len(event.payload, event.headers()));
    let sent = Event::decode(Bytes::from(sent)).expect("our own event");
    assert_eq!(sent.payload, event.payload);
    assert_eq!(sent.headers, headers(event.headers()));
}
