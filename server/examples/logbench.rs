#![allow(missing_docs, clippy::all)]
use bytes::{Bytes, BytesMut};
use flowmesh_proto::wire::encode_event;
use flowmesh_server::{
    commit::{Committer, Sink},
    disk::{Disk, File, FileSystem},
    resource::{ResourceKind, ResourceName},
    streams::{LogOptions, StreamLog},
};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

struct Raw {
    file: Arc<dyn File>,
    pos: u64,
    buf: Vec<u8>,
}
type RawOp = (Vec<Bytes>, oneshot::Sender<u64>);
impl Sink for Raw {
    type Op = RawOp;
    fn run(&mut self, batch: &mut Vec<RawOp>) {
        if batch.is_empty() {
            return;
        }
        self.buf.clear();
        for (events, _) in batch.iter() {
            for e in events {
                self.buf.extend_from_slice(&(e.len() as u32).to_le_bytes());
                self.buf.extend_from_slice(&crc32c::crc32c(e).to_le_bytes());
                self.buf.extend_from_slice(&[0; 16]);
                self.buf.extend_from_slice(e);
            }
        }
        self.file.write_all_at(&self.buf, self.pos).unwrap();
        self.file.sync_data().unwrap();
        self.pos += self.buf.len() as u64;
        for (_, r) in batch.drain(..) {
            let _ = r.send(self.pos);
        }
    }
    fn recover(&mut self) {}
}
#[derive(Clone)]
enum Target {
    Raw(Arc<Committer<Raw>>),
    Log(Arc<StreamLog>),
}

async fn drive(t: Target, writers: usize, streams: usize, batch: usize, secs: f64) -> (f64, u64, u64) {
    let mut payload = vec![0u8; 256];
    for (i, b) in payload.iter_mut().enumerate() {
        *b = (i * 7) as u8;
    }
    let mut o = BytesMut::new();
    encode_event(&mut o, &payload, std::iter::empty());
    let event = o.freeze();
    let start = Instant::now();
    let warm = start + Duration::from_secs_f64(secs * 0.1);
    let end = start + Duration::from_secs_f64(secs);
    let mut tasks = vec![];
    for w in 0..writers {
        let t = t.clone();
        let event = event.clone();
        let name = ResourceName::new("t", "n", ResourceKind::Stream, &format!("s{}", w % streams));
        tasks.push(tokio::spawn(async move {
            let mut lat = vec![];
            loop {
                let a = Instant::now();
                let events = vec![event.clone(); batch];
                match &t {
                    Target::Raw(c) => {
                        let (tx, rx) = oneshot::channel();
                        c.submit((events, tx)).unwrap();
                        rx.await.unwrap();
                    }
                    Target::Log(l) => {
                        l.append(&name, events).await.unwrap();
                    }
                }
                let b = Instant::now();
                if b > end {
                    break lat;
                }
                if a > warm {
                    lat.push((b - a).as_nanos() as u64 / 1000);
                }
            }
        }));
    }
    let mut all = vec![];
    for t in tasks {
        all.extend(t.await.unwrap());
    }
    all.sort_unstable();
    (all.len() as f64 * batch as f64 / (secs * 0.9), all[all.len() / 2], all[all.len() * 99 / 100])
}
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let dir = Path::new(&dir);
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let secs = 1.5;
    let cells = [(1, 1, 1), (16, 1, 1), (256, 1, 1), (1, 1, 1000), (16, 16, 1), (256, 256, 1)];
    let mut res: Vec<Vec<[(f64, u64, u64); 2]>> = vec![vec![]; cells.len()];
    for _ in 0..3 {
        for (i, &(w, s, b)) in cells.iter().enumerate() {
            let _ = std::fs::remove_dir_all(dir);
            std::fs::create_dir(dir).unwrap();
            let file = FileSystem.create(&dir.join("raw")).unwrap();
            let size = 3u64 << 30;
            file.allocate(size).unwrap();
            let z = if b > 1 { 2 << 30 } else { 512 << 20 };
            file.write_zeros(0, z).unwrap();
            file.sync_data().unwrap();
            let raw = Arc::new(Committer::start("raw", Raw { file, pos: 0, buf: vec![] }).unwrap());
            let r = rt.block_on(drive(Target::Raw(raw), w, s, b, secs));
            let _ = std::fs::remove_dir_all(dir);
            std::fs::create_dir(dir).unwrap();
            unsafe { libc::sync() };
            let log = Arc::new(
                StreamLog::open(Arc::new(FileSystem), &dir.join("log"), LogOptions::default()).unwrap(),
            );
            let l = rt.block_on(drive(Target::Log(log.clone()), w, s, b, secs));
            let t = Instant::now();
            log.settle();
            let settle = t.elapsed();
            res[i].push([r, l]);
            println!(
                "{:?} raw {:.0} ({}/{})  log {:.0} ({}/{})  ratio {:.2} settle {:?}",
                (w, s, b),
                r.0,
                r.1,
                r.2,
                l.0,
                l.1,
                l.2,
                l.0 / r.0,
                settle
            );
        }
    }
    for (i, c) in cells.iter().enumerate() {
        let mut x: Vec<f64> = res[i].iter().map(|[r, l]| l.0 / r.0).collect();
        x.sort_by(f64::total_cmp);
        println!("{c:?} median ratio {:.2}", x[1]);
    }
}
