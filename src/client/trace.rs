//! W3C Trace Context: which trace of the application a call belongs to.
//!
//! It travels as metadata of the call, for the server, and as headers of what the call stores, for
//! whoever reads it. Nothing here makes spans or traces of its own.

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::error::{Error, Result};

/// Name of the header and of the metadata.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// Name of the header and of the metadata.
const TRACESTATE: &str = "tracestate";

/// The longest state that is taken; the standard asks for at least as much.
const MAX_STATE_BYTES: usize = 512;

/// A position in a trace: the standard's `traceparent`, and perhaps a `tracestate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: MetadataValue<Ascii>,
    state: Option<MetadataValue<Ascii>>,
}

impl TraceContext {
    /// A context as it travels; INVALID_ARGUMENT when it breaks the standard's form.
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Result<Self> {
        check(traceparent, tracestate)?;
        let value = |text: &str| text.parse().map_err(|_| Error::invalid("a trace must be printable ASCII"));
        Ok(Self { parent: value(traceparent)?, state: tracestate.map(value).transpose()? })
    }

    pub(crate) fn put_into(&self, metadata: &mut MetadataMap) {
        metadata.insert(TRACEPARENT, self.parent.clone());
        if let Some(state) = &self.state {
            metadata.insert(TRACESTATE, state.clone());
        }
    }

    /// What goes into the headers of an event or job that does not name a trace itself.
    pub(crate) fn headers(&self) -> Headers<'_> {
        // Both were made from text.
        let state = self.state.as_ref().and_then(|state| state.to_str().ok());
        self.parent.to_str().map_or([None, None], |parent| headers(parent, state))
    }
}

/// Names and values of at most two headers.
pub(crate) type Headers<'a> = [Option<(&'static str, &'a str)>; 2];

/// The headers of a well-formed context.
pub(crate) fn headers<'a>(traceparent: &'a str, tracestate: Option<&'a str>) -> Headers<'a> {
    [Some((TRACEPARENT, traceparent)), tracestate.map(|state| (TRACESTATE, state))]
}

/// Whether a context has the standard's form.
pub(crate) fn check(traceparent: &str, tracestate: Option<&str>) -> Result<()> {
    if !is_traceparent(traceparent.as_bytes()) {
        return Err(Error::invalid(format!(
            "traceparent must be 2, 32, 16 and 2 lower-case hex digits with `-` between them, ids not all zero \
             (W3C Trace Context), got {traceparent:?}"
        )));
    }
    let printable = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
    if tracestate.is_some_and(|text| !(1..=MAX_STATE_BYTES).contains(&text.len()) || !printable(text)) {
        return Err(Error::invalid(format!(
            "tracestate must be 1 to {MAX_STATE_BYTES} printable ASCII bytes"
        )));
    }
    Ok(())
}

/// The form of version 00; later versions begin alike and may go on behind another `-`.
fn is_traceparent(text: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|digits| digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let zero = |range: std::ops::Range<usize>| text[range].iter().all(|&b| b == b'0');
    let dash = |at: usize| text.get(at) == Some(&b'-');
    if !(hex(0..2) && dash(2) && hex(3..35) && dash(35) && hex(36..52) && dash(52) && hex(53..55)) {
        return false;
    }
    let rest = &text[55..];
    let ends = match &text[..2] {
        b"ff" => false,
        b"00" => rest.is_empty(),
        _ => rest.is_empty() || (rest[0] == b'-' && rest.iter().all(u8::is_ascii_graphic)),
    };
    ends && !zero(3..35) && !zero(36..52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Status;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_form_of_the_standard_is_kept() {
        let later = format!("01{}-more", &PARENT[2..]);
        for good in [PARENT, &later] {
            assert!(TraceContext::new(good, None).is_ok(), "{good}");
        }
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}0"),
            &format!("{PARENT}-more"),
            &format!("ff{}", &PARENT[2..]),
            &PARENT.to_uppercase(),
            &PARENT.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319\u{e9}b7ad6b7169203331-01xxx",
        ] {
            let error = TraceContext::new(bad, None).expect_err(bad);
            assert_eq!(error.status(), Status::INVALID_ARGUMENT, "{bad}");
        }
        assert!(TraceContext::new(PARENT, Some("vendor=1,other=2")).is_ok());
        for bad in ["", "a\nb", "\u{e9}", &"x".repeat(MAX_STATE_BYTES + 1)] {
            assert!(TraceContext::new(PARENT, Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_parts_travel() {
        let context = TraceContext::new(PARENT, Some("v=1")).expect("well-formed");
        let mut metadata = MetadataMap::new();
        context.put_into(&mut metadata);
        assert_eq!(metadata.get(TRACEPARENT).and_then(|v| v.to_str().ok()), Some(PARENT));
        assert_eq!(metadata.get(TRACESTATE).and_then(|v| v.to_str().ok()), Some("v=1"));
        assert_eq!(context.headers(), [Some((TRACEPARENT, PARENT)), Some((TRACESTATE, "v=1"))]);
    }
}
