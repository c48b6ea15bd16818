//! Random appends, faults, seals and restarts against the simplest model there is.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use flowmesh_server::streams::{LogOptions, StreamLog};
use proptest::prelude::*;

use crate::{event, faults::Faulty, name, payloads, small};

#[derive(Debug, Clone)]
enum Step {
    Append { stream: u8, events: usize, size: usize },
    Create { stream: u8 },
    FailSync,
    FailWrite,
    Settle,
    Reopen,
    Page { stream: u8, offset: usize, messages: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..4u8, 1..20usize, 1..600usize).prop_map(|(stream, events, size)| Step::Append { stream, events, size }),
        1 => (0..6u8).prop_map(|stream| Step::Create { stream }),
        1 => Just(Step::FailSync),
        1 => Just(Step::FailWrite),
        1 => Just(Step::Settle),
        2 => Just(Step::Reopen),
        6 => (0..4u8, 0..400usize, 1..60usize)
            .prop_map(|(stream, offset, messages)| Step::Page { stream, offset, messages }),
    ]
}

fn start(disk: &Arc<Faulty>) -> StreamLog {
    let options = LogOptions { largest_segment: 32 << 10, ..small() };
    StreamLog::open(disk.clone(), Path::new("log"), options).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_list_does(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disk = Arc::new(Faulty::default());
        let mut log = start(&disk);
        let mut model: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { stream, events, size } => {
                    let new: Vec<Vec<u8>> = (0..events).map(|k| vec![(i + k) as u8; size]).collect();
                    let batch = new.iter().map(|p| event(p)).collect();
                    match runtime.block_on(log.append(&name(&stream.to_string()), batch)) {
                        Ok(first) => {
                            let stored = model.entry(stream).or_default();
                            prop_assert_eq!(first, stored.len() as i64);
                            stored.extend(new);
                        }
                        // Only faults that were asked for, and the keeper may take them instead.
                        Err(e) => prop_assert!(e.message().contains("input/output error"), "{}", e),
                    }
                }
                Step::Create { stream } => {
                    if runtime.block_on(log.follow(&name(&stream.to_string()))).is_ok() {
                        model.entry(stream).or_default();
                    }
                }
                Step::FailSync => disk.control.failing_syncs.store(1, SeqCst),
                Step::FailWrite => disk.control.failing_writes.store(1, SeqCst),
                Step::Settle => log.settle(),
                Step::Reopen => {
                    log.close();
                    disk.control.failing_syncs.store(0, SeqCst);
                    disk.control.failing_writes.store(0, SeqCst);
                    log = start(&disk);
                    prop_assert!(log.damage().is_empty(), "{:?}", log.damage());
                }
                Step::Page { stream, offset, messages } => {
                    let Some(stored) = model.get(&stream) else { continue };
                    let page = log.read(&name(&stream.to_string()), offset as i64, messages, 1 << 20).unwrap();
                    let wanted = stored.iter().skip(offset).take(messages);
                    prop_assert_eq!(page.len(), wanted.len());
                    for (message, payload) in page.iter().zip(wanted) {
                        let view = flowmesh_proto::wire::MessageView::parse(message).unwrap();
                        prop_assert_eq!(view.payload, &payload[..]);
                    }
                }
            }
        }
        for (stream, stored) in &model {
            prop_assert_eq!(&payloads(&log, &name(&stream.to_string())), stored);
        }
    }
}
