//! The services on sockets: listening, HTTP/2, the standard health and reflection services, and
//! an orderly stop.
//!
//! Everything a call means is decided in [`crate::services`]; here are only connections.

mod address;
mod bell;
mod connection;
mod cork;
mod deliveries;
mod dispatch;
mod exchange;
mod frames;
mod listener;
mod refusal;
mod tls;
mod warden;
mod workers;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{Instant, timeout_at},
};
use tonic_health::ServingStatus;

pub use address::{Address, BadAddress};
use dispatch::Dispatch;
use listener::Listener;
pub use tls::{BadCertificates, CertificateFiles, Certificates, keep as keep_certificates};
use workers::Workers;

use crate::{
    Engine,
    access::Authority,
    limits::{Ledger, Limits},
    services::{Gate, Routes},
};

/// How long a stop waits for calls and connections to end before it cuts them.
pub const GRACE: Duration = Duration::from_secs(4);

/// Why the server cannot listen at an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address as configured.
    pub address: Address,
    /// What the system said.
    pub source: io::Error,
}

/// Sockets that listen and do not answer yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    certificates: Option<Arc<Certificates>>,
}

impl Server {
    /// Binds every address, or none.
    pub async fn bind(addresses: &[Address]) -> Result<Self, BindError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let bound = Listener::bind(address).await;
            listeners.push(bound.map_err(|source| BindError { address: address.clone(), source })?);
        }
        Ok(Self { listeners, certificates: None })
    }

    /// Has every TCP connection begin with TLS. Unix sockets stay as they are: what goes through
    /// them never leaves this machine.
    #[must_use]
    pub fn with_tls(self, certificates: Arc<Certificates>) -> Self {
        Self { certificates: Some(certificates), ..self }
    }

    /// The addresses really bound, with the port that the system chose where 0 was asked for.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(Listener::address)
    }

    /// Serves `engine` within `limits` to those whom `authority` knows (`None`: to anybody) until `stop` resolves, then stops in order: no new connections and calls,
    /// waiting calls end with UNAVAILABLE, the engine commits and closes. Connections that have
    /// not ended after [`GRACE`] are cut: a peer that does not read must not hold up the stop.
    /// Tells whether the engine was closed by then.
    pub async fn serve(
        self,
        engine: Engine,
        limits: Limits,
        authority: Option<Arc<dyn Authority>>,
        stop: impl Future<Output = ()>,
    ) -> bool {
        let (reporter, health) = tonic_health::server::health_reporter();
        let serving = if engine.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in dispatch::SERVICE_NAMES {
            reporter.set_service_status(service, serving).await;
        }
        let ledger = Arc::new(Ledger::new(limits));
        let routes = Routes::new(engine.clone(), ledger.limits.max_message_bytes, ledger.tenants.clone());
        let gate = Gate::new(Dispatch::new(routes, health, dispatch::reflection()), authority);

        let mut workers = match Workers::start() {
            Ok(workers) => workers,
            Err(e) => {
                tracing::error!("cannot start a thread to serve connections: {e}");
                return false;
            }
        };
        let (stopping, stopped) = watch::channel(());
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(listener.accept(
                gate.clone(),
                self.certificates.clone(),
                ledger.clone(),
                workers.assigner(),
                stopped.clone(),
            ));
        }
        stop.await;

        // Connections say GOAWAY first, so that clients do not bring their next call here.
        drop(stopping);
        let deadline = Instant::now() + GRACE;
        dispatch::retire(reporter).await;
        let closed = timeout_at(deadline, spawn_blocking(move || engine.close())).await;
        let ended = async {
            while accepting.join_next().await.is_some() {}
            workers.ended().await;
        };
        if timeout_at(deadline, ended).await.is_err() {
            tracing::warn!("connections that did not end in time were cut");
        }
        matches!(closed, Ok(Ok(())))
    }
}
