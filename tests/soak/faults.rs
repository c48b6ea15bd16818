//! What goes wrong, at random and reproducibly.

use std::{fmt, time::Duration};

use flowmesh_fault_proxy::{Proxy, random::Random};

use crate::{host::DiskError, process::Server};

pub struct Faults {
    random: Random,
    connections: u64,
    kills: u64,
    stops: u64,
    /// Times the disk began to fail; each is several calls.
    disks: u64,
    jumps: u64,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), connections: 0, kills: 0, stops: 0, disks: 0, jumps: 0 }
    }

    /// How long until the next one.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(50 + self.random.below(1500))
    }

    /// The next fault. One of the connection may last until a later one ends it.
    pub fn next(&mut self, proxy: &Proxy, server: &mut Server) {
        let storm = format!("storm {} 200000", self.random.below(1 << 32));
        let line = match self.random.below(24) {
            0 => {
                self.kills += 1;
                return server.restart("-KILL");
            }
            1 => {
                self.stops += 1;
                return server.restart("-TERM");
            }
            2..=5 => "cut rst",
            6..=8 => "cut fin",
            9 => "half-close up",
            10 => "half-close down",
            // No garbage: TCP does not deliver any, and some would be a payload.
            11..=13 => "stall both",
            14 => "delay both 20",
            15 => "trickle both 700 1",
            16 => &storm,
            17 => "calm",
            18 | 19 => {
                self.disks += 1;
                let error =
                    if self.random.below(2) == 0 { DiskError::InputOutput } else { DiskError::NoSpace };
                return server.host().fail_writes(1 + self.random.below(8), error);
            }
            20 | 21 => {
                self.disks += 1;
                return server.host().fail_syncs(1 + self.random.below(8));
            }
            22 => {
                self.jumps += 1;
                let seconds = self.jump();
                return server.host().jump(seconds);
            }
            _ => "flow both",
        };
        self.connections += 1;
        proxy.tell(line).expect("a command");
    }

    /// By how many seconds the clock moves: a correction, or an hour ahead. One back would have every
    /// job wait for that long, and nobody here has the time.
    fn jump(&mut self) -> i64 {
        if self.random.below(4) == 0 { 3600 } else { self.random.below(41) as i64 - 20 }
    }

    /// No more of them.
    pub fn end(&mut self, proxy: &Proxy, server: &mut Server) {
        for line in ["calm", "flow both", "cut rst"] {
            proxy.tell(line).expect("a command");
        }
        self.stops += 1;
        server.restart("-TERM");
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, kills, stops, disks, jumps, .. } = self;
        write!(
            f,
            "{connections} faults of connections, {kills} kills and {stops} stops of the server, \
             {disks} times a failing disk, {jumps} jumps of the clock"
        )
    }
}
