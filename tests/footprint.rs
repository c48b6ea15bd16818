//! What many idle subscriptions cost; alone in its process, whose memory it weighs.

use flowmesh::client::{Client, ClientOptions, Progress, SubscribeOptions};

const MANY: usize = 2_000;

/// Client and engine together. Measured are some 10 KiB; what a change adds by mistake, a buffer for
/// each or the call's whole state, is more than the rest.
const MOST_BYTES_EACH: usize = 20 << 10;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the memory's line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10
}

#[test]
fn idle_subscriptions_are_small() {
    let options = ClientOptions { endpoint: Some("embedded:".into()), ..ClientOptions::default() };
    let client = Client::open(options).expect("opens");
    let stream = client.stream("t", "n", "s").expect("names");
    let (mut batch, mut subscriptions, mut before) = (Vec::new(), Vec::new(), 0);
    for i in 0..=MANY {
        let options = SubscribeOptions { consumer_group: format!("g{i}"), ..SubscribeOptions::default() };
        let subscription = stream.subscribe(options).expect("subscribes");
        let connected = client.wait(subscription.next_batch(&mut batch));
        assert!(matches!(connected, Ok(Progress::Connected(_))), "{connected:?}");
        subscriptions.push(subscription);
        if i == 0 {
            before = resident();
        }
    }
    let each = (resident() - before) / MANY;
    println!("{each} bytes each");
    assert!(each <= MOST_BYTES_EACH, "{each} bytes each");
}
