//! Streams: a segment log.
