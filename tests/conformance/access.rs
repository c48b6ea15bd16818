//! Who may call what. Every rpc of the proto file meets every kind of caller.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use flowmesh_proto::v1::ResourcePath;
use flowmesh_server::access::{Entry, NewToken, Permission, Tokens};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Code::{self, NotFound, Ok as Fine, PermissionDenied, Unauthenticated, Unimplemented},
    body::Body,
};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::{every_rpc::call_every_rpc, raw::framed, world::World};

/// Every rpc: service, rpc, what it needs, and what a caller who may make it is told when nothing
/// is stored yet.
const RPCS: [(&str, &str, Option<Permission>, Code); 37] = {
    use Permission::*;
    [
        ("HealthService", "HealthCheck", None, Fine),
        ("HealthService", "ReadinessCheck", None, Fine),
        ("StreamService", "WriteEvents", Some(StreamWrite), Fine),
        ("StreamService", "ReadStream", Some(StreamRead), NotFound),
        ("StreamService", "Subscribe", Some(StreamRead), Fine),
        ("StreamService", "CommitOffset", Some(StreamRead), NotFound),
        ("StreamService", "GetOffset", Some(StreamRead), NotFound),
        ("StreamService", "GetLatestOffset", Some(StreamRead), NotFound),
        ("StreamService", "GetConsumerGroupState", Some(StreamRead), NotFound),
        ("QueueService", "Enqueue", Some(QueueWrite), Fine),
        ("QueueService", "Reserve", Some(QueueRead), Fine),
        ("QueueService", "Receive", Some(QueueRead), Fine),
        ("QueueService", "ACK", Some(QueueRead), NotFound),
        ("QueueService", "NACK", Some(QueueRead), NotFound),
        ("QueueService", "GetQueueStats", Some(QueueRead), NotFound),
        ("QueueService", "SetRetryPolicy", Some(QueueWrite), Fine),
        ("QueueService", "GetRetryPolicy", Some(QueueRead), NotFound),
        ("QueueService", "ListDLQJobs", Some(QueueRead), NotFound),
        ("QueueService", "ReplayDLQJob", Some(QueueWrite), NotFound),
        ("KVService", "Set", Some(KvWrite), Fine),
        ("KVService", "Get", Some(KvRead), NotFound),
        ("KVService", "Delete", Some(KvWrite), Fine),
        ("KVService", "Exists", Some(KvRead), Fine),
        ("KVService", "ListKeys", Some(KvRead), Fine),
        ("SchemaService", "RegisterSchema", Some(StreamWrite), Unimplemented),
        ("SchemaService", "GetSchema", Some(StreamRead), Unimplemented),
        ("SchemaService", "ListSchemas", Some(StreamRead), Unimplemented),
        ("SchemaService", "DeleteSchema", Some(StreamWrite), Unimplemented),
        ("SchemaService", "SetResourceSchema", Some(StreamWrite), Unimplemented),
        ("ReplayService", "CreateReplaySession", Some(StreamWrite), Unimplemented),
        ("ReplayService", "GetReplaySession", Some(StreamRead), Unimplemented),
        ("ReplayService", "ListReplaySessions", Some(StreamRead), Unimplemented),
        ("ReplayService", "StartReplay", Some(StreamWrite), Unimplemented),
        ("ReplayService", "PauseReplay", Some(StreamWrite), Unimplemented),
        ("ReplayService", "ResumeReplay", Some(StreamWrite), Unimplemented),
        ("ReplayService", "StopReplay", Some(StreamWrite), Unimplemented),
        ("ReplayService", "DeleteReplaySession", Some(StreamWrite), Unimplemented),
    ]
};

/// A caller: what it presents, and what an rpc that needs a permission answers it.
struct Caller {
    what: &'static str,
    authorization: Option<String>,
    answer: Answer,
}

enum Answer {
    /// Whatever it asks for.
    Always(Code),
    /// What one without authentication is told.
    Served,
    /// What one without authentication is told, where the rpc needs no more than this.
    ServedFor(Permission),
}

impl Caller {
    /// What the rpc answers, that needs `needed` and would else answer `served`.
    fn expected(&self, needed: Option<Permission>, served: Code) -> Code {
        let Some(needed) = needed else { return served };
        match self.answer {
            Answer::Always(Unauthenticated) => Unauthenticated,
            // Who may call at all learns that nobody can make this call.
            _ if served == Unimplemented => Unimplemented,
            Answer::Always(code) => code,
            Answer::Served => served,
            Answer::ServedFor(permission) if permission == needed => served,
            Answer::ServedFor(_) => PermissionDenied,
        }
    }
}

/// Who has lost a permission can do with the other five what it could.
fn lacking(permission: Permission) -> BTreeSet<Permission> {
    Permission::ALL.into_iter().filter(|&p| p != permission).collect()
}

fn token(
    tenant: &str,
    namespace: Option<&str>,
    permissions: BTreeSet<Permission>,
    expires_at: u64,
) -> NewToken {
    let (sha256, tenant) = (String::new(), tenant.to_owned());
    let namespaces = namespace.map(str::to_owned).into_iter().collect();
    NewToken::make(Entry { sha256, tenant, namespaces, permissions, created_at: 0, expires_at })
        .expect("random bytes")
}

/// Those of whom the contract speaks, and the tokens that the server knows.
fn callers() -> (Vec<Caller>, Arc<Tokens>) {
    let mut callers = Vec::new();
    let mut entries = Vec::new();
    let mut add = |what, authorization, answer| callers.push(Caller { what, authorization, answer });
    let mut known = |token: NewToken| {
        entries.push(token.entry);
        token.secret
    };
    let all: BTreeSet<_> = Permission::ALL.into();
    let refused = || Answer::Always(Unauthenticated);
    let denied = || Answer::Always(PermissionDenied);
    let right = known(token("t", None, all.clone(), 0));

    add("no token", None, refused());
    add("empty", Some(String::new()), refused());
    add("without a scheme", Some(right.clone()), refused());
    add("another scheme", Some(format!("Basic {right}")), refused());
    add("scheme in lower case", Some(format!("bearer {right}")), refused());
    add("two blanks", Some(format!("Bearer  {right}")), refused());
    add("scheme alone", Some("Bearer ".into()), refused());
    add("unknown token", Some(format!("Bearer {}", token("t", None, all.clone(), 0).secret)), refused());
    add("a part of a token", Some(format!("Bearer {}", &right[..right.len() - 1])), refused());
    add("expired token", Some(format!("Bearer {}", known(token("t", None, all.clone(), 1)))), refused());
    add("wrong tenant", Some(format!("Bearer {}", known(token("u", None, all.clone(), 0)))), denied());
    let elsewhere = known(token("t", Some("m"), all.clone(), 0));
    add("wrong namespace", Some(format!("Bearer {elsewhere}")), denied());
    for permission in Permission::ALL {
        let only = known(token("t", Some("n"), [permission].into(), 0));
        add("one permission", Some(format!("Bearer {only}")), Answer::ServedFor(permission));
    }
    add("right", Some(format!("Bearer {right}")), Answer::Served);
    let never = known(token("t", Some("n"), all, u64::MAX));
    add("right, for a namespace and a time", Some(format!("Bearer {never}")), Answer::Served);
    let tokens = Tokens::default();
    tokens.replace(entries);
    (callers, Arc::new(tokens))
}

/// `ListDLQJobs` as the generated clients have it.
fn snake(rpc: &str) -> String {
    let mut snake = String::new();
    let letters: Vec<char> =
        rpc.replace("DLQ", "Dlq").replace("ACK", "Ack").replace("NAck", "Nack").chars().collect();
    for letter in letters {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[test]
fn every_rpc_of_the_contract_is_in_the_matrix() {
    let files = FileDescriptorSet::decode(flowmesh_proto::DESCRIPTORS).expect("descriptors");
    let all: Vec<(String, String)> = files
        .file
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|s| s.method.iter().map(|m| (s.name().to_owned(), m.name().to_owned())))
        .collect();
    let ours: Vec<_> = RPCS.iter().map(|(s, m, ..)| ((*s).to_owned(), (*m).to_owned())).collect();
    assert_eq!(all, ours);
}

async fn meets_every_rpc(w: &World, caller: &Caller, number: usize) {
    let path = |kind: &str, name: &str| {
        let [tenant, namespace] = ["t", "n"].map(String::from);
        let (resource_type, name) = (kind.to_owned(), format!("{name}-{number}"));
        Some(ResourcePath { tenant, namespace, resource_type, name })
    };
    let mut results = call_every_rpc(w, path).await;
    for (service, rpc, needed, served) in RPCS {
        let expected = caller.expected(needed, served);
        let name = snake(rpc);
        let code = match results.iter().position(|(called, ..)| *called == name) {
            Some(at) => results.swap_remove(at).1,
            // The rpcs that take no path, and those that nobody can make.
            None if needed.is_none() || served == Unimplemented => {
                w.raw_code(&format!("flowmesh.v1.{service}/{rpc}"), framed(b"")).await
            }
            None => panic!("{service}/{rpc} was not called"),
        };
        assert_eq!(code, expected, "{service}/{rpc} for {}", caller.what);
    }
    assert!(results.is_empty(), "not in the matrix: {results:?}");
}

network_rules! {
    async fn every_caller_meets_every_rpc(w) {
        let (callers, tokens) = callers();
        let mut w = w.restart(|s| s.authority = Some(tokens)).await;
        for (number, caller) in callers.iter().enumerate() {
            w.link.authorization = caller.authorization.as_ref().map(|a| a.parse().expect("ASCII"));
            meets_every_rpc(&w, caller, number).await;
        }
    }

    async fn who_lacks_one_permission_keeps_the_others(w) {
        let tokens = Arc::new(Tokens::default());
        let mut w = w.restart(|s| s.authority = Some(tokens.clone())).await;
        for (number, permission) in Permission::ALL.into_iter().enumerate() {
            let token = token("t", None, lacking(permission), 0);
            w.link.authorization = Some(format!("Bearer {}", token.secret).parse().expect("ASCII"));
            tokens.replace(vec![token.entry]);
            let path = |kind: &str, name: &str| crate::ops::path(kind, &format!("{name}-{number}"));
            for (rpc, code, _) in call_every_rpc(&w, path).await {
                let (_, _, needed, served) = RPCS.into_iter().find(|r| snake(r.1) == rpc).expect("in the matrix");
                let expected = if needed == Some(permission) { PermissionDenied } else { served };
                assert_eq!(code, expected, "{rpc} without {permission}");
            }
        }
    }

    async fn of_what_is_not_ours_only_health_is_open(w) {
        let token = token("t", Some("n"), [Permission::KvRead].into(), 0);
        let tokens = Arc::new(Tokens::default());
        tokens.replace(vec![token.entry]);
        let mut w = w.restart(|s| s.authority = Some(tokens)).await;
        for (authorization, expected) in
            [(None, Unauthenticated), (Some("Bearer fm_no".to_owned()), Unauthenticated), (Some(format!("Bearer {}", token.secret)), Fine)]
        {
            w.link.authorization = authorization.map(|a| a.parse().expect("ASCII"));
            assert_eq!(w.raw_code("grpc.health.v1.Health/Check", framed(b"")).await, Fine);
            let none = tokio_stream::empty();
            let reply = ServerReflectionClient::<_>::new(w.link.clone()).server_reflection_info(none).await;
            assert_eq!(reply.map_or_else(|e| e.code(), |_| Fine), expected);
            let unknown = if expected == Fine { Unimplemented } else { expected };
            assert_eq!(w.raw_code("no.such.Service/Method", framed(b"")).await, unknown);
        }
    }

    async fn a_token_is_in_the_first_header_of_its_name(w) {
        let token = token("t", None, Permission::ALL.into(), 0);
        let tokens = Arc::new(Tokens::default());
        tokens.replace(vec![token.entry]);
        let w = w.restart(|s| s.authority = Some(tokens)).await;
        let good = format!("Bearer {}", token.secret);
        for (headers, expected) in [([good.as_str(), "Bearer no"], NotFound), (["Bearer no", good.as_str()], Unauthenticated)] {
            let mut request = http::Request::post("http://localhost/flowmesh.v1.KVService/Get")
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            for header in headers {
                request = request.header("authorization", header);
            }
            let message = flowmesh_proto::v1::GetRequest { resource_path: crate::ops::store("k"), key: "k".into() };
            let body = http_body_util::Full::new(framed(&message.encode_to_vec()));
            assert_eq!(w.send(request.body(Body::new(body)).expect("a request")).await.code, expected);
        }
        assert_eq!(w.raw_code("flowmesh.v1.KVService/Get", Bytes::new()).await, Unauthenticated);
    }
}
