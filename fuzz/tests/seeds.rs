//! Every target on its seeds, and on changes of them: a few seconds of what `fuzz/run` does for
//! as long as it is let, without its tools. FLOWMESH_FUZZ_TRIES= multiplies the changes,
//! FLOWMESH_FUZZ_SEED= makes them others.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
};

use flowmesh_fuzz::{TARGETS, Target, target};

/// Panics of threads that no test joins.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
            usual(panic);
        }));
    });
}

fn seeds(of: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(of.name);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("a directory of seeds")
        .map(|entry| entry.expect("a seed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", of.name);
    files.into_iter().map(|file| (file.clone(), fs::read(file).expect("a seed can be read"))).collect()
}

/// Numbers that are the same every time (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n.max(1)
    }

    /// A few changes of the kinds that find borders.
    fn change(&mut self, data: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(data.len());
            match self.below(6) {
                0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                1 if !data.is_empty() => data[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 if !data.is_empty() => drop(data.remove(at)),
                3 => data.insert(at, self.below(256) as u8),
                4 => data.truncate(at),
                _ => {
                    let from = self.below(other.len());
                    let to = from + self.below(other.len() - from);
                    data.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        data.truncate(4096);
    }
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn replay(name: &str) {
    watch_panics();
    let target = target(name).expect("a target");
    let seeds = seeds(target);
    for (file, seed) in &seeds {
        println!("{}", file.display());
        (target.run)(seed);
    }
    let mut random = Random(number("FLOWMESH_FUZZ_SEED", 1) | 1 << 63);
    for _ in 0..target.tries * number("FLOWMESH_FUZZ_TRIES", 1) as usize {
        let mut data = seeds[random.below(seeds.len())].1.clone();
        let other = random.below(seeds.len());
        random.change(&mut data, &seeds[other].1);
        // Told only when the test fails.
        println!("{data:?}");
        (target.run)(&data);
    }
    // The lock must be free again when this panics.
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(panics.is_empty(), "{panics:?}");
}

macro_rules! replays {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )+

        #[test]
        fn every_target_is_replayed() {
            assert!(TARGETS.iter().map(|target| target.name).eq([$(stringify!($name)),+]));
        }
    };
}

replays! { messages server client damage log tokens config flags texts calls }
