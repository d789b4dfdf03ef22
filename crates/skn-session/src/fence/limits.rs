//! What a reader may use.

use std::io;

#[cfg(unix)]
use rlimit::Resource;

/// What errors call the limits that a child sets itself.
pub(super) const LIMITS: &str = "limits of processor time and memory";

/// Processor time for `bytes` bytes of files: 2 s, and 1 s for each 20 MB.
pub(super) fn seconds(bytes: u64) -> u64 {
    2 + bytes.div_ceil(20_000_000)
}

/// Memory for a data file of `bytes` bytes as they are when unpacked, of which `most` count.
pub(super) fn data_memory(bytes: u64, most: u64) -> u64 {
    (64 << 20) + bytes.min(most).saturating_mul(8).min(u64::MAX >> 1)
}

/// Processor time and memory for a tokenizer of `bytes` bytes. What they unpack to is its tables, which are about six
/// times as large: one of 250,000 pieces, as XLM-RoBERTa has, must pass.
pub(super) fn of_tokenizer(bytes: u64) -> (u64, u64) {
    let tables = bytes.saturating_mul(6);
    (seconds(tables), data_memory(tables, u64::MAX))
}

/// The limits of this process, beyond what it had when they began.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of address space: the program itself, more than anything.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux says what is taken"))]
    taken: Option<u64>,
}

impl Limits {
    /// The smallest limits; and the process never leaves a core file.
    pub(super) fn begin() -> io::Result<Self> {
        #[cfg(unix)]
        limit(Resource::CORE, 0)?;
        let limits = Self { taken: taken() };
        limits.set(seconds(0), data_memory(0, 0))?;
        Ok(limits)
    }

    /// Other limits, counted from now.
    pub(super) fn again(&mut self, seconds: u64, memory: u64) -> io::Result<()> {
        self.taken = taken();
        self.set(seconds, memory)
    }

    /// Other limits: seconds of processor time and bytes of memory.
    pub(super) fn set(&self, seconds: u64, memory: u64) -> io::Result<()> {
        #[cfg(unix)]
        limit(Resource::CPU, seconds)?;
        #[cfg(target_os = "linux")]
        if let Some(taken) = self.taken {
            limit(Resource::AS, taken.saturating_add(memory))?;
        }
        #[cfg(not(unix))]
        let _ = (seconds, memory);
        Ok(())
    }
}

/// Bytes of address space that this process has, where the system says so.
pub(crate) fn taken() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of address space that this process may have, where there is such a limit.
pub(crate) fn address_space() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return Resource::AS.get_soft().ok().filter(|&most| most != rlimit::INFINITY);
    #[cfg(not(target_os = "linux"))]
    None
}

/// Sets a limit, or the strictest that the system lets us have.
#[cfg(unix)]
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let most = resource.get_hard()?;
    resource.set(value.min(most), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_files() {
        assert_eq!((seconds(0), seconds(1), seconds(20_000_000), seconds(20_000_001)), (2, 3, 3, 4));
        assert_eq!(data_memory(1000, 4000), (64 << 20) + 8000);
        assert_eq!(data_memory(u64::MAX, 4000), (64 << 20) + 32000);
        assert!(data_memory(u64::MAX, u64::MAX) > 1 << 62);
    }
}
