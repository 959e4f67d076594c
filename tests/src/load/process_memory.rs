//! What processes take of the memory, as Linux counts it (`proc_pid_status(5)`).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::harness::wait::within;

/// Resident memory, in KiB.
///
/// # Panics
/// The process has ended.
pub fn resident_kib(process_id: u32) -> u64 {
    status_kib(process_id, "VmRSS:").unwrap_or_else(|| panic!("process {process_id} has ended"))
}

/// The most that was resident since the process started, or since [`forget_peak`], in KiB.
///
/// # Panics
/// The process has ended.
pub fn peak_kib(process_id: u32) -> u64 {
    status_kib(process_id, "VmHWM:").unwrap_or_else(|| panic!("process {process_id} has ended"))
}

/// Lets the peak begin anew with what is resident now.
///
/// # Panics
/// The system does not allow it.
pub fn forget_peak(process_id: u32) {
    fs::write(format!("/proc/{process_id}/clear_refs"), "5").unwrap();
}

/// The memory of a process without the pages of files that it maps, which the system takes back when it needs them.
/// Clones measure the same.
#[derive(Debug, Clone)]
pub struct OwnMemory {
    process_id: u32,
    /// What was mapped at the last measurement.
    mapped_kib: Arc<AtomicU64>,
}

impl OwnMemory {
    /// Begins to measure.
    ///
    /// # Panics
    /// The process has ended.
    pub fn new(process_id: u32) -> Self {
        let own = Self {
            process_id,
            mapped_kib: Arc::default(),
        };
        own.peak_kib()
            .unwrap_or_else(|| panic!("process {process_id} has ended"));
        own
    }

    /// The most since the last call, in KiB, and what was mapped or given back meanwhile. `None`: the process has
    /// ended.
    pub fn peak_kib(&self) -> Option<u64> {
        let [peak, mapped] = ["VmHWM:", "RssFile:"].map(|name| status_kib(self.process_id, name));
        let mapped = mapped?;
        let before = self.mapped_kib.swap(mapped, Ordering::Relaxed);
        fs::write(format!("/proc/{}/clear_refs", self.process_id), "5").ok()?;
        Some(peak?.saturating_sub(mapped.min(before)))
    }
}

/// Resident memory of the children of a process together, in KiB, and how many they are.
///
/// # Panics
/// The processes cannot be listed.
pub fn children_kib(process_id: u32) -> (u64, usize) {
    let names = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let children: Vec<u64> = names
        .filter_map(|name| name.parse().ok())
        .filter(|id| status_number(*id, "PPid:") == Some(process_id.into()))
        // One that has just ended has none.
        .filter_map(|id| status_kib(id, "VmRSS:"))
        .collect();
    (children.iter().sum(), children.len())
}

/// Finds a running program by its name and a part of its arguments.
///
/// # Panics
/// There is none.
pub fn running_with_argument(program: &str, part: &str) -> u32 {
    let ids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_it = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut arguments = line.split('\0');
        arguments.next().is_some_and(|path| path.ends_with(program))
            && arguments.any(|argument| argument.contains(part))
    };
    ids.into_iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {program} runs with {part}"))
}

/// Waits until a process takes no more memory than a second before, and returns how much, in KiB.
///
/// # Panics
/// It does not come to rest within a minute.
pub async fn at_rest_kib(process_id: u32) -> u64 {
    let mut before = 0;
    let mut rounds = 0;
    within(Duration::from_secs(60), "the process is at rest", async || {
        let resident = resident_kib(process_id);
        rounds = if resident > before { 0 } else { rounds + 1 };
        before = before.max(resident);
        rounds > 100
    })
    .await;
    before
}

/// What `/proc` says of a process under a name such as `VmRSS:`, in KiB. `None`: it has ended.
pub fn status_kib(process_id: u32, name: &str) -> Option<u64> {
    status_number(process_id, name)
}

fn status_number(process_id: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
