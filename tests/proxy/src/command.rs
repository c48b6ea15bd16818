//! What the proxy can be told, as lines of text: the same words for Rust tests, C tests and
//! people at a terminal.
//!
//! ```text
//! delay DIRECTION MS          every piece is held for so long
//! trickle DIRECTION BYTES MS  pieces of at most so many bytes, one every MS
//! stall DIRECTION             nothing is read from the sender: its buffers fill up
//! flow DIRECTION              back to normal
//! cut rst|fin                 ends every open connection
//! cut rst|fin after DIRECTION BYTES
//!                             ends the connection that carries the last of so many more bytes
//! storm SEED BYTES            again and again: cut, by rst or fin, after 1 to BYTES more bytes
//! calm                        no more cuts by count
//! half-close DIRECTION        ends that direction of every open connection, not the other
//! garbage DIRECTION BYTES     puts bytes without sense between those of every open connection
//! refuse                      closes the listening socket: connecting fails
//! accept                      opens it again, at the same address
//! upstream HOST:PORT          where new connections are to lead
//! await accepted|closed N     replies when so many connections were, counted from the start
//! await up|down BYTES         replies when so many bytes have passed
//! status                      replies with the counts
//! ```
//! DIRECTION is `up` (client to server), `down` or `both`.

use std::{str::FromStr, time::Duration};

/// Which way bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both peers see a reset; what was under way is lost.
    Rst,
    /// Both peers see the end of the stream.
    Fin,
}

/// How bytes of one direction pass, until told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub stalled: bool,
    pub delay: Duration,
    /// The most bytes of one piece.
    pub piece: usize,
}

impl Default for Rule {
    fn default() -> Self {
        Self { stalled: false, delay: Duration::ZERO, piece: 64 << 10 }
    }
}

/// What every open connection does at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Cut(Cut),
    HalfClose(Direction),
    Garbage(Direction, usize),
}

/// What is counted from the start of the proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    Accepted,
    Closed,
    Up,
    Down,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Rule(Vec<Direction>, Rule),
    Order(Vec<Order>),
    CutAfter(Cut, Direction, u64),
    Storm { seed: u64, bytes: u64 },
    Calm,
    Refuse,
    Accept,
    Upstream(String),
    Await(Count, u64),
    Status,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words[..] {
            ["delay", direction, ms] => {
                Self::Rule(directions(direction)?, Rule { delay: millis(ms)?, ..Rule::default() })
            }
            ["trickle", direction, bytes, ms] => {
                let piece = number(bytes)?.max(1) as usize;
                Self::Rule(directions(direction)?, Rule { delay: millis(ms)?, piece, stalled: false })
            }
            ["stall", direction] => {
                Self::Rule(directions(direction)?, Rule { stalled: true, ..Rule::default() })
            }
            ["flow", direction] => Self::Rule(directions(direction)?, Rule::default()),
            ["cut", how] => Self::Order(vec![Order::Cut(cut(how)?)]),
            ["cut", how, "after", direction, bytes] => match directions(direction)?[..] {
                [one] => Self::CutAfter(cut(how)?, one, number(bytes)?),
                _ => return Err("cut after: up or down, not both".into()),
            },
            ["storm", seed, bytes] => Self::Storm { seed: number(seed)?, bytes: number(bytes)?.max(1) },
            ["calm"] => Self::Calm,
            ["half-close", direction] => {
                Self::Order(directions(direction)?.into_iter().map(Order::HalfClose).collect())
            }
            ["garbage", direction, bytes] => {
                let bytes = number(bytes)? as usize;
                let order = |direction| Order::Garbage(direction, bytes);
                Self::Order(directions(direction)?.into_iter().map(order).collect())
            }
            ["refuse"] => Self::Refuse,
            ["accept"] => Self::Accept,
            ["upstream", address] => Self::Upstream(address.to_owned()),
            ["await", "accepted", count] => Self::Await(Count::Accepted, number(count)?),
            ["await", "closed", count] => Self::Await(Count::Closed, number(count)?),
            ["await", "up", bytes] => Self::Await(Count::Up, number(bytes)?),
            ["await", "down", bytes] => Self::Await(Count::Down, number(bytes)?),
            ["status"] => Self::Status,
            _ => return Err(format!("not a command: `{line}`")),
        })
    }
}

fn directions(word: &str) -> Result<Vec<Direction>, String> {
    match word {
        "up" => Ok(vec![Direction::Up]),
        "down" => Ok(vec![Direction::Down]),
        "both" => Ok(vec![Direction::Up, Direction::Down]),
        _ => Err(format!("not a direction: `{word}`")),
    }
}

fn cut(word: &str) -> Result<Cut, String> {
    match word {
        "rst" => Ok(Cut::Rst),
        "fin" => Ok(Cut::Fin),
        _ => Err(format!("cut by rst or fin, not `{word}`")),
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("not a number: `{word}`"))
}

fn millis(word: &str) -> Result<Duration, String> {
    number(word).map(Duration::from_millis)
}
