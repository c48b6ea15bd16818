//! What goes wrong, at random and reproducibly.

use std::{fmt, time::Duration};

use flowmesh_fault_proxy::{Proxy, random::Random};

use crate::process::Server;

pub struct Faults {
    random: Random,
    connections: u64,
    kills: u64,
    stops: u64,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), connections: 0, kills: 0, stops: 0 }
    }

    /// How long until the next one.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(50 + self.random.below(1500))
    }

    /// The next fault. One of the connection may last until a later one ends it.
    pub fn next(&mut self, proxy: &Proxy, server: &mut Server) {
        let storm = format!("storm {} 200000", self.random.below(1 << 32));
        let line = match self.random.below(20) {
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
            _ => "flow both",
        };
        self.connections += 1;
        proxy.tell(line).expect("a command");
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
        let Self { connections, kills, stops, .. } = self;
        write!(f, "{connections} faults of connections, {kills} kills and {stops} stops of the server")
    }
}
