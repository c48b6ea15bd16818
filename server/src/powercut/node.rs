//! One file of the lying disk: what programs see, what is on the platter, and every step between.

use std::collections::BTreeMap;

use super::random::Random;

/// What the system writes back as a whole, and what a disk writes as a whole.
pub const PAGE: usize = 4096;
const SECTOR: usize = 512;
/// Versions of a page that are kept between two syncs.
const VERSIONS: usize = 8;

/// A file.
#[derive(Default, Clone)]
pub struct Node {
    /// What reads see.
    cache: Vec<u8>,
    /// What is on the platter for certain.
    durable: Vec<u8>,
    /// Pages written since the last sync, each with what it held after each write.
    pages: BTreeMap<usize, Vec<(u64, Vec<u8>)>>,
    /// Lengths since the last sync.
    lengths: Vec<Length>,
}

#[derive(Clone, Copy)]
struct Length {
    when: u64,
    len: usize,
    /// It cut the file: pages written before and after do not mix.
    cut: bool,
}

/// What a power cut makes of writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub enum Mood {
    /// None of them is there.
    Forgetful,
    /// All are, also those behind a missing one in other moods.
    Eager,
    /// In the order in which they were made, up to a point in time.
    Ordered(u64),
    /// Each page by itself: any version of it or none.
    Reordered,
    /// The same, and pages are mixed of old and new sectors.
    Torn,
}

impl Mood {
    pub fn draw(random: &mut Random, now: u64) -> Self {
        match random.below(8) {
            0 => Self::Forgetful,
            1 => Self::Eager,
            2 => Self::Ordered(now.saturating_sub(random.below(40) as u64)),
            3..=5 => Self::Reordered,
            _ => Self::Torn,
        }
    }
}

impl Node {
    /// A file that is on the platter as a whole.
    pub fn stored(content: Vec<u8>) -> Self {
        Self { cache: content.clone(), durable: content, ..Self::default() }
    }

    /// Whether what is read is on the platter.
    pub fn is_stored(&self) -> bool {
        self.cache == self.durable
    }

    pub fn content(&self) -> &[u8] {
        &self.cache
    }

    pub fn write(&mut self, data: &[u8], at: usize, when: u64) {
        let end = at + data.len();
        if end > self.cache.len() {
            self.set_len(end, when);
        }
        self.cache[at..end].copy_from_slice(data);
        for page in at / PAGE..end.div_ceil(PAGE) {
            let versions = self.pages.entry(page).or_default();
            if versions.len() == VERSIONS {
                versions.remove(0);
            }
            versions.push((when, slice(&self.cache, page).to_vec()));
        }
    }

    pub fn set_len(&mut self, len: usize, when: u64) {
        let cut = len < self.cache.len();
        if len != self.cache.len() {
            self.lengths.push(Length { when, len, cut });
        }
        self.cache.resize(len, 0);
    }

    pub fn sync(&mut self) {
        self.sync_lengths();
        for page in std::mem::take(&mut self.pages).into_keys() {
            put(&mut self.durable, &self.cache, page);
        }
    }

    fn sync_lengths(&mut self) {
        for length in std::mem::take(&mut self.lengths) {
            self.durable.resize(length.len, 0);
        }
    }

    /// A sync that fails, as systems do it: some pages reached the platter, the others did not and
    /// are forgotten to be dirty; the next sync succeeds without them. They can still be read.
    pub fn fail_sync(&mut self, random: &mut Random) {
        if random.chance(50) {
            self.sync_lengths();
        }
        for page in std::mem::take(&mut self.pages).into_keys() {
            if random.chance(50) {
                put(&mut self.durable, &self.cache, page);
            }
        }
    }

    /// What is there after a power cut.
    pub fn after_cut(&self, mood: Mood, random: &mut Random) -> Vec<u8> {
        let mut image = self.durable.clone();
        let known = match mood {
            Mood::Forgetful => 0,
            Mood::Eager => self.lengths.len(),
            Mood::Ordered(until) => self.lengths.iter().filter(|length| length.when <= until).count(),
            Mood::Reordered | Mood::Torn => random.below(self.lengths.len() + 1),
        };
        let mut since = 0;
        for length in self.lengths[..known].iter().filter(|length| length.cut) {
            image.resize(length.len, 0);
            since = length.when;
        }
        let until = self.lengths[known..].iter().find(|length| length.cut).map_or(u64::MAX, |cut| cut.when);
        let len = self.lengths[..known].last().map_or(self.durable.len(), |length| length.len);
        image.resize(len, 0);
        for (&page, versions) in &self.pages {
            let eligible: Vec<&Vec<u8>> = versions
                .iter()
                .filter(|(when, _)| (since..until).contains(when))
                .filter(|(when, _)| !matches!(mood, Mood::Ordered(until) if *when > until))
                .map(|(_, content)| content)
                .collect();
            let choose = |random: &mut Random| match mood {
                Mood::Forgetful => None,
                Mood::Eager | Mood::Ordered(_) => eligible.last(),
                Mood::Reordered | Mood::Torn => eligible.get(random.below(eligible.len() + 1)),
            };
            let whole = choose(random);
            for sector in 0..PAGE / SECTOR {
                let chosen = if matches!(mood, Mood::Torn) { choose(random) } else { whole };
                let (from, at) = (sector * SECTOR, page * PAGE + sector * SECTOR);
                let Some(content) = chosen else { continue };
                let n = content.len().min(from + SECTOR).min(from + len.saturating_sub(at));
                if n > from {
                    image[at..at + n - from].copy_from_slice(&content[from..n]);
                }
            }
        }
        image
    }
}

fn slice(bytes: &[u8], page: usize) -> &[u8] {
    let from = (page * PAGE).min(bytes.len());
    &bytes[from..(from + PAGE).min(bytes.len())]
}

/// Copies a page as far as both are long enough.
fn put(to: &mut [u8], from: &[u8], page: usize) {
    let content = slice(from, page);
    let at = page * PAGE;
    if at < to.len() {
        let n = content.len().min(to.len() - at);
        to[at..at + n].copy_from_slice(&content[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_synced_stays_and_what_is_not_comes_in_any_mixture() {
        let mut node = Node::default();
        node.write(&[1; 3 * PAGE], 0, 1);
        node.sync();
        node.write(&[2; 2 * PAGE], 0, 2);
        node.write(&[3; 2 * PAGE], 0, 3);
        let mut random = Random::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let image = node.after_cut(Mood::Reordered, &mut random);
            assert_eq!(image.len(), 3 * PAGE);
            assert!(image[..PAGE].iter().all(|b| *b == image[0]), "a page is whole");
            assert_eq!(image[2 * PAGE..], [1; PAGE]);
            seen.insert((image[0], image[PAGE]));
        }
        assert_eq!(seen.len(), 9, "every mixture of versions");
        let torn = (0..500).any(|_| {
            let image = node.after_cut(Mood::Torn, &mut random);
            assert!(image.chunks(SECTOR).all(|sector| sector.iter().all(|b| *b == sector[0])));
            image[..PAGE].iter().any(|b| *b != image[0])
        });
        assert!(torn);
        assert_eq!(node.after_cut(Mood::Forgetful, &mut random), [1; 3 * PAGE]);
        assert_eq!(node.after_cut(Mood::Eager, &mut random), node.content());
    }

    #[test]
    fn after_a_cut_file_what_was_before_does_not_come_back() {
        let mut node = Node::default();
        node.write(&[1; 2 * PAGE], 0, 1);
        node.sync();
        node.set_len(10, 2);
        node.set_len(2 * PAGE, 3);
        node.write(&[2; PAGE], PAGE, 4);
        let mut random = Random::new(2);
        for _ in 0..500 {
            let image = node.after_cut(Mood::Reordered, &mut random);
            let before = image == [1; 2 * PAGE];
            let after = image[..10] == [1; 10] && image[10..PAGE.min(image.len())].iter().all(|b| *b == 0);
            assert!(before || after);
        }
    }

    #[test]
    fn a_failed_sync_forgets_pages_for_good() {
        let mut random = Random::new(3);
        let lost = (0..100).filter(|_| {
            let mut node = Node::default();
            node.write(&[1; PAGE], 0, 1);
            node.sync();
            node.write(&[2; PAGE], 0, 2);
            node.fail_sync(&mut random);
            node.sync();
            assert_eq!(node.content(), [2; PAGE]);
            node.after_cut(Mood::Eager, &mut random) == [1; PAGE]
        });
        assert!((20..80).contains(&lost.count()));
    }
}
