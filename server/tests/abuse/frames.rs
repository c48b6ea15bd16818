//! A peer that sends whatever HTTP/2 frames it likes, and reads the heads of those it gets.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ENHANCE_YOUR_CALM: u32 = 11;
pub const REFUSED_STREAM: u32 = 7;

/// Long enough for anything that is going to happen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A frame that came in.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a GOAWAY.
    pub fn goaway(&self) -> Option<u32> {
        (self.kind == kind::GOAWAY).then(|| number(&self.payload[4..8]))
    }

    /// The code of a RST_STREAM.
    pub fn reset(&self) -> Option<u32> {
        (self.kind == kind::RST_STREAM).then(|| number(&self.payload[..4]))
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// Appends a frame.
pub fn frame(into: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    into.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

/// A header field in literal form, not to be kept.
pub fn field(into: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    into.push(0);
    text(into, name);
    text(into, value);
}

/// A header field in literal form that the peer keeps in its table.
pub fn kept_field(into: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    into.push(0x40);
    text(into, name);
    text(into, value);
}

/// A length in HPACK's variable form, and the text.
fn text(into: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text.len();
    if rest < 127 {
        into.push(rest as u8);
    } else {
        into.push(127);
        rest -= 127;
        while rest >= 128 {
            into.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        into.push(rest as u8);
    }
    into.extend_from_slice(text);
}

/// The fields of a gRPC call of `path`.
pub fn head(path: &str) -> Vec<u8> {
    // POST and http, from the static table.
    let mut block = vec![0x83, 0x86];
    field(&mut block, b":path", path.as_bytes());
    field(&mut block, b":authority", b"localhost");
    field(&mut block, b"te", b"trailers");
    field(&mut block, b"content-type", b"application/grpc");
    block
}

/// A gRPC message around an encoded one.
pub fn message(request: &impl prost::Message) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(request.encoded_len() as u32).to_be_bytes());
    request.encode(&mut bytes).expect("a Vec has room");
    bytes
}

/// A connection. Everything it does may fail, since the server may have ended it.
pub struct Peer {
    socket: TcpStream,
    /// Received and not looked at yet.
    inbox: Vec<u8>,
    /// The code of the last GOAWAY.
    told: Option<u32>,
}

impl Peer {
    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("nodelay");
        Self { socket, inbox: Vec::new(), told: None }
    }

    /// Connects with `window` bytes per stream and as many as possible for the connection.
    pub fn with_window(address: SocketAddr, window: u32) -> Self {
        let mut peer = Self::silent(address);
        let mut hello = PREFACE.to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let setting = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        frame(&mut hello, kind::SETTINGS, 0, 0, &setting);
        frame(&mut hello, kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        peer.send(&hello).expect("a preface is taken");
        peer
    }

    /// Connects as others do.
    pub fn connect(address: SocketAddr) -> Self {
        let mut peer = Self::silent(address);
        let mut hello = PREFACE.to_vec();
        frame(&mut hello, kind::SETTINGS, 0, 0, &[]);
        peer.send(&hello).expect("a preface is taken");
        peer
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Begins a call and sends `body` of it; `ends` says whether that is all.
    pub fn call(&mut self, stream: u32, path: &str, body: &[u8], ends: bool) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::HEADERS, END_HEADERS, stream, &head(path));
        for (n, part) in body.chunks(16_384).enumerate() {
            let last = (n + 1) * 16_384 >= body.len();
            frame(&mut bytes, kind::DATA, if ends && last { END_STREAM } else { 0 }, stream, part);
        }
        self.send(&bytes)
    }

    /// The next frame; `None` when the server has ended the connection.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let mut part = [0; 16 << 10];
            match self.socket.read(&mut part) {
                Ok(0) => return None,
                Ok(n) => self.inbox.extend_from_slice(&part[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => panic!("nothing in {PATIENCE:?}"),
                Err(_) => return None,
            }
        }
    }

    /// What has come in by now, without waiting for more.
    pub fn arrived(&mut self) -> Vec<Frame> {
        self.socket.set_nonblocking(true).expect("nonblocking");
        let mut part = [0; 64 << 10];
        while let Ok(n @ 1..) = self.socket.read(&mut part) {
            self.inbox.extend_from_slice(&part[..n]);
        }
        self.socket.set_nonblocking(false).expect("blocking");
        std::iter::from_fn(|| self.take()).collect()
    }

    fn take(&mut self) -> Option<Frame> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = self.inbox.first_chunk()?;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        if self.inbox.len() < 9 + len {
            return None;
        }
        let rest = self.inbox.split_off(9 + len);
        let payload = std::mem::replace(&mut self.inbox, rest).split_off(9);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        let frame = Frame { kind, flags, stream, payload };
        self.told = frame.goaway().or(self.told);
        Some(frame)
    }

    /// Waits for the end of the connection; gives the code of the GOAWAY that came before it.
    pub fn end(&mut self) -> Option<u32> {
        while self.next().is_some() {}
        self.told
    }

    /// Sends no more.
    pub fn close_half(&self) {
        self.socket.shutdown(Shutdown::Write).expect("shutdown");
    }
}
