//! Bytes and headers as C sees them.

/// Borrowed bytes: `len` of them at `data`, which may be NULL when `len` is 0. Make one with
/// flowmesh_view_str, flowmesh_view_bytes or FLOWMESH_VIEW_LITERAL; print one with
/// FLOWMESH_VIEW_FMT and FLOWMESH_VIEW_ARG. A view owns nothing: it is good for as long as what
/// it was taken from.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_view_t {
    /// First byte.
    pub data: *const u8,
    /// Number of bytes.
    pub len: usize,
}

/// A header of an event, message or job: metadata as UTF-8 text. Keys are unique within one
/// event; of equal ones the last counts. This struct never grows.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_header_t {
    /// Name.
    pub key: flowmesh_view_t,
    /// Value, may be empty.
    pub value: flowmesh_view_t,
}
