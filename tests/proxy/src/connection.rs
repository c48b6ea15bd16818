//! One connection through the proxy: two pumps, and what makes them stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    select,
    sync::{broadcast, mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    Shared,
    command::{Cut, Direction, Order, Rule},
    random::Random,
};

/// An order, and where to say that it was carried out.
pub(crate) type Told = (Order, mpsc::Sender<()>);

/// Why a pump stopped.
enum End {
    /// The connection is to be cut; the other pump stops too.
    Cut(Cut),
    /// This direction is over.
    Closed,
}

/// Carries one connection until both its directions are over or it is cut.
pub(crate) async fn carry(shared: Arc<Shared>, mut client: TcpStream, orders: broadcast::Receiver<Told>) {
    let upstream = shared.upstream();
    let Ok(mut server) = TcpStream::connect(&upstream).await else {
        reset(&client);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let other = orders.resubscribe();
        let up = Pump::new(&shared, Direction::Up, from_client, to_server, orders);
        let down = Pump::new(&shared, Direction::Down, from_server, to_client, other);
        both(up.run(), down.run()).await
    };
    if let Some(Cut::Rst) = cut {
        reset(&client);
        reset(&server);
    }
}

/// Runs both to their ends, or until one is cut.
async fn both(up: impl Future<Output = End>, down: impl Future<Output = End>) -> Option<Cut> {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let (first, up_ended) = select! {
        end = &mut up => (end, true),
        end = &mut down => (end, false),
    };
    if let End::Cut(cut) = first {
        return Some(cut);
    }
    match if up_ended { down.await } else { up.await } {
        End::Cut(cut) => Some(cut),
        End::Closed => None,
    }
}

/// Has the close that follows send a reset.
fn reset(stream: &TcpStream) {
    // It fails only for a socket that is gone already.
    let _ = stream.set_zero_linger();
}

struct Pump<'a> {
    shared: &'a Shared,
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    orders: broadcast::Receiver<Told>,
    rule: watch::Receiver<Rule>,
    /// Read and not yet passed on, and until when it is held.
    held: Vec<u8>,
    until: Instant,
    /// Passed on with what is held, this ends the connection.
    last: Option<Cut>,
}

impl<'a> Pump<'a> {
    fn new(
        shared: &'a Shared,
        direction: Direction,
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
        orders: broadcast::Receiver<Told>,
    ) -> Self {
        let rule = shared.rule(direction).subscribe();
        Self {
            shared,
            direction,
            from,
            to,
            orders,
            rule,
            held: Vec::new(),
            until: Instant::now(),
            last: None,
        }
    }

    async fn run(mut self) -> End {
        match self.pass().await {
            Ok(end) => end,
            // One side is gone; the other must see it.
            Err(_) => End::Cut(Cut::Rst),
        }
    }

    async fn pass(&mut self) -> io::Result<End> {
        let mut buffer = vec![0; Rule::default().piece];
        loop {
            let rule = *self.rule.borrow_and_update();
            let piece = rule.piece.min(buffer.len());
            select! {
                biased;
                told = self.orders.recv() => match told {
                    Ok((order, done)) => {
                        let end = self.carry_out(order).await?;
                        drop(done);
                        if let Some(end) = end {
                            return Ok(end);
                        }
                    }
                    Err(_) => return Ok(End::Cut(Cut::Rst)),
                },
                changed = self.rule.changed() => if changed.is_err() {
                    return Ok(End::Cut(Cut::Rst));
                },
                read = self.from.read(&mut buffer[..piece]), if self.held.is_empty() && !rule.stalled => {
                    let read = read?;
                    if read == 0 {
                        self.to.shutdown().await?;
                        return Ok(End::Closed);
                    }
                    let (taken, last) = self.shared.take(self.direction, read);
                    self.held.extend_from_slice(&buffer[..taken]);
                    self.last = last;
                    self.until = Instant::now() + rule.delay;
                }
                written = write(&mut self.to, &self.held, self.until),
                    if !self.held.is_empty() && !rule.stalled =>
                {
                    let written = written?;
                    self.held.drain(..written);
                    self.shared.passed(self.direction, written);
                    if let (Some(cut), true) = (self.last, self.held.is_empty()) {
                        return Ok(End::Cut(cut));
                    }
                }
            }
        }
    }

    async fn carry_out(&mut self, order: Order) -> io::Result<Option<End>> {
        match order {
            Order::Cut(cut) => Ok(Some(End::Cut(cut))),
            Order::HalfClose(direction) if direction == self.direction => {
                self.to.shutdown().await?;
                Ok(Some(End::Closed))
            }
            Order::Garbage(direction, bytes) if direction == self.direction => {
                let mut random = Random::new(bytes as u64);
                let garbage: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
                self.to.write_all(&garbage).await?;
                Ok(None)
            }
            Order::HalfClose(_) | Order::Garbage(..) => Ok(None),
        }
    }
}

/// Writes some of `bytes` at `until`. Dropped before its end, it has written nothing.
async fn write(to: &mut WriteHalf<'_>, bytes: &[u8], until: Instant) -> io::Result<usize> {
    if until > Instant::now() {
        sleep_until(until).await;
    }
    to.write(bytes).await
}

/// Listens at `address`, where a listener of ours may have been a moment ago.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let give_up = Instant::now() + PATIENCE;
    loop {
        match tokio::net::TcpListener::bind(address).await {
            // Somebody's outgoing connection has got the port for a moment.
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            bound => return bound,
        }
    }
}
