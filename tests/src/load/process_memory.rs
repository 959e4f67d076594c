//! What processes take of the memory, as Linux counts it (`proc_pid_status(5)`).

use std::fs;
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
