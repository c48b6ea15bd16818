//! What a job is made of: its number, and its body (headers and payload) with a checksum.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::engine::NewJob;

const SEQ_BITS: u32 = 40;

/// Queue and seq in one integer, so that the rows of a queue lie together in order of seq and a
/// job has a one-column key. Room for 2^23 queues and 2^40 jobs in the life of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobNumber(i64);

impl JobNumber {
    /// `None` when a queue has had all the jobs it can number.
    pub(super) fn new(queue: i64, seq: i64) -> Option<Self> {
        ((1..1 << (63 - SEQ_BITS)).contains(&queue) && (0..1 << SEQ_BITS).contains(&seq))
            .then_some(Self(queue << SEQ_BITS | seq))
    }

    pub(super) fn from_stored(number: i64) -> Option<Self> {
        (number >> SEQ_BITS > 0).then_some(Self(number))
    }

    pub(super) fn get(self) -> i64 {
        self.0
    }

    pub(super) fn queue(self) -> i64 {
        self.0 >> SEQ_BITS
    }

    pub(super) fn seq(self) -> i64 {
        self.0 & ((1 << SEQ_BITS) - 1)
    }

    /// The numbers `first..end` that the jobs of `queue` have.
    pub(super) fn range(queue: i64) -> (i64, i64) {
        (queue << SEQ_BITS, (queue + 1) << SEQ_BITS)
    }
}

/// Headers and payload of a job in the form in which they are stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Body {
    /// An encoded [`Headers`]; empty when there are none.
    pub headers: Vec<u8>,
    pub payload: Bytes,
    /// CRC32C of both, without the fields that only the writer knows ([`row_crc`]).
    crc: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Headers {
    #[prost(btree_map = "string, string", tag = "1")]
    entries: BTreeMap<String, String>,
}

impl Body {
    pub(super) fn new(payload: Bytes, headers: BTreeMap<String, String>) -> Self {
        let headers = Headers { entries: headers }.encode_to_vec();
        let crc = body_crc(&headers, &payload);
        Self { headers, payload, crc }
    }

    /// The checksum of the row that holds this body.
    pub(super) fn row_crc(&self, job: JobNumber, created_at: i64) -> u32 {
        row_crc(self.crc, job, created_at)
    }
}

impl From<NewJob> for Body {
    fn from(job: NewJob) -> Self {
        Self::new(job.payload, job.headers)
    }
}

fn body_crc(headers: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&(headers.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, headers), payload)
}

fn row_crc(body: u32, job: JobNumber, created_at: i64) -> u32 {
    let mut fields = [0; 16];
    fields[..8].copy_from_slice(&job.get().to_le_bytes());
    fields[8..].copy_from_slice(&created_at.to_le_bytes());
    crc32c::crc32c_append(body, &fields)
}

/// The checked content of a row of `jobs`.
pub(super) struct StoredBody {
    pub created_at: i64,
    pub headers: BTreeMap<String, String>,
    pub payload: Bytes,
}

impl StoredBody {
    /// Reads a row; `None` when it is not what was written.
    pub(super) fn read(job: JobNumber, row: RawBody<'_>) -> Option<Self> {
        let RawBody { created_at, headers, payload, crc } = row;
        let sound = i64::from(row_crc(body_crc(headers, payload), job, created_at)) == crc;
        if !sound && !planted!(JobsUnchecked) {
            return None;
        }
        let headers =
            if headers.is_empty() { BTreeMap::new() } else { Headers::decode(headers).ok()?.entries };
        Some(Self { created_at, headers, payload: Bytes::copy_from_slice(payload) })
    }
}

/// The columns of a row of `jobs`, borrowed from SQLite.
pub(super) struct RawBody<'a> {
    pub created_at: i64,
    pub headers: &'a [u8],
    pub payload: &'a [u8],
    pub crc: i64,
}

impl<'a> RawBody<'a> {
    /// Takes `created_at, headers, payload, crc` from column `at` on; `None` when one has a type that
    /// was never stored.
    pub(super) fn from_row(row: &'a rusqlite::Row<'_>, at: usize) -> Option<Self> {
        Some(Self {
            created_at: row.get_ref(at).ok()?.as_i64().ok()?,
            headers: row.get_ref(at + 1).ok()?.as_blob_or_null().ok()?.unwrap_or_default(),
            payload: row.get_ref(at + 2).ok()?.as_blob().ok()?,
            crc: row.get_ref(at + 3).ok()?.as_i64().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_number_holds_queue_and_seq() {
        let job = JobNumber::new(5, 9).unwrap();
        assert_eq!((job.queue(), job.seq()), (5, 9));
        let (first, end) = JobNumber::range(5);
        assert!((first..end).contains(&job.get()));
        assert_eq!(JobNumber::new(5, 1 << 40), None);
        assert_eq!(JobNumber::new(1 << 23, 0), None);
        assert_eq!(JobNumber::new(0, 0), None);
    }

    #[test]
    fn a_changed_field_of_a_row_is_found() {
        let job = JobNumber::new(1, 1).unwrap();
        let body = Body::new(Bytes::from_static(b"payload"), BTreeMap::from([("k".into(), "v".into())]));
        let crc = i64::from(body.row_crc(job, 77));
        let row = |created_at, headers, payload, crc| {
            StoredBody::read(job, RawBody { created_at, headers, payload, crc })
        };
        assert!(row(77, &body.headers, b"payload", crc).is_some());
        assert!(row(78, &body.headers, b"payload", crc).is_none());
        assert!(row(77, &body.headers[1..], b"payload", crc).is_none());
        assert!(row(77, &body.headers, b"pAyload", crc).is_none());
        assert!(row(77, &body.headers, b"payload", crc ^ 1).is_none());
    }
}
