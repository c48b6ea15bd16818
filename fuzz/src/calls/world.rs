//! What a program of calls has: handles that are alive, and the memory of the present call.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_void},
    ptr::null_mut,
    sync::atomic::Ordering,
};

use super::{
    header::{self, LAYOUTS},
    users,
};
use crate::input::Input;

/// `flowmesh_view_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    data: *const u8,
    len: usize,
}

/// A struct of the header.
pub struct Layout {
    pub name: &'static str,
    pub size: usize,
    pub fields: &'static [Field],
}

/// A field of one.
pub struct Field {
    pub name: &'static str,
    pub at: usize,
    pub kind: Kind,
}

/// How a field is filled.
pub enum Kind {
    /// The size of the struct.
    Size,
    /// How many the pointer before it points to.
    Count,
    Int64,
    Double,
    Int32,
    Bytes,
    View,
    Text,
    Headers,
    Cancel,
    Pointer,
}

/// What an output holds until it is set.
const UNTOUCHED: usize = 0x5EED_0FF5_5EED_0FF5;
/// Clients of a program; each has an engine.
const MOST_CLIENTS: usize = 3;
/// Milliseconds that a call may take.
const SHORT_MS: i64 = 20;

struct Handle {
    at: usize,
    /// That which it is borrowed from; it must not be freed itself.
    owner: Option<usize>,
}

/// A run of a program.
pub struct World<'a> {
    input: Input<'a>,
    alive: BTreeMap<&'static str, Vec<Handle>>,
    call: Call,
    /// Dispatchers that only this program runs have been made.
    manual: bool,
    /// User data that the library must drop.
    owed: Vec<usize>,
    job_id: Vec<u8>,
}

/// The arguments of a call.
#[derive(Default)]
struct Call {
    memory: Vec<Box<[u64]>>,
    bytes: Vec<Box<[u8]>>,
    handles: Vec<(&'static str, *mut usize)>,
    error: Option<*mut usize>,
    user: Option<usize>,
    drops: bool,
    callback: bool,
    count: usize,
}

const TEXTS: [&[u8]; 12] = [
    b"t",
    b"n",
    b"s",
    b"s",
    b"q",
    b"g",
    b"",
    b" ",
    b"a/b",
    b"\x01",
    b"\xff",
    b"00000000000000000000000000000001",
];
const TRACES: [&[u8]; 3] = [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"", b"x=1"];
const ENDPOINTS: [&[u8]; 7] =
    [b"embedded:", b"embedded:", b"unix:/nonexistent/socket", b"127.0.0.1:1", b"", b"none", b"https://h:1"];

impl<'a> World<'a> {
    /// A client of an engine in memory, and one of each resource.
    pub fn new(data: &'a [u8]) -> Self {
        let mut world = Self {
            input: Input(data),
            alive: BTreeMap::new(),
            call: Call::default(),
            manual: false,
            owed: Vec::new(),
            job_id: Vec::new(),
        };
        let test_clock = world.input.u8() & 1 == 1;
        let options = world.client_options();
        let (text, none) = (|text: &'static CStr| text.as_ptr().cast_mut().cast::<c_void>(), null_mut());
        // SAFETY: good arguments; the outputs are ours.
        unsafe {
            assert_eq!(header::flowmesh_client_options_set_test_clock(options, test_clock, none), 0);
            let client = made(|out| header::flowmesh_client_open(text(c"embedded:"), options, out, none));
            let [t, n, s, q] = [c"t", c"n", c"s", c"q"].map(text);
            let stream = made(|out| header::flowmesh_stream_open(client, t, n, s, out, none));
            let queue = made(|out| header::flowmesh_queue_open(client, t, n, q, out, none));
            let kv = made(|out| header::flowmesh_kv_open(client, t, n, s, out, none));
            world.add("flowmesh_client_t", client as usize);
            world.add("flowmesh_stream_t", stream as usize);
            world.add("flowmesh_queue_t", queue as usize);
            world.add("flowmesh_kv_t", kv as usize);
        }
        world
    }

    /// Which function comes next; none at the end of the program.
    pub fn next_call(&mut self) -> Option<usize> {
        (!self.input.is_empty()).then(|| self.input.u8().into())
    }

    fn add(&mut self, kind: &'static str, at: usize) {
        self.alive.entry(kind).or_default().push(Handle { at, owner: None });
        match kind {
            "flowmesh_client_options_t" => {
                let options = at as *mut c_void;
                // SAFETY: options just made.
                unsafe {
                    let set = header::flowmesh_client_options_set_timeout_ms(options, SHORT_MS, null_mut());
                    assert_eq!(set, 0);
                    let set =
                        header::flowmesh_client_options_set_connect_timeout_ms(options, SHORT_MS, null_mut());
                    assert_eq!(set, 0);
                }
            }
            "flowmesh_dispatcher_t" => {
                let mut fd = 0i32;
                // SAFETY: a dispatcher just made; only one that nobody runs has a descriptor.
                let status = unsafe {
                    header::flowmesh_dispatcher_fd(at as *mut c_void, (&raw mut fd).cast(), null_mut())
                };
                self.manual |= status == 0;
            }
            _ => {}
        }
    }

    fn rarely(&mut self) -> bool {
        self.input.u8() >= 245
    }

    fn pick_handle(&mut self, kind: &str) -> Option<usize> {
        let choice = usize::from(self.input.u8());
        let alive = self.alive.get(kind)?;
        alive.get(choice % alive.len().max(1)).map(|handle| handle.at)
    }

    // What generated code asks for.

    /// A handle that is alive, or NULL.
    pub fn handle(&mut self, kind: &'static str) -> *mut c_void {
        if self.rarely() {
            return null_mut();
        }
        self.pick_handle(kind).unwrap_or_default() as *mut c_void
    }

    /// Options whose clients wait for nothing long.
    pub fn client_options(&mut self) -> *mut c_void {
        let kind = "flowmesh_client_options_t";
        if let Some(options) = self.pick_handle(kind) {
            return options as *mut c_void;
        }
        // SAFETY: the output is ours.
        let options = unsafe { made(|out| header::flowmesh_client_options_new(out, null_mut())) };
        self.add(kind, options as usize);
        options
    }

    /// A handle to be freed: nobody uses it any more.
    pub fn taken(&mut self, kind: &'static str) -> *mut c_void {
        let choice = usize::from(self.input.u8());
        let Some(alive) = self.alive.get_mut(kind) else { return null_mut() };
        let own: Vec<usize> = (0..alive.len()).filter(|&i| alive[i].owner.is_none()).collect();
        if own.is_empty() {
            return null_mut();
        }
        let handle = alive.swap_remove(own[choice % own.len()]).at;
        for alive in self.alive.values_mut() {
            alive.retain(|other| other.owner != Some(handle));
        }
        handle as *mut c_void
    }

    /// Where a new handle goes.
    pub fn out_handle(&mut self, kind: &'static str) -> *mut c_void {
        let clients = self.alive.get("flowmesh_client_t").map_or(0, Vec::len);
        if self.rarely() || (kind == "flowmesh_client_t" && clients >= MOST_CLIENTS) {
            return null_mut();
        }
        let slot = self.allocate(8).cast::<usize>();
        // SAFETY: just allocated.
        unsafe { slot.write(UNTOUCHED) };
        self.call.handles.push((kind, slot));
        slot.cast()
    }

    /// Where the error goes.
    pub fn error(&mut self) -> *mut c_void {
        if self.input.u8() >= 200 {
            return null_mut();
        }
        let slot = self.allocate(8).cast::<usize>();
        // SAFETY: just allocated.
        unsafe { slot.write(UNTOUCHED) };
        self.call.error = Some(slot);
        slot.cast()
    }

    /// Where something of `size` bytes goes.
    pub fn out(&mut self, size: usize) -> *mut c_void {
        if self.rarely() { null_mut() } else { self.allocate_bytes(size).cast() }
    }

    /// Where one of `size` bytes goes for each that was passed before.
    pub fn out_each(&mut self, size: usize) -> *mut c_void {
        self.out(size * self.call.count)
    }

    /// Where a struct goes.
    pub fn out_struct(&mut self, name: &str) -> *mut c_void {
        if self.rarely() {
            return null_mut();
        }
        let layout = layout(name);
        let size = self.struct_size(layout.size);
        let at = self.allocate(size.max(layout.size));
        // SAFETY: a struct that starts with its size.
        unsafe { at.cast::<usize>().write(size) };
        at.cast()
    }

    /// One or, of `several`, a few structs, filled.
    pub fn structs(&mut self, name: &str, several: bool) -> *mut c_void {
        if self.input.u8() >= 128 && !several {
            return null_mut();
        }
        let layout = layout(name);
        let size = self.struct_size(layout.size);
        let count = if several { usize::from(self.input.u8() % 5) } else { 1 };
        if several {
            self.call.count = count;
        }
        // All have the size of the first; none is read behind it.
        let stride = size.max(8);
        let memory = self.allocate((stride * count).max(layout.size));
        for i in 0..count {
            // SAFETY: inside what was allocated.
            let at = unsafe { memory.byte_add(i * stride) };
            self.fill(layout, at, size);
        }
        memory.cast()
    }

    fn struct_size(&mut self, size: usize) -> usize {
        match self.input.u8() {
            0..=230 => size,
            231..=240 => size + usize::from(self.input.u8()),
            _ => self.input.u8().into(),
        }
    }

    fn fill(&mut self, layout: &Layout, at: *mut u8, size: usize) {
        let mut listed = 0usize;
        for field in layout.fields {
            let width = match field.kind {
                Kind::Int32 => 4,
                Kind::View => 16,
                _ => 8,
            };
            // Only what lies inside the size that is given.
            if field.at + width > size {
                break;
            }
            // SAFETY: the field lies inside the struct, which was allocated with `size` bytes at least.
            let to = unsafe { at.add(field.at) };
            // SAFETY: `to` is aligned for its type where strides are; written unaligned for the others.
            unsafe {
                match field.kind {
                    Kind::Size => to.cast::<usize>().write_unaligned(size),
                    Kind::Count => to.cast::<usize>().write_unaligned(listed),
                    Kind::Int64 => to.cast::<i64>().write_unaligned(self.int64("", field.name)),
                    Kind::Double => to.cast::<f64>().write_unaligned(self.double()),
                    Kind::Int32 => to.cast::<i32>().write_unaligned(self.int32()),
                    Kind::View => to.cast::<View>().write_unaligned(self.view()),
                    Kind::Text => {
                        if self.input.u8() >= 200 {
                            to.cast::<*mut c_void>().write_unaligned(self.text(field.name));
                        }
                    }
                    Kind::Headers => {
                        let (headers, count) = self.headers();
                        listed = count;
                        to.cast::<*mut u8>().write_unaligned(headers);
                    }
                    Kind::Cancel => {
                        let cancel = if self.input.u8() >= 128 {
                            self.handle("flowmesh_cancel_t")
                        } else {
                            null_mut()
                        };
                        to.cast::<*mut c_void>().write_unaligned(cancel);
                    }
                    Kind::Bytes | Kind::Pointer => {}
                }
            }
        }
    }

    fn headers(&mut self) -> (*mut u8, usize) {
        let count = usize::from(self.input.u8().saturating_sub(200) % 4);
        if count == 0 {
            return (null_mut(), 0);
        }
        let at = self.allocate(count * 32);
        for i in 0..2 * count {
            let view = self.view();
            // SAFETY: inside what was allocated; a header is two views.
            unsafe { at.cast::<View>().add(i).write(view) };
        }
        (at, count)
    }

    /// A text that ends in NUL.
    pub fn text(&mut self, name: &str) -> *mut c_void {
        if self.rarely() {
            return null_mut();
        }
        let choices: &[&[u8]] = match name {
            "endpoint" => &ENDPOINTS,
            "traceparent" | "tracestate" => &TRACES,
            _ => &TEXTS,
        };
        let text = match self.input.u8() {
            choice @ 0..=220 => choices[usize::from(choice) % choices.len()].to_vec(),
            _ if name == "endpoint" => choices[0].to_vec(),
            221..=235 if name.ends_with("job_id") => self.job_id.clone(),
            236..=240 => vec![b'x'; 256],
            _ => self.input.bytes().to_vec(),
        };
        let at = self.allocate_bytes(text.len() + 1);
        // SAFETY: just allocated with room for the text and its end.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), at, text.len()) };
        at.cast()
    }

    /// Bytes with their length.
    pub fn view(&mut self) -> View {
        let kind = self.input.u8();
        let bytes: &[u8] = match kind {
            0..=99 => b"x",
            100..=199 => self.input.bytes(),
            200..=229 => TEXTS[usize::from(kind) % TEXTS.len()],
            230..=239 => &[b'y'; 3000],
            240..=245 => return View { data: std::ptr::null(), len: 0 },
            246..=250 => return View { data: std::ptr::null(), len: kind.into() },
            _ => return View { data: b"z".as_ptr(), len: usize::MAX - usize::from(255 - kind) },
        };
        let at = self.allocate_bytes(bytes.len());
        // SAFETY: just allocated with as many.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        View { data: at, len: bytes.len() }
    }

    /// A number; those that are time to wait are short.
    pub fn int64(&mut self, function: &str, name: &str) -> i64 {
        match name {
            "timeout_ms" if function.is_empty() => {
                self.input.pick(&[SHORT_MS, 1, 2, 5, SHORT_MS, -2, i64::MIN])
            }
            "timeout_ms" if function.contains("options_set") => {
                self.input.pick(&[SHORT_MS, 1, 5, -2, i64::MIN])
            }
            "timeout_ms" => self.input.pick(&[0, 0, 1, 5, -2, i64::MIN]),
            "wait_ms" => self.input.pick(&[0, 0, 1, 3, -2, i64::MIN]),
            _ => self.input.number() as i64,
        }
    }

    pub fn int32(&mut self) -> i32 {
        self.input.number() as i32
    }

    fn double(&mut self) -> f64 {
        match self.input.u8() {
            0..=127 => 2.0,
            128..=160 => self.input.pick(&[0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, 1.0]),
            _ => f64::from_bits(self.input.u64()),
        }
    }

    pub fn flag(&mut self) -> bool {
        self.input.u8() & 1 == 1
    }

    /// How many structs were passed, never more.
    pub fn count(&mut self) -> usize {
        self.call.count
    }

    pub fn size(&mut self, name: &str) -> usize {
        match name {
            "threads" | "concurrency" => self.input.pick(&[0, 1, 2, 3, usize::MAX]),
            _ => self.input.number() as usize,
        }
    }

    pub fn callback(&mut self, function: *mut c_void) -> *mut c_void {
        self.call.callback = !self.rarely();
        if self.call.callback { function } else { null_mut() }
    }

    pub fn user_data(&mut self) -> *mut c_void {
        users::VERDICT.store((self.input.u8() & 15).into(), Ordering::Relaxed);
        if self.rarely() {
            return null_mut();
        }
        let user = users::make();
        self.call.user = Some(user);
        user as *mut c_void
    }

    pub fn drop_function(&mut self) -> *mut c_void {
        self.call.drops = !self.rarely();
        if self.call.drops { users::dropped as *mut c_void } else { null_mut() }
    }

    /// The arguments are complete.
    pub fn ready(&mut self, function: &str) {
        if std::env::var_os("FLOWMESH_FUZZ_TELL").is_some() {
            eprintln!("{function}");
        }
    }

    // What became of a call.

    pub fn status(&mut self, function: &'static str, status: i32) {
        assert!(
            matches!(status, 0..=12 | 14..=16 | 100 | 102),
            "{function}: status {status}: {}",
            self.told()
        );
        let call = std::mem::take(&mut self.call);
        for &(kind, slot) in &call.handles {
            // SAFETY: our own slot.
            let handle = unsafe { slot.read() };
            if status == 0 {
                assert_ne!(handle, UNTOUCHED, "{function}: an output was not set");
                if handle != 0 {
                    self.add(kind, handle);
                }
            } else {
                assert_eq!(handle, UNTOUCHED, "{function}: an output was set although it failed");
            }
        }
        if let Some(slot) = call.error {
            // SAFETY: our own slot.
            let error = unsafe { slot.read() };
            if status == 0 {
                assert_eq!(error, 0, "{function}: success, and an error");
            } else {
                assert!(error != 0 && error != UNTOUCHED, "{function}: no error");
                // SAFETY: the error was just given to us.
                let told = unsafe { header::flowmesh_error_status(error as *mut c_void) };
                assert_eq!(told, status, "{function}: the error tells another status");
                self.add("flowmesh_error_t", error);
            }
        }
        if let Some(user) = call.user {
            let one = function.ends_with("_async");
            if !call.drops {
                // It stays with us; nobody says when it was used last.
            } else if status == 0 {
                users::taken(user, one.then_some(1));
                self.owed.push(user);
            } else {
                assert!(users::is_dropped(user), "{function}: refused, and its user data not dropped");
            }
        }
        if let Some(id) = call.bytes.iter().find(|bytes| bytes.len() == 33 && bytes[0] != 0) {
            self.job_id = id[..32].to_vec();
        }
    }

    fn told(&self) -> String {
        // SAFETY: our own slot; an error that was given to us has a message.
        unsafe {
            match self.call.error.map(|slot| slot.read()) {
                None | Some(0 | UNTOUCHED) => "no error".into(),
                Some(error) => {
                    let text = header::flowmesh_error_message(error as *mut c_void);
                    CStr::from_ptr(text.cast()).to_string_lossy().into_owned()
                }
            }
        }
    }

    pub fn returned(&mut self) {
        self.call = Call::default();
    }

    pub fn check_text(&mut self, text: *mut c_void) {
        assert!(!text.is_null(), "no text");
        // SAFETY: texts end in NUL.
        let text = unsafe { CStr::from_ptr(text.cast::<c_char>()) };
        assert!(text.to_str().is_ok(), "a text that is not UTF-8");
        self.returned();
    }

    pub fn check_view(&mut self, view: View) {
        if view.len > 0 {
            // SAFETY: lent as long as its owner lives.
            let bytes = unsafe { std::slice::from_raw_parts(view.data, view.len) };
            std::hint::black_box(bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
        }
        self.returned();
    }

    /// A look-up that may have set its output.
    pub fn found(&mut self, found: bool, value: *mut c_void) {
        // SAFETY: where it was found the output was set; it is ours.
        let view = found.then(|| unsafe { value.cast::<View>().read() });
        self.check_view(view.unwrap_or(View { data: std::ptr::null(), len: 0 }));
    }

    /// A part of `owner`, alive as long as that.
    pub fn borrowed(&mut self, kind: &'static str, part: *mut c_void, owner: *mut c_void) {
        if !part.is_null() {
            let alive = self.alive.entry(kind).or_default();
            if alive.iter().all(|handle| handle.at != part as usize) {
                alive.push(Handle { at: part as usize, owner: Some(owner as usize) });
            }
        }
        self.returned();
    }

    /// Takes over what callbacks were given.
    pub fn collect(&mut self) {
        for (kind, handle) in users::take_given() {
            self.add(kind, handle);
        }
    }

    /// Closes and frees everything; then nothing of it may be left.
    pub fn end(mut self) {
        const LONG_MS: i64 = 60_000;
        for client in self.alive.remove("flowmesh_client_t").unwrap_or_default() {
            // SAFETY: a client that is alive.
            unsafe {
                let client = client.at as *mut c_void;
                let status = header::flowmesh_client_close(client, LONG_MS, null_mut());
                assert_eq!(status, 0, "a client does not close");
                header::flowmesh_client_free(client);
            }
        }
        self.free_all();
        // Where nobody runs a dispatcher any more, nobody says when the rest comes. Elsewhere what
        // came late may keep user data alive: a subscription does.
        while !self.manual && !users::wait_for_drops(&self.owed) {
            self.collect();
            self.free_all();
        }
    }

    fn free_all(&mut self) {
        let backwards = self.input.u8() & 1 == 1;
        let mut all: Vec<(&'static str, usize)> = Vec::new();
        for (kind, handles) in std::mem::take(&mut self.alive) {
            all.extend(handles.iter().filter(|h| h.owner.is_none()).map(|h| (kind, h.at)));
        }
        if backwards {
            all.reverse();
        }
        for (kind, handle) in all {
            header::free(kind, handle as *mut c_void);
        }
    }

    fn allocate(&mut self, size: usize) -> *mut u8 {
        self.call.memory.push(vec![0; size.div_ceil(8)].into_boxed_slice());
        self.call.memory.last_mut().map_or(null_mut(), |memory| memory.as_mut_ptr().cast())
    }

    /// Exactly as many bytes, so that one too many is noticed.
    fn allocate_bytes(&mut self, size: usize) -> *mut u8 {
        self.call.bytes.push(vec![0; size].into_boxed_slice());
        self.call.bytes.last_mut().map_or(null_mut(), |bytes| bytes.as_mut_ptr())
    }
}

fn layout(name: &str) -> &'static Layout {
    LAYOUTS.iter().find(|layout| layout.name == name).expect("a struct of the header")
}

/// What a call that cannot fail has made.
unsafe fn made(make: impl FnOnce(*mut c_void) -> i32) -> *mut c_void {
    let mut out: *mut c_void = null_mut();
    assert_eq!(make((&raw mut out).cast()), 0);
    out
}
