//! Memory that peers make the server hold: one budget, shared by all connections.
//!
//! Every connection has an account; what it holds is charged to it. While the sum is within the
//! budget nobody is bothered. When it passes it, connections that hold more than their share (the
//! budget divided by the number of those that hold anything) are asked to shed: first those that
//! have taken nothing for a second, and of them the one that holds the most. One that holds less
//! than its share never has to.
//!
//! Before it comes to that, when half of the budget is used, nothing is fetched for a subscriber
//! who could not take it at once, nor for one whose socket takes nothing ([`Account::room`]).

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::Notify;
use tonic::Status;

use super::{Alert, exhausted};

/// A connection that has let go of nothing for this long is slow, in milliseconds.
const SLOW: u64 = 1000;
/// Between two looks at who holds what, in milliseconds.
const PAUSE: u64 = 10;

/// The budget of a server.
pub struct Memory {
    max: usize,
    used: AtomicUsize,
    /// Connections that hold something.
    holders: AtomicUsize,
    /// By number.
    accounts: Mutex<HashMap<u64, Weak<Account>>>,
    next: AtomicU64,
    start: Instant,
    /// When connections were last looked at, in milliseconds since `start`.
    looked: AtomicU64,
    alert: Alert,
}

/// What one connection holds.
pub struct Account {
    memory: Arc<Memory>,
    number: u64,
    held: AtomicUsize,
    /// When it last let go of something, in milliseconds of the budget's clock.
    moved: AtomicU64,
    shedding: AtomicBool,
    shed: Arc<Notify>,
    /// Rung for one of those who wait for room, whenever something was let go.
    eased: Arc<Notify>,
    /// The socket took nothing when it was last written to.
    blocked: AtomicBool,
}

impl Memory {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            used: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            accounts: Mutex::default(),
            next: AtomicU64::new(0),
            start: Instant::now(),
            looked: AtomicU64::new(0),
            alert: Alert::default(),
        }
    }

    /// An account for a new connection.
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        let account = Arc::new(Account {
            memory: self.clone(),
            number: self.next.fetch_add(1, Relaxed),
            held: AtomicUsize::new(0),
            moved: AtomicU64::new(self.now()),
            shedding: AtomicBool::new(false),
            shed: Arc::default(),
            eased: Arc::default(),
            blocked: AtomicBool::new(false),
        });
        self.accounts().insert(account.number, Arc::downgrade(&account));
        account
    }

    /// Whether what is held is closer to the budget than it should be.
    pub fn is_short(&self) -> bool {
        self.used.load(Relaxed) > self.max / 2
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<u64, Weak<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts where a first look is not too early.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + PAUSE
    }

    /// Asks connections to shed until those that were not asked fit the budget.
    fn reclaim(&self) {
        // Under pressure every charge comes here; a look around now and then is enough.
        let now = self.now();
        let last = self.looked.load(Relaxed);
        if now < last + PAUSE || self.looked.compare_exchange(last, now, Relaxed, Relaxed).is_err() {
            return;
        }
        let accounts: Vec<_> = self.accounts().values().filter_map(Weak::upgrade).collect();
        let mut holders: Vec<_> =
            accounts.iter().filter(|a| a.held() > 0 && !a.shedding.load(SeqCst)).collect();
        loop {
            let held: usize = holders.iter().map(|a| a.held()).sum();
            if held <= self.max {
                return;
            }
            let share = self.max / holders.len();
            let above = holders.iter().enumerate().filter(|(_, a)| a.held() > share);
            let slow = |a: &Account| a.moved.load(Relaxed) + SLOW <= now;
            let Some((worst, _)) = above.max_by_key(|(_, a)| (slow(a), a.held())) else { return };
            let worst = holders.swap_remove(worst);
            worst.shedding.store(true, SeqCst);
            worst.shed.notify_waiters();
            self.alert.raise(format_args!(
                "a connection that holds {} bytes has to shed them: the budget of {} is used up \
                 (--max-buffered-bytes)",
                worst.held(),
                self.max
            ));
        }
    }
}

impl Account {
    /// Takes `bytes` on.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let mut charge = Charge { account: self.clone(), bytes: 0 };
        charge.add(bytes);
        charge
    }

    /// `data`, charged until the last of it is gone.
    pub fn hold(self: &Arc<Self>, data: Bytes) -> Bytes {
        let _charge = self.charge(data.len());
        Bytes::from_owner(Held { data, _charge })
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Whether nothing of it was let go for a while.
    pub fn stands_still(&self) -> bool {
        self.moved.load(Relaxed) + SLOW / 2 <= self.memory.now()
    }

    /// Whether more may be put into the connection's buffers.
    fn has_room(&self) -> bool {
        let share = self.memory.max / self.memory.holders.load(Relaxed).max(1);
        !self.is_short() || !self.is_blocked() || self.held() < share / 2
    }

    /// Resolves when more may be put into the connection's buffers; `None` when it may at once.
    pub fn room(self: &Arc<Self>) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if self.has_room() {
            return None;
        }
        let account = self.clone();
        Some(Box::pin(async move {
            while !account.has_room() {
                account.eased.notified().await;
            }
            // There may be room for the next one too.
            account.eased.notify_one();
        }))
    }

    /// Tells whether the socket takes what is written.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
    }

    /// Whether the connection takes nothing at all, not only nothing of some call.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Whether it has to shed, and cannot: more calls would only add to what it holds.
    pub fn is_stuck(&self) -> bool {
        self.shedding.load(SeqCst) && self.is_blocked()
    }

    /// Whether memory is short, so that nothing should be held in advance.
    pub fn is_short(&self) -> bool {
        self.memory.is_short()
    }

    /// Resolves when the connection has to shed, also when it has to already.
    pub fn to_shed(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let account = self.clone();
        async move {
            let mut asked = pin!(account.shed.clone().notified_owned());
            asked.as_mut().enable();
            if !account.shedding.load(SeqCst) {
                asked.await;
            }
        }
    }

    /// The connection has shed what it can.
    pub fn has_shed(&self) {
        self.shedding.store(false, SeqCst);
    }

    /// How the calls end whose bytes are shed.
    pub fn refusal(&self) -> Status {
        let what = "the server holds too much for peers that do not read or do not finish their requests";
        exhausted(what, "--max-buffered-bytes", self.memory.max)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.memory.accounts().remove(&self.number);
    }
}

struct Held {
    data: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Bytes held, until it is dropped.
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// How many.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more on.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let account = &self.account;
        if bytes > 0 && account.held.fetch_add(bytes, Relaxed) == 0 {
            account.memory.holders.fetch_add(1, Relaxed);
        }
        let before = account.memory.used.fetch_add(bytes, Relaxed);
        if before + bytes > account.memory.max {
            account.memory.reclaim();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let account = &self.account;
        if self.bytes > 0 && account.held.fetch_sub(self.bytes, Relaxed) == self.bytes {
            account.memory.holders.fetch_sub(1, Relaxed);
        }
        account.memory.used.fetch_sub(self.bytes, Relaxed);
        account.moved.store(account.memory.now(), Relaxed);
        account.eased.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheds(account: &Account) -> bool {
        account.shedding.load(SeqCst)
    }

    #[test]
    fn who_holds_the_most_sheds_and_who_holds_its_share_does_not() {
        let memory = Arc::new(Memory::new(100));
        let [a, b, c] = [(); 3].map(|()| memory.account());
        let _of_a = a.charge(30);
        let of_b = b.charge(45);
        let mut of_c = c.charge(25);
        assert!(![&a, &b, &c].into_iter().any(|x| sheds(x)));
        of_c.add(1);
        assert_eq!([&a, &b, &c].map(|x| sheds(x)), [false, true, false]);
        of_c.add(20);
        assert_eq!([&a, &b, &c].map(|x| sheds(x)), [false, true, false], "without b there is room");
        drop(of_b);
        b.has_shed();
        assert_eq!(memory.used.load(Relaxed), 76);
        assert_eq!(b.held(), 0);
    }

    #[tokio::test]
    async fn who_has_to_shed_is_told_before_or_after_it_asks() {
        let memory = Arc::new(Memory::new(10));
        let account = memory.account();
        let waiting = tokio::spawn(account.to_shed());
        tokio::task::yield_now().await;
        let _charge = account.charge(11);
        waiting.await.unwrap();
        account.to_shed().await;
    }

    #[tokio::test]
    async fn who_holds_half_its_share_waits_for_room_when_memory_is_short() {
        let memory = Arc::new(Memory::new(100));
        let [a, b] = [(); 2].map(|()| memory.account());
        let first = a.charge(40);
        a.set_blocked(true);
        b.set_blocked(true);
        assert!(a.room().is_none(), "half of the budget is free");
        let _second = b.charge(20);
        assert!(b.room().is_none(), "it holds less than half its share");
        let waiting = [a.room().unwrap(), a.room().unwrap()].map(tokio::spawn);
        tokio::task::yield_now().await;
        drop(first);
        for waiting in waiting {
            waiting.await.unwrap();
        }
    }

    #[test]
    fn connections_that_are_gone_leave_nothing() {
        let memory = Arc::new(Memory::new(10));
        drop(memory.account().charge(9));
        assert!(memory.accounts().is_empty());
        assert_eq!(memory.used.load(Relaxed), 0);
    }
}
