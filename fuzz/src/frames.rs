//! HTTP/2 from an input: bytes as they are, or frames that its bytes describe, so that what lies
//! behind the framing is reached. Mistakes are as easy to describe as conversations.

use crate::input::Input;

const CLIENT_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Of PING and SETTINGS.
pub const ACK: u8 = 1;

/// Who speaks.
pub enum Side<'a> {
    /// A client that calls these paths.
    Client(&'a [&'a str]),
    /// A server.
    Server,
}

/// What one side sends.
pub struct Script {
    /// At once ...
    pub opening: Vec<u8>,
    /// ... and when the other side has said something.
    pub rest: Vec<u8>,
    /// It is made of whole frames: what is sent behind it is read as frames too.
    pub framed: bool,
}

/// What `side` sends.
pub fn script(mut input: Input<'_>, side: &Side<'_>) -> Script {
    let mut out = Vec::new();
    let mode = input.u8();
    if mode & 1 == 0 {
        return Script { opening: input.0.to_vec(), rest: Vec::new(), framed: false };
    }
    if let Side::Client(_) = side {
        out.extend_from_slice(CLIENT_PREFACE);
    }
    if mode & 2 == 0 {
        frame(&mut out, SETTINGS, 0, 0, &[]);
    }
    let opening = std::mem::take(&mut out);
    // Streams that the client of this connection opens have odd numbers, from 1.
    let mut stream = 1;
    let mut opened = false;
    while !input.is_empty() {
        let op = input.u8();
        match op % 12 {
            0 => {
                let (kind, flags, on) = (input.u8(), input.u8(), input.u8());
                frame(&mut out, kind, flags, on.into(), input.bytes());
            }
            1 => match side {
                Side::Client(paths) => {
                    stream += if opened { 2 } else { 0 };
                    opened = true;
                    let block = request(input.pick(paths), &mut input);
                    frame(&mut out, HEADERS, END_HEADERS | (op >> 7), stream, &block);
                }
                Side::Server => {
                    let block = reply(&mut input);
                    frame(&mut out, HEADERS, END_HEADERS | (op >> 7), stream, &block);
                }
            },
            2 => {
                let message = input.bytes();
                let mut data = vec![0];
                data.extend_from_slice(&(message.len() as u32).to_be_bytes());
                data.extend_from_slice(message);
                frame(&mut out, DATA, END_STREAM & (op >> 7), stream, &data);
            }
            3 => frame(&mut out, DATA, END_STREAM & (op >> 7), stream, input.bytes()),
            4 => {
                let on = if op & 0x80 == 0 { 0 } else { stream };
                frame(&mut out, WINDOW_UPDATE, 0, on, &input.u32().to_be_bytes());
            }
            5 => frame(&mut out, RST_STREAM, 0, stream, &u32::from(input.u8()).to_be_bytes()),
            6 => {
                let settings: Vec<u8> = (0..input.u8() % 8)
                    .flat_map(|_| {
                        let (id, value) = (u16::from(input.u8()), input.number() as u32);
                        [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
                    })
                    .collect();
                frame(&mut out, SETTINGS, 0, 0, &settings);
            }
            7 => frame(&mut out, SETTINGS, ACK, 0, &[]),
            8 => {
                let mut text = u32::from(input.u8()).to_be_bytes().to_vec();
                text.extend_from_slice(&u32::from(input.u8()).to_be_bytes());
                text.extend_from_slice(input.bytes());
                frame(&mut out, GOAWAY, 0, 0, &text);
            }
            9 => {
                let mut trailers = Vec::new();
                field(&mut trailers, "grpc-status", &(input.u8() % 20).to_string());
                field(&mut trailers, "grpc-message", &String::from_utf8_lossy(input.bytes()));
                frame(&mut out, HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
            }
            10 => {
                // A block in two pieces, perhaps with something in between.
                let block = input.bytes();
                let (head, rest) = block.split_at(block.len() / 2);
                frame(&mut out, HEADERS, 0, stream, head);
                if op & 0x80 != 0 {
                    frame(&mut out, PING, 0, 0, &[0; 8]);
                }
                frame(&mut out, CONTINUATION, END_HEADERS, stream, rest);
            }
            _ => stream = 1 + 2 * u32::from(input.u8() % 8),
        }
    }
    // Who waits for settings says nothing before.
    if opening.is_empty() {
        return Script { opening: out, rest: Vec::new(), framed: true };
    }
    Script { opening, rest: out, framed: true }
}

/// Appends a frame.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn request(path: &str, input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, ":method", input.pick(&["POST", "POST", "POST", "POST", "GET", ""]));
    field(&mut out, ":scheme", "http");
    field(&mut out, ":authority", "localhost");
    field(&mut out, ":path", path);
    field(&mut out, "content-type", input.pick(&["application/grpc", "application/grpc", "text/html"]));
    field(&mut out, "te", "trailers");
    extra(&mut out, input);
    out
}

fn reply(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, ":status", input.pick(&["200", "200", "200", "200", "500", "100", "x"]));
    field(&mut out, "content-type", input.pick(&["application/grpc", "application/grpc", "text/html"]));
    extra(&mut out, input);
    out
}

/// A header that means something, with any value.
fn extra(out: &mut Vec<u8>, input: &mut Input<'_>) {
    let names = [
        "grpc-timeout",
        "grpc-encoding",
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "authorization",
        "traceparent",
        "tracestate",
        "content-length",
        "retry-after",
        "x-any",
    ];
    for _ in 0..input.u8() % 3 {
        let name = input.pick(&names);
        field(out, name, &String::from_utf8_lossy(input.bytes()));
    }
}

/// A header field as HPACK writes one that it does not remember.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for text in [name, value] {
        let len = text.len();
        if len < 127 {
            out.push(len as u8);
        } else {
            out.push(127);
            let mut rest = len - 127;
            while rest >= 128 {
                out.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text.as_bytes());
    }
}
