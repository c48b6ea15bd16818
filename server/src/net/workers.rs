//! The threads that serve connections: one per processor, each with a runtime of its own.
//!
//! A connection stays with its worker, so a call never moves between processors. What the calls of
//! a worker hand in for storage it commits itself ([`commit::gathering`]): the replies of a batch
//! are then at hand in the thread that sends them.

use std::{io, pin::Pin, sync::Arc, thread};

use tokio::{
    runtime,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::bell::Bell;
use crate::commit;

/// Made on the worker's thread, because sockets belong to the runtime that they are made on.
type Connection = Box<dyn FnOnce(Arc<Bell>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The workers. Dropping it cuts the connections that are left.
pub struct Workers {
    workers: Vec<Worker>,
    /// Its end is the last worker's.
    alive: mpsc::Receiver<()>,
    _cut: watch::Sender<()>,
}

/// Takes connections for the workers. The workers end when the last of these is gone and their
/// connections have ended.
#[derive(Clone)]
pub struct Assigner(Vec<Worker>);

#[derive(Clone)]
struct Worker {
    connections: mpsc::UnboundedSender<Connection>,
    /// Each connection holds a clone.
    load: Arc<()>,
}

impl Workers {
    /// Starts a thread per processor.
    pub fn start() -> io::Result<Self> {
        let (_cut, cut) = watch::channel(());
        let (living, alive) = mpsc::channel(1);
        let start = |number: usize| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let (connections, inbox) = mpsc::unbounded_channel();
            let (mut cut, living) = (cut.clone(), living.clone());
            thread::Builder::new().name(format!("flowmesh-net-{number}")).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(inbox) => {}
                        _ = cut.changed() => {}
                    }
                });
                // Before the end is told: connections hold what the engine's owner waits for.
                drop(runtime);
                drop(living);
            })?;
            Ok(Worker { connections, load: Arc::new(()) })
        };
        let count = thread::available_parallelism().map_or(1, |n| n.get());
        let workers = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, alive, _cut })
    }

    /// By which connections come in.
    pub fn assigner(&self) -> Assigner {
        Assigner(self.workers.clone())
    }

    /// Waits for the last connection to end. Assigners must be gone, or this waits for ever.
    pub async fn ended(&mut self) {
        self.workers.clear();
        while self.alive.recv().await.is_some() {}
    }
}

impl Assigner {
    /// Gives a connection to the worker that has the fewest.
    pub fn assign<F>(&self, connection: impl FnOnce(Arc<Bell>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let worker = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.load));
        let worker = worker.expect("there is a processor");
        let load = worker.load.clone();
        let connection: Connection = Box::new(move |bell| {
            let serving = connection(bell);
            Box::pin(async move {
                serving.await;
                drop(load);
            })
        });
        // A worker that was cut takes no connections; this one is closed unserved like the others.
        drop(worker.connections.send(connection));
    }
}

/// A worker: its connections until there are no more, and what they hand in.
async fn serve(mut inbox: mpsc::UnboundedReceiver<Connection>) {
    let bell = Bell::new();
    let helpers = [tokio::spawn(commit::gathering()), tokio::spawn(bell.clone().answer())];
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Takes finished connections out of the set.
            Some(_) = connections.join_next() => {}
            connection = inbox.recv() => match connection {
                Some(connection) => drop(connections.spawn(connection(bell.clone()))),
                None => break,
            },
        }
    }
    while connections.join_next().await.is_some() {}
    helpers.iter().for_each(JoinHandle::abort);
}
