//! What the engine of an embedded endpoint tells by the crate `tracing`, as records of ours.
//!
//! Only the C API listens this way. A Rust program that uses this crate has the right to be the
//! only listener of `tracing`; where it is, nothing happens here.

use std::{fmt, fmt::Write as _, sync::Once};

use tracing_core::{
    Dispatch, Event, Interest, LevelFilter, Metadata, Subscriber, callsite, dispatcher,
    field::{Field, Visit},
    span,
};

use super::{Level, enabled};

const ENGINE: &str = "flowmesh_server";

static LISTENING: Once = Once::new();

/// Becomes the listener of this copy of `tracing`, unless there is one.
pub fn listen() {
    LISTENING.call_once(|| {
        let _ = dispatcher::set_global_default(Dispatch::new(Engine));
    });
}

/// Has `tracing` ask again what is of interest.
pub fn level_changed() {
    if LISTENING.is_completed() {
        callsite::rebuild_interest_cache();
    }
}

struct Engine;

fn level(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing_core::Level::ERROR => Level::Error,
        tracing_core::Level::WARN => Level::Warn,
        tracing_core::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

impl Subscriber for Engine {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() && metadata.target().starts_with(ENGINE) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let all = [
            (Level::Debug, LevelFilter::DEBUG),
            (Level::Info, LevelFilter::INFO),
            (Level::Warn, LevelFilter::WARN),
            (Level::Error, LevelFilter::ERROR),
        ];
        let most = all.into_iter().find(|(level, _)| enabled(*level));
        Some(most.map_or(LevelFilter::OFF, |(_, filter)| filter))
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        enabled(level(metadata))
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        super::write(level(event.metadata()), "engine", 0, format_args!("{}{}", text.message, text.fields));
    }

    // Spans are never of interest.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event as text: the message, then the other fields as `, name = value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

impl Text {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing into a text cannot fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.fields, ", {name} = {value}"),
        };
    }
}
