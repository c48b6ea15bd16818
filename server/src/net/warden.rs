//! The time limits of one connection, and what it does that no connection may.
//!
//! [`Warden`] decides; the connection's task carries it out. It has one timer, set to the earliest
//! of what may have to happen; what moves that into the future is noticed when it fires.

use std::{pin::Pin, sync::Arc, task::Context, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

use super::frames::Gauge;
use crate::limits::{Account, Ledger};

/// How long a peer has to answer whether it lives, or as long as it may be silent if that is less.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a connection that was told to go may take; one that still has calls gets it again.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long the last words to one that misbehaved may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a connection may take to let go of memory when it is asked to.
const SHEDDING: Duration = Duration::from_secs(1);

/// What the connection has to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Stay,
    /// Ask the peer whether it lives.
    Ask,
    /// Tell the peer to go, and finish its calls.
    Leave,
    /// End with ENHANCE_YOUR_CALM.
    Calm,
    /// End without a word.
    Cut(&'static str),
}

/// Looks after one connection.
pub struct Warden {
    ledger: Arc<Ledger>,
    gauge: Gauge,
    account: Arc<Account>,
    timer: Pin<Box<Sleep>>,
    /// The peer must speak HTTP/2 by then.
    ready_by: Instant,
    /// Since when it has no call; `None` while it has.
    idle_since: Option<Instant>,
    /// When it was asked whether it lives.
    asked: Option<Instant>,
    /// It was told to calm down, and has nothing more to hear.
    calmed: bool,
    /// It was told to go, and must be gone by then.
    gone_by: Option<Instant>,
    /// It was asked to shed when it held so much, and has until then.
    shedding: Option<(usize, Instant)>,
    to_shed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Warden {
    pub fn new(ledger: Arc<Ledger>, gauge: Gauge, account: Arc<Account>, ready_by: Instant) -> Self {
        Self {
            gauge,
            timer: Box::pin(sleep_until(ready_by)),
            ready_by,
            idle_since: Some(Instant::now()),
            asked: None,
            calmed: false,
            gone_by: None,
            shedding: None,
            to_shed: Box::pin(account.to_shed()),
            account,
            ledger,
        }
    }

    /// The connection has been told to go for another reason.
    pub fn leaves(&mut self) {
        self.gone_by.get_or_insert_with(|| Instant::now() + FAREWELL);
        self.timer.as_mut().reset(Instant::now());
    }

    /// To be asked in every poll of the connection's task, when nothing else is left to do in it.
    pub fn poll(&mut self, cx: &mut Context<'_>, has_calls: bool) -> Order {
        match (has_calls, self.idle_since) {
            (true, Some(_)) => self.idle_since = None,
            (false, None) => self.idle_since = Some(Instant::now()),
            _ => {}
        }
        if !self.calmed && self.gauge.traffic().flood {
            self.ledger.floods.raise(
                "a connection was closed: it sent too many frames without content (--max-control-frames)",
            );
            return self.calm();
        }
        if self.shedding.is_none() && self.to_shed.as_mut().poll(cx).is_ready() {
            let until = Instant::now() + SHEDDING;
            self.shedding = Some((self.account.held(), until));
            self.timer.as_mut().reset(until);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let order = self.due(now, has_calls);
            let next = self.next(now);
            self.timer.as_mut().reset(next);
            if order != Order::Stay {
                return order;
            }
        }
        Order::Stay
    }

    /// What is due now.
    fn due(&mut self, now: Instant, has_calls: bool) -> Order {
        let limits = &self.ledger.limits;
        let (heard, settled) = {
            let traffic = self.gauge.traffic();
            (Instant::from_std(traffic.heard), traffic.settled)
        };
        if !settled && self.ready_by <= now {
            return Order::Cut("it was not ready for calls in time (--handshake-timeout)");
        }
        if let Some(gone_by) = self.gone_by
            && gone_by <= now
        {
            if !has_calls || self.calmed {
                return Order::Cut("it was told to go and did not");
            }
            self.gone_by = Some(now + FAREWELL);
        }
        if let Some((held, until)) = self.shedding
            && until <= now
        {
            self.shedding = None;
            if self.account.held() > held / 2 && self.account.stands_still() {
                return self.calm();
            }
            self.account.has_shed();
            self.to_shed = Box::pin(self.account.to_shed());
        }
        if self.gone_by.is_none()
            && let (Some(idle), Some(since)) = (limits.idle_timeout, self.idle_since)
            && since + idle <= now
        {
            self.gone_by = Some(now + FAREWELL);
            return Order::Leave;
        }
        match (limits.keepalive, self.asked) {
            (_, Some(asked)) if heard > asked => self.asked = None,
            (_, Some(asked)) if asked + self.answer_time() <= now => {
                return Order::Cut("its peer does not answer (--keepalive)");
            }
            (Some(silence), None) if settled && heard + silence <= now => {
                self.asked = Some(now);
                return Order::Ask;
            }
            _ => {}
        }
        Order::Stay
    }

    /// The earliest instant at which something can be due.
    fn next(&self, now: Instant) -> Instant {
        let limits = &self.ledger.limits;
        let traffic = self.gauge.traffic();
        let heard = Instant::from_std(traffic.heard);
        let alive_by = match self.asked {
            Some(asked) => Some(asked + self.answer_time()),
            // Before, there is nobody to ask.
            None => limits.keepalive.filter(|_| traffic.settled).map(|silence| heard + silence),
        };
        // One that has calls may have none a moment later.
        let idle_by = limits.idle_timeout.map(|idle| self.idle_since.unwrap_or(now) + idle);
        [
            (!traffic.settled).then_some(self.ready_by),
            self.gone_by,
            self.shedding.map(|(_, until)| until),
            alive_by,
            idle_by.filter(|_| self.gone_by.is_none()),
        ]
        .into_iter()
        .flatten()
        .min()
        // Far enough; nothing is due before it.
        .unwrap_or(now + Duration::from_secs(86_400))
    }

    fn answer_time(&self) -> Duration {
        self.ledger.limits.keepalive.map_or(ANSWER, |silence| silence.min(ANSWER))
    }

    fn calm(&mut self) -> Order {
        let until = Instant::now() + LAST_WORDS;
        self.calmed = true;
        self.gone_by = Some(until);
        self.timer.as_mut().reset(until);
        Order::Calm
    }
}
