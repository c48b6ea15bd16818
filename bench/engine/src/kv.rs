//! KV set, get and list.

use flowmesh_server::{FsyncPolicy, resource::ResourceKind};
use tokio::runtime::Runtime;

use crate::{
    Settings, drive,
    measure::{Sample, Table, grouped},
    store::{self, Scratch},
};

const LISTED: usize = 1000;

/// Figures without a goal: sets are durable, gets and lists read what is stored.
pub fn run(settings: &Settings, runtime: &Runtime) {
    let scratch = Scratch::new(&settings.dir);
    let dir = scratch.join("kv");
    let kv_store = store::name(ResourceKind::Kv, "values");
    let keys = settings.keys;
    let loading = store::open(&dir, FsyncPolicy::None);
    let (kv, name) = (loading.kv.clone(), kv_store.clone());
    drive::load(runtime, 256, keys, move |i| {
        let (kv, name) = (kv.clone(), name.clone());
        async move { kv.set(&name, &key(i), store::payload(0), 0).await.expect("a value is stored") }
    });
    loading.close();

    let engine = store::open(&dir, FsyncPolicy::Always);
    let table = Table::new(
        &format!("KV, {} keys, 256 B: operations/s (p50 / p99 us)", grouped(keys as f64)),
        &["operation", "1 caller", "16 callers"],
    );
    for operation in ["set", "get", "list 1000"] {
        let cells = [1, 16].map(|callers| {
            let rounds: Vec<_> = (0..settings.rounds)
                .map(|_| {
                    let (kv, name) = (engine.kv.clone(), kv_store.clone());
                    drive::repeat(runtime, callers, 1, settings.length(), move |caller, turn| {
                        let (kv, name) = (kv.clone(), name.clone());
                        let i = (caller * 104_729 + turn).wrapping_mul(7_919_017) % keys;
                        async move {
                            match operation {
                                "set" => kv
                                    .set(&name, &key(i), store::payload(1), 0)
                                    .await
                                    .expect("a value is stored"),
                                "get" => {
                                    let value = kv.get(&name, &key(i)).await.expect("the store can be read");
                                    assert_eq!(value.expect("the key was set").len(), store::PAYLOAD);
                                }
                                _ => {
                                    let found =
                                        kv.list_keys(&name, &prefix(i)).await.expect("the store can be read");
                                    assert!(found.len() <= LISTED, "a prefix covers {LISTED} keys");
                                }
                            }
                        }
                    })
                })
                .collect();
            Sample::median(&rounds).to_string()
        });
        let [one, many] = cells;
        table.row(&[operation.into(), one, many]);
    }
}

fn key(i: usize) -> String {
    format!("key{i:08}")
}

/// What the keys of one thousand have in common.
fn prefix(i: usize) -> String {
    format!("key{:05}", i / LISTED)
}
