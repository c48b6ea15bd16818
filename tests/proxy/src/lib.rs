//! A TCP proxy that breaks connections on command, so that tests meet faults as events and not by
//! chance: it delays, stalls, cuts, half-closes, trickles, adds garbage and refuses, and says when
//! it has. The commands are in [`command`]. It knows nothing of what it carries.

pub mod command;
mod connection;
pub mod random;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    select,
    sync::{broadcast, mpsc, oneshot, watch},
};

use command::{Command, Count, Cut, Direction, Rule};
use connection::Told;
use random::Random;

/// A running proxy; it ends, and with it its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    address: SocketAddr,
    upstream: Mutex<String>,
    up: watch::Sender<Rule>,
    down: watch::Sender<Rule>,
    orders: broadcast::Sender<Told>,
    /// Whether connections are accepted, and whether the listening socket is as that says.
    accepting: watch::Sender<bool>,
    listening: watch::Sender<bool>,
    cuts: Mutex<Cuts>,
    counts: watch::Sender<Counts>,
}

/// When the next connection is cut by count.
#[derive(Debug, Default)]
struct Cuts {
    next: Option<Limit>,
    /// Where the limit after that comes from, and the most bytes it can have.
    storm: Option<(Random, u64)>,
}

#[derive(Debug)]
struct Limit {
    cut: Cut,
    direction: Direction,
    left: u64,
}

/// What has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are over.
    pub closed: u64,
    /// Bytes that reached the server.
    pub up: u64,
    /// Bytes that reached the client.
    pub down: u64,
}

impl Proxy {
    /// Starts one on a port of the system's choice; its connections lead to `upstream`.
    pub fn start(upstream: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            upstream: Mutex::new(upstream.to_owned()),
            up: watch::Sender::default(),
            down: watch::Sender::default(),
            orders: broadcast::Sender::new(1024),
            accepting: watch::Sender::new(true),
            listening: watch::Sender::new(true),
            cuts: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = {
            let shared = shared.clone();
            thread::Builder::new().name("fault-proxy".into()).spawn(move || {
                runtime.block_on(async {
                    select! {
                        () = accept(shared, listener) => {}
                        _ = stopped => {}
                    }
                });
            })?
        };
        Ok(Self { shared, runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Carries out a command of [`command`]. It returns when that is done: after `cut` the
    /// connections are cut, after `await` what it awaits has happened.
    pub fn tell(&self, line: &str) -> Result<String, String> {
        let command = line.parse()?;
        self.runtime.block_on(self.shared.carry_out(command))
    }

    /// What has happened since the start.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the test has failed by it.
            let _ = thread.join();
        }
    }
}

/// Accepts connections, or refuses them, for ever.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut accepting = shared.accepting.subscribe();
    let mut listener = Some(listener);
    loop {
        let wanted = *accepting.borrow_and_update();
        if !wanted {
            listener = None;
        } else if listener.is_none() {
            match connection::listen(shared.address).await {
                Ok(bound) => listener = Some(bound),
                Err(e) => panic!("cannot listen again at {}: {e}", shared.address),
            }
        }
        shared.listening.send_replace(wanted);
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        select! {
            biased;
            _ = accepting.changed() => {}
            next = next => if let Ok((client, _)) = next {
                let orders = shared.orders.subscribe();
                shared.counts.send_modify(|counts| counts.accepted += 1);
                let shared = shared.clone();
                tokio::spawn(async move {
                    connection::carry(shared.clone(), client, orders).await;
                    shared.counts.send_modify(|counts| counts.closed += 1);
                });
            }
        }
    }
}

impl Shared {
    async fn carry_out(&self, command: Command) -> Result<String, String> {
        match command {
            Command::Rule(directions, rule) => {
                for direction in directions {
                    self.rule(direction).send_replace(rule);
                }
            }
            Command::Order(orders) => {
                for order in orders {
                    let (done, mut all_done) = mpsc::channel(1);
                    // Fails when no connection is open: then it is done.
                    let _ = self.orders.send((order, done));
                    let _ = all_done.recv().await;
                }
            }
            Command::CutAfter(cut, direction, bytes) => {
                let left = bytes.max(1);
                *lock(&self.cuts) = Cuts { next: Some(Limit { cut, direction, left }), storm: None };
            }
            Command::Storm { seed, bytes } => {
                let mut cuts = Cuts { next: None, storm: Some((Random::new(seed), bytes)) };
                cuts.draw();
                *lock(&self.cuts) = cuts;
            }
            Command::Calm => *lock(&self.cuts) = Cuts::default(),
            Command::Refuse | Command::Accept => {
                let wanted = matches!(command, Command::Accept);
                let mut listening = self.listening.subscribe();
                self.accepting.send_replace(wanted);
                listening.wait_for(|now| *now == wanted).await.map_err(|_| "the proxy ended")?;
            }
            Command::Upstream(address) => *lock(&self.upstream) = address,
            Command::Await(count, least) => {
                let mut counts = self.counts.subscribe();
                counts.wait_for(|counts| counts.of(count) >= least).await.map_err(|_| "the proxy ended")?;
            }
            Command::Status => {}
        }
        let Counts { accepted, closed, up, down } = *self.counts.borrow();
        Ok(format!("accepted {accepted} closed {closed} up {up} down {down}"))
    }

    fn upstream(&self) -> String {
        lock(&self.upstream).clone()
    }

    fn rule(&self, direction: Direction) -> &watch::Sender<Rule> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// How many of `read` bytes may pass, and whether the connection is cut after them.
    fn take(&self, direction: Direction, read: usize) -> (usize, Option<Cut>) {
        lock(&self.cuts).take(direction, read)
    }

    fn passed(&self, direction: Direction, bytes: usize) {
        self.counts.send_modify(|counts| match direction {
            Direction::Up => counts.up += bytes as u64,
            Direction::Down => counts.down += bytes as u64,
        });
    }
}

impl Counts {
    fn of(self, count: Count) -> u64 {
        match count {
            Count::Accepted => self.accepted,
            Count::Closed => self.closed,
            Count::Up => self.up,
            Count::Down => self.down,
        }
    }
}

impl Cuts {
    fn take(&mut self, direction: Direction, read: usize) -> (usize, Option<Cut>) {
        let Some(limit) = self.next.as_mut().filter(|limit| limit.direction == direction) else {
            return (read, None);
        };
        if (read as u64) < limit.left {
            limit.left -= read as u64;
            return (read, None);
        }
        let (taken, cut) = (limit.left as usize, limit.cut);
        self.next = None;
        self.draw();
        (taken, Some(cut))
    }

    /// Sets the next limit of a storm.
    fn draw(&mut self) {
        if let Some((random, most)) = &mut self.storm {
            let cut = if random.below(2) == 0 { Cut::Rst } else { Cut::Fin };
            let direction = if random.below(2) == 0 { Direction::Up } else { Direction::Down };
            self.next = Some(Limit { cut, direction, left: 1 + random.below(*most) });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
