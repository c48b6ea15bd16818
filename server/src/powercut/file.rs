//! The lying disk as the engine sees it: its files and directories.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk::{Change, Class, LyingDisk, fault, power_is_off},
    node::Node,
    random::Random,
};
use crate::disk::{Disk, File};

impl Disk for LyingDisk {
    fn await_turn(&self) {
        drop(self.turn());
    }

    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        let (mut state, fails) = self.step(Class::Name, dir)?;
        if fails {
            return Err(fault());
        }
        if state.names.contains_key(dir) {
            return Ok(false);
        }
        state.make(dir);
        Ok(true)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (state, fails) = self.step(Class::Read, dir)?;
        if fails {
            return Err(fault());
        }
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).map(name).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (mut state, fails) = self.step(Class::Name, path)?;
        if fails {
            return Err(fault());
        }
        let steps = state.steps;
        let id = match state.names.get(path).copied() {
            Some(id) => {
                if let Some(node) = state.nodes.get_mut(&id) {
                    node.set_len(0, steps);
                }
                id
            }
            None => state.make(path),
        };
        Ok(self.file(id, path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (state, fails) = self.step(Class::Read, path)?;
        if fails {
            return Err(fault());
        }
        match state.names.get(path) {
            Some(id) => Ok(self.file(*id, path)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, fails) = self.step(Class::Name, from)?;
        if fails {
            return Err(fault());
        }
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = Change::Renamed(from.to_owned(), to.to_owned());
        change.clone().apply(&mut state.names);
        state.changes.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, fails) = self.step(Class::Name, path)?;
        if fails {
            return Err(fault());
        }
        if state.names.remove(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.changes.push(Change::Removed(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, fails) = self.step(Class::Sync, dir)?;
        if fails {
            return Err(fault());
        }
        if state.off {
            return Err(power_is_off());
        }
        if state.lies_about(dir) {
            return Ok(());
        }
        let dir = if dir == Path::new(".") { Path::new("") } else { dir };
        let (stored, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.changes).into_iter().partition(|change| change.is_in(dir));
        state.changes = rest;
        for change in stored {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }
}

impl LyingDisk {
    fn file(&self, id: usize, path: &Path) -> Arc<dyn File> {
        Arc::new(LyingFile { disk: self.clone(), id, path: path.to_owned() })
    }
}

struct LyingFile {
    disk: LyingDisk,
    id: usize,
    path: PathBuf,
}

impl LyingFile {
    /// A step that changes the file.
    fn change(&self, class: Class, change: impl FnOnce(&mut Node, u64, bool, &mut Random)) -> io::Result<()> {
        let (mut state, fails) = self.disk.step(class, &self.path)?;
        let state = &mut *state;
        if let Some(node) = state.nodes.get_mut(&self.id) {
            change(node, state.steps, fails, &mut state.random);
            state.trace = state.trace.rotate_left(7) ^ node.content().len() as u64;
        }
        match (fails, class) {
            _ if state.off => Err(power_is_off()),
            (true, Class::Space) => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            (true, _) => Err(fault()),
            (false, _) => Ok(()),
        }
    }

    fn look<R>(&self, look: impl FnOnce(&[u8]) -> io::Result<R>) -> io::Result<R> {
        let (state, fails) = self.disk.step(Class::Read, &self.path)?;
        if fails {
            return Err(fault());
        }
        look(state.nodes.get(&self.id).map_or(&[], Node::content))
    }

    /// Whether a change up to `end` needs space.
    fn class(&self, end: u64) -> Class {
        let state = self.disk.state();
        let len = state.nodes.get(&self.id).map_or(0, |node| node.content().len());
        if end > len as u64 { Class::Space } else { Class::Write }
    }
}

impl File for LyingFile {
    fn len(&self) -> io::Result<u64> {
        self.look(|content| Ok(content.len() as u64))
    }

    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        self.look(|content| {
            let from = position as usize;
            let found = content.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(found);
            Ok(())
        })
    }

    fn write_all_at(&self, data: &[u8], position: u64) -> io::Result<()> {
        let class = self.class(position + data.len() as u64);
        self.change(class, |node, when, fails, random| {
            // A write that fails is a short one.
            let n = if fails { random.below(data.len()) } else { data.len() };
            if n > 0 {
                node.write(&data[..n], position as usize, when);
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let lies = {
            let state = self.disk.state();
            let path = state.path_of(self.id).map_or_else(|| self.path.clone(), Path::to_owned);
            state.lies_about(&path)
        };
        self.change(Class::Sync, |node, _, fails, random| match fails {
            _ if lies => {}
            true => node.fail_sync(random),
            false => node.sync(),
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Class::Write, |node, when, fails, _| {
            if !fails {
                node.set_len(len as usize, when);
            }
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(self.class(len), |node, when, fails, _| {
            if !fails && len as usize > node.content().len() {
                node.set_len(len as usize, when);
            }
        })
    }

    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
        self.write_all_at(&vec![0; len as usize], position)
    }
}
