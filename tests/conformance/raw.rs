//! Requests as bytes, for what a generated client would never send.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use tonic::{Code, body::Body};
use tower::{Service, ServiceExt};

use crate::world::World;

/// What a call came to.
pub struct Outcome {
    pub code: Code,
    pub headers: http::HeaderMap,
    pub trailers: http::HeaderMap,
}

/// `message` with the 5 bytes that gRPC puts in front.
pub fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

impl World {
    /// Sends `body` as it is to `method` (`Service/Method`).
    pub async fn raw(&self, method: &str, body: Bytes) -> Outcome {
        let request = http::Request::post(format!("http://localhost/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Full::new(body)))
            .expect("a request");
        self.send(request).await
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: http::Request<Body>) -> Outcome {
        let mut link = self.link.clone();
        let reply = link.ready().await.expect("ready").call(request).await.expect("a reply");
        assert_eq!(reply.status(), 200);
        let (head, body) = reply.into_parts();
        let trailers = body.collect().await.expect("a body").trailers().cloned().unwrap_or_default();
        let status = head.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
        let code = Code::from_bytes(status.expect("a status").as_bytes());
        Outcome { code, headers: head.headers, trailers }
    }

    pub async fn raw_code(&self, method: &str, body: Bytes) -> Code {
        self.raw(method, body).await.code
    }
}
