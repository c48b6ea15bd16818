//! A server that answers as its script says, on the level of HTTP/2: for what no good server does.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

/// What becomes of one call.
#[derive(Clone)]
pub enum Answer {
    /// This gRPC status, without a message.
    Status(tonic::Code, &'static str),
    /// One message and OK.
    Reply(Bytes),
    /// These messages, and then nothing more.
    Messages(Vec<Bytes>),
    /// These messages, and then this gRPC status.
    MessagesThenStatus(Vec<Bytes>, tonic::Code),
    /// No answer at all.
    Silence,
    /// The connection is cut.
    Cut,
}

/// An encoded message as an answer.
pub fn reply(message: impl Message) -> Answer {
    Answer::Reply(message.encode_to_vec().into())
}

pub struct Fake {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Fake {
    /// Starts a server; `script` gets the method's name and how many calls came before.
    pub fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with_requests(move |method, _, before| script(method, before))
    }

    /// As [`Fake::start`]; `script` also gets the body of the request.
    pub fn start_with_requests(
        script: impl Fn(&str, &[u8], usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("address");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = calls.clone();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("listener");
                let script = Arc::new(script);
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, script.clone(), seen.clone()));
                }
            });
        });
        Self { address, calls }
    }

    /// The names of the methods called so far.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("calls").iter().map(|(name, _)| name.clone()).collect()
    }

    /// What came with the latest call.
    pub fn last_metadata(&self) -> HeaderMap {
        self.calls.lock().expect("calls").last().expect("there was a call").1.clone()
    }
}

async fn serve(
    socket: TcpStream,
    script: Arc<impl Fn(&str, &[u8], usize) -> Answer + Send + Sync + 'static>,
    calls: Arc<Mutex<Vec<(String, HeaderMap)>>>,
) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let (cut, mut is_cut) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let (request, respond) = tokio::select! {
            _ = is_cut.recv() => return,
            call = connection.accept() => match call {
                Some(Ok(call)) => call,
                _ => return,
            },
        };
        let (script, calls, cut) = (script.clone(), calls.clone(), cut.clone());
        tokio::spawn(async move {
            let method = request.uri().path().rsplit('/').next().expect("a path").to_owned();
            let metadata = request.headers().clone();
            let mut body = request.into_body();
            let mut bytes = Vec::new();
            while let Some(Ok(chunk)) = body.data().await {
                bytes.extend_from_slice(&chunk);
                body.flow_control().release_capacity(chunk.len()).expect("it was received");
            }
            let before = {
                let mut calls = calls.lock().expect("calls");
                calls.push((method.clone(), metadata));
                calls.len() - 1
            };
            answer(script(&method, &bytes, before), respond, cut).await;
        });
    }
}

async fn answer(answer: Answer, mut respond: SendResponse<Bytes>, cut: tokio::sync::mpsc::Sender<()>) {
    match answer {
        Answer::Status(code, text) => {
            let mut headers = head();
            headers.headers_mut().extend(trailers(code, text));
            respond.send_response(headers, true).expect("answer");
        }
        Answer::Reply(message) => {
            let mut body = messages(&mut respond, &[message]);
            body.send_trailers(trailers(tonic::Code::Ok, "")).expect("trailers");
        }
        Answer::Messages(all) => {
            let _open = messages(&mut respond, &all);
            std::future::pending().await
        }
        Answer::MessagesThenStatus(all, code) => {
            let mut body = messages(&mut respond, &all);
            body.send_trailers(trailers(code, "")).expect("trailers");
        }
        Answer::Silence => std::future::pending().await,
        Answer::Cut => {
            // The connection may be gone already.
            let _ = cut.send(()).await;
            // A stream that is dropped would be reset before the cut.
            std::future::pending().await
        }
    }
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).expect("head")
}

fn trailers(code: tonic::Code, text: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(i32::from(code)));
    if !text.is_empty() {
        trailers.insert("grpc-message", HeaderValue::from_static(text));
    }
    trailers
}

fn messages(respond: &mut SendResponse<Bytes>, all: &[Bytes]) -> h2::SendStream<Bytes> {
    let mut body = respond.send_response(head(), false).expect("head");
    for message in all {
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).expect("small"));
        frame.put_slice(message);
        body.send_data(frame.freeze(), false).expect("data");
    }
    body
}
